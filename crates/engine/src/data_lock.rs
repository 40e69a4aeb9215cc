//! The lock on the data file itself, beside that on the lock file.
//!
//! The lock file keeps away, as for stock ZODB, whoever goes by the same name. A link is another
//! name of the same file: at the file itself all meet. It is held by a file of its own, so that
//! who still reads a closed storage holds no lock.

use std::path::Path;
use std::sync::Arc;

use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::store::Store;

/// What keeps other writers away until it is dropped.
#[derive(Clone, Debug)]
pub(crate) struct Locks {
    /// The lock file, which stock ZODB locks, too.
    pub(crate) lock_file: Arc<dyn File>,
    /// The data file, of which a pack makes another one.
    pub(crate) data: Arc<dyn File>,
}

impl Store {
    /// Was the process forked from the one that opened the storage?
    ///
    /// Both have the locks then, which keep neither from the file. Memory is each one's own.
    pub(crate) fn is_forked(&self) -> bool {
        self.disk().process() != self.process && !self.disk().is_volatile()
    }

    /// Refuse to write in a process that was forked from the one that opened the storage.
    pub(crate) fn check_process(&self) -> Result<()> {
        if self.is_forked() {
            return Err(Error::Forked {
                path: self.path().to_owned(),
                opener: self.process,
            });
        }
        Ok(())
    }

    /// Hold no lock for the process that opened the storage: it may end before this one, which was
    /// forked from it.
    pub fn forked(&self) {
        if self.is_forked() {
            self.commit_lock.unlock_forked();
        }
    }
}

/// Lock the data file at `path`: what holds the lock, which is for nothing else.
pub(crate) fn take(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn File>> {
    let error = |source| Error::io("locking", path, source);
    let held = disk.open(path, Access::Write).map_err(error)?;
    if held.try_lock().map_err(error)? {
        Ok(held)
    } else {
        Err(locked(path))
    }
}

/// Lock the data file at `path` and open it: what holds the lock, and the file.
pub(crate) fn open_locked(disk: &dyn Disk, path: &Path) -> Result<(Arc<dyn File>, Arc<dyn File>)> {
    let held = take(disk, path)?;
    let error = |source| Error::io("opening", path, source);
    let file = disk.open(path, Access::Write).map_err(error)?;
    if held.identity().map_err(error)? == file.identity().map_err(error)? {
        Ok((held, file))
    } else {
        // What was locked had been let go of by a pack, which holds what took its place.
        Err(locked(path))
    }
}

fn locked(path: &Path) -> Error {
    Error::Locked {
        path: path.to_owned(),
        holder: None,
    }
}
