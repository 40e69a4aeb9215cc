//! The files of blobs: moved to where they belong, and waited for until they are on the device.
//!
//! These are whole files beside the data file, and reached without [`crate::disk`]: what is done
//! to them is tested with system calls that fail.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// How often a directory is made again that somebody else removes.
const TRIES: usize = 100;

const SYNCS_AT_ONCE_MAX: usize = 16;

/// A sync that takes longer has waited for a device: threads cost less than waiting for each.
const SLOW: Duration = Duration::from_micros(200);

/// What failed, and at which path.
pub type PathError = (PathBuf, io::Error);

/// What is known of the directories that blobs' files are put into.
#[derive(Debug, Default)]
pub struct BlobFiles {
    /// Directories that were made here, and whose names a power loss could still take away; with
    /// a number for each time that one was made.
    fresh: Mutex<HashMap<PathBuf, usize>>,
    made: AtomicUsize,
    /// Did a sync wait for the device when it was last tried alone?
    waits: AtomicBool,
}

impl BlobFiles {
    fn fresh(&self) -> MutexGuard<'_, HashMap<PathBuf, usize>> {
        self.fresh.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Make a directory, and those above it, where they aren't there.
    ///
    /// A power loss can take it away until [`BlobFiles::make_safe`] was called for it.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn make(&self, directory: &Path) -> Result<(), PathError> {
        if directory.is_dir() {
            return Ok(());
        }
        // Before it is there, or another thread could find it and take it for safe.
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        self.fresh().insert(directory.to_owned(), number);
        match (fs::create_dir(directory), directory.parent()) {
            (Ok(()), _) => Ok(()),
            (Err(error), _) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            (Err(error), Some(parent)) if error.kind() == io::ErrorKind::NotFound => {
                self.make(parent)?;
                self.make(directory)
            }
            (Err(error), _) => Err((directory.to_owned(), error)),
        }
    }

    /// Move files to where they belong, and take writing from their permissions; their number.
    ///
    /// It is less than that of `moves` where the next one can't be renamed, for any reason but a
    /// directory that isn't there yet. A power loss can take the files away until
    /// [`BlobFiles::make_safe`] was called for them.
    ///
    /// # Errors
    /// What the operating system reports of directories and permissions.
    pub fn place(&self, moves: &[(PathBuf, PathBuf)]) -> Result<usize, PathError> {
        for (number, (from, to)) in moves.iter().enumerate() {
            let directory = to.parent().unwrap_or(to);
            let mut tries = 0;
            while let Err(error) = fs::rename(from, to) {
                // A pack may just have removed the directory, which was empty.
                if error.kind() != io::ErrorKind::NotFound || tries == TRIES {
                    return Ok(number);
                }
                if !from.exists() {
                    return Err((from.clone(), error));
                }
                self.make(directory)?;
                tries += 1;
            }
            protect(to, directory).map_err(|error| (to.clone(), error))?;
        }
        Ok(moves.len())
    }

    /// Wait until files, and the names that lead to them and to directories, are on the device.
    ///
    /// # Errors
    /// What the operating system reports; then nothing may rely on them.
    pub fn make_safe(&self, files: &[PathBuf], directories: &[PathBuf]) -> Result<(), PathError> {
        let mut paths: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
        let mut names: Vec<&Path> = files.iter().filter_map(|file| file.parent()).collect();
        let mut made = HashMap::new();
        {
            let fresh = self.fresh();
            let mut up: Vec<&Path> = names.clone();
            up.extend(directories.iter().map(PathBuf::as_path));
            for mut path in up {
                while let Some(number) = fresh.get(path)
                    && made.insert(path, *number).is_none()
                    && let Some(parent) = path.parent()
                {
                    path = parent;
                    names.push(path);
                }
            }
        }
        names.sort_unstable();
        names.dedup();
        paths.append(&mut names);
        self.sync_all(&paths)?;
        let mut fresh = self.fresh();
        for (path, number) in made {
            if fresh.get(path) == Some(&number) {
                fresh.remove(path);
            }
        }
        Ok(())
    }

    /// Sync each path: one after the other, or, where that takes time, several at once.
    ///
    /// A file system writes its journal once for all that wait for it, and otherwise once for each.
    fn sync_all(&self, paths: &[&Path]) -> Result<(), PathError> {
        let mut rest = paths;
        while let Some((path, others)) = rest.split_first()
            && (others.is_empty() || !self.waits.load(Ordering::Relaxed))
        {
            self.sync_timed(path)?;
            rest = others;
        }
        let next = AtomicUsize::new(0);
        let each = || {
            while let Some(path) = rest.get(next.fetch_add(1, Ordering::Relaxed)) {
                self.sync_timed(path)?;
            }
            Ok(())
        };
        thread::scope(|scope| {
            // Fewer where no more threads can be had; this one is there in any case.
            let helpers: Vec<_> = (1..SYNCS_AT_ONCE_MAX.min(rest.len()))
                .map_while(|_| thread::Builder::new().spawn_scoped(scope, each).ok())
                .collect();
            let mut result = each();
            for helper in helpers {
                let helped = helper
                    .join()
                    .unwrap_or_else(|_panic| Err((PathBuf::new(), io::ErrorKind::Other.into())));
                result = result.and(helped);
            }
            result
        })
    }

    fn sync_timed(&self, path: &Path) -> Result<(), PathError> {
        let began = Instant::now();
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(|error| (path.to_owned(), error))?;
        self.waits.store(began.elapsed() > SLOW, Ordering::Relaxed);
        Ok(())
    }
}

/// Take writing from a file's permissions, and give it its directory's reading.
fn protect(path: &Path, directory: &Path) -> io::Result<()> {
    let own = path.symlink_metadata()?.permissions().mode() & 0o7777;
    let reading = directory.symlink_metadata()?.permissions().mode() & 0o444;
    fs::set_permissions(path, fs::Permissions::from_mode(own & !0o222 | reading))
}
