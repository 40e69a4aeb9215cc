//! Putting the packed file in place of the old one.

use std::io;
use std::time::Duration;

use super::Packed;
use super::copy::Copier;
use crate::commit_lock::CommitGuard;
use crate::error::{Error, Result};
use crate::saved_index::{self, with_suffix};
use crate::store::Store;

/// How long one wait for the commit lock lasts.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

impl Store {
    /// Wait for the commit lock as long as it takes.
    pub(super) fn take_commit_lock(&self) -> CommitGuard {
        loop {
            if let Some(guard) = self.commit_lock.acquire(LOCK_PATIENCE) {
                return guard;
            }
        }
    }

    /// Rename the new file over the old one and read from it from now on.
    ///
    /// The new file is synced, and holds everything; the commit lock is held. Killed at any point,
    /// the data file's name stands for the old or the new database, never for none.
    pub(super) fn swap(&self, copier: &mut Copier, keep_old: bool) -> Result<Packed> {
        let path = self.path().to_owned();
        let error = |source| Error::io("replacing", &path, source);
        let disk = self.disk();
        // They tell positions in the old file. Without them, the next open scans.
        for index in [saved_index::path_of(&path), with_suffix(&path, ".index")] {
            remove_if_there(self, &index).map_err(error)?;
        }
        if keep_old {
            let old = with_suffix(&path, ".old");
            remove_if_there(self, &old).map_err(error)?;
            disk.link(&path, &old).map_err(error)?;
        }
        disk.sync_directory_of(&path).map_err(error)?;
        disk.rename(copier.path(), &path).map_err(error)?;
        let (end, last_tid) = (copier.end(), copier.last_tid());
        let (bytes_before, objects_before) = (self.size_bytes(), self.object_count());
        self.replace_generation(copier.take_target(&path), end);
        debug_assert!(
            last_tid <= self.last_transaction(),
            "a pack invented a transaction"
        );
        // From here on, the new file is the database. If it is unknown whether its name is on the
        // device, nothing may be committed to it.
        disk.sync_directory_of(&path).map_err(|source| {
            self.publication.fail(&source.to_string());
            error(source)
        })?;
        Ok(Packed {
            bytes_before,
            bytes_after: end,
            objects_before,
            objects_after: self.object_count(),
        })
    }
}

fn remove_if_there(store: &Store, path: &std::path::Path) -> io::Result<()> {
    match store.disk().remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
