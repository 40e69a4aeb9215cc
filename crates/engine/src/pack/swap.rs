//! Putting the packed file in place of the old one.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::{Packed, Turn};
use crate::checksums::PackedSums;
use crate::commit_lock::CommitGuard;
use crate::data_lock;
use crate::disk::Access;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::index::Index;
use crate::rebuild::Entries;
use crate::saved_index::{self, with_suffix};
use crate::scan;
use crate::store::Store;

/// How long one wait for the commit lock lasts.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// A file that is to be put in place of the data file.
pub(super) struct PackedFile {
    pub(super) path: PathBuf,
    /// The file under the data file's name, with its index.
    pub(super) generation: Generation,
    pub(super) end: u64,
    /// Its checksums, on the device.
    pub(super) sums: Option<PackedSums>,
}

impl Store {
    /// Put the file that somebody else packed, with the suffix `.pack`, in place of the data file.
    ///
    /// # Errors
    /// Where it is no whole data file, or does not hold the last transaction, or the storage takes
    /// no writes; it is left there.
    pub fn adopt_packed(self: &Arc<Self>, keep_old: bool) -> Result<Packed> {
        self.check_writable()?;
        let _turn = Turn::take(self)?;
        let _guard = self.take_commit_lock();
        self.settle()?;
        let path = with_suffix(self.path(), ".pack");
        let error = |source| Error::io("opening", &path, source);
        let file = self.disk().open(&path, Access::Write).map_err(error)?;
        let mut entries = Entries::default();
        let scanned = scan::scan(&file, &path, scan::Range::default(), &mut entries)?;
        if scanned.stop.is_some() || scanned.last_tid != self.last_transaction() {
            let reason = format!(
                "{} does not end with the last transaction, {}; pack again when nothing is \
                 committed meanwhile",
                path.display(),
                self.last_transaction()
            );
            return Err(Error::Pack { reason });
        }
        file.sync().map_err(error)?;
        let index = Index::of(entries.into_found());
        let generation = Generation::new(file, self.path(), index);
        let end = scanned.end;
        let packed = self.swap(
            PackedFile {
                path,
                generation,
                end,
                sums: None,
            },
            keep_old,
        )?;
        self.save_packed_index();
        Ok(packed)
    }

    /// Save the index of the file that was put in place, and keep it in memory no longer.
    pub(super) fn save_packed_index(&self) {
        // The index only saves time.
        if self.save_index().is_ok() {
            let generation = self.generation();
            let path = &generation.path;
            if let Some(base) = saved_index::load(self.disk().as_ref(), path, &*generation.file) {
                generation.index.replace_base(base);
            }
        }
    }

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
    pub(super) fn swap(&self, packed: PackedFile, keep_old: bool) -> Result<Packed> {
        let path = self.path().to_owned();
        let error = |source| Error::io("replacing", &path, source);
        let disk = self.disk();
        // Whoever waits for the old file's lock finds the new one's taken.
        let held = data_lock::take(disk.as_ref(), &packed.path)?;
        // They tell positions in the old file. Without them, the next open scans.
        self.checksums.forget().map_err(error)?;
        for index in [saved_index::path_of(&path), with_suffix(&path, ".index")] {
            remove_if_there(self, &index).map_err(error)?;
        }
        if keep_old {
            let old = with_suffix(&path, ".old");
            remove_if_there(self, &old).map_err(error)?;
            disk.link(&path, &old).map_err(error)?;
        }
        disk.sync_directory_of(&path).map_err(error)?;
        disk.rename(&packed.path, &path).map_err(error)?;
        self.commit_lock.hold(held);
        let (bytes_before, objects_before) = (self.size_bytes(), self.object_count());
        self.replace_generation(packed.generation, packed.end);
        // From here on, the new file is the database. If it is unknown whether its name is on the
        // device, nothing may be committed to it.
        disk.sync_directory_of(&path).map_err(|source| {
            self.publication.fail(&source.to_string());
            error(source)
        })?;
        if let Some(sums) = packed.sums {
            // Where they cannot be put in place, the next vote begins new ones.
            let _ = self.checksums.adopt(sums);
        }
        Ok(Packed {
            bytes_before,
            bytes_after: packed.end,
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
