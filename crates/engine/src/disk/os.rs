//! The operating system's files.

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::{Access, Disk, File};

/// A sync that takes less is over before another thread has begun to help.
const HELP_WORTH: Duration = Duration::from_micros(60);

/// The operating system's file system.
#[derive(Debug, Default)]
pub struct OsDisk;

/// Was the last sync so fast that files are best synced one after the other?
static SYNCS_FAST: AtomicBool = AtomicBool::new(false);

#[derive(Debug)]
struct OsFile {
    file: fs::File,
    /// Has the file system said that it cannot tell whether a read would wait?
    cannot_tell: AtomicBool,
}

impl Disk for OsDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options
            .read(true)
            .write(access != Access::Read)
            .create_new(access == Access::Create);
        // What a database holds is its owner's and group's business.
        options.mode(0o660);
        Ok(Arc::new(OsFile {
            file: options.open(path)?,
            cannot_tell: AtomicBool::new(false),
        }))
    }

    fn nameless(&self, beside: &Path) -> io::Result<Arc<dyn File>> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // Nobody else is to read what isn't committed.
        let made = rustix::fs::open(directory_of(beside), flags, Mode::RUSR | Mode::WUSR)?;
        Ok(Arc::new(OsFile {
            file: made.into(),
            cannot_tell: AtomicBool::new(false),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn sync_together(&self, files: &[&dyn File]) -> io::Result<()> {
        let Some((first, others)) = files.split_first() else {
            return Ok(());
        };
        let timed = || {
            let begun = Instant::now();
            let result = first.sync();
            let fast = begun.elapsed() < HELP_WORTH;
            SYNCS_FAST.store(fast, Ordering::Relaxed);
            result
        };
        if others.is_empty() || SYNCS_FAST.load(Ordering::Relaxed) {
            return timed().and_then(|()| others.iter().try_for_each(|file| file.sync()));
        }
        thread::scope(|scope| {
            let help = |file| thread::Builder::new().spawn_scoped(scope, move || File::sync(file));
            let helpers: Vec<_> = others.iter().map(|file| (file, help(*file))).collect();
            let mut result = timed();
            for (file, helper) in helpers {
                let helped = match helper.map(thread::ScopedJoinHandle::join) {
                    Ok(Ok(helped)) => helped,
                    Ok(Err(_panic)) => Err(io::ErrorKind::Other.into()),
                    // No thread to be had: without help then.
                    Err(_) => file.sync(),
                };
                result = result.and(helped);
            }
            result
        })
    }

    fn sync_directory_of(&self, path: &Path) -> io::Result<()> {
        fs::File::open(directory_of(path))?.sync_all()
    }
}

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        fill(buffer, offset, |rest, at| {
            match self.file.read_at(rest, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(None),
                other => other.map(Some),
            }
        })
    }

    fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        if is_beyond_any_file(buffer, offset) {
            return Ok(Some(0));
        }
        if self.cannot_tell.load(Ordering::Relaxed) {
            return Ok(None);
        }
        loop {
            let into = &mut [IoSliceMut::new(buffer)];
            return match preadv2(&self.file, into, offset, ReadWriteFlags::NOWAIT) {
                Ok(read) => Ok(Some(read)),
                Err(Errno::INTR) => continue,
                // Not in the page cache.
                Err(Errno::AGAIN) => Ok(None),
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.cannot_tell.store(true, Ordering::Relaxed);
                    Ok(None)
                }
                Err(error) => Err(error.into()),
            };
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|metadata| metadata.len())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn try_lock(&self) -> io::Result<bool> {
        match self.file.try_lock() {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        let metadata = self.file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    }
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

/// Does no file reach that far? The system would refuse such a position, which damage has made.
fn is_beyond_any_file(buffer: &[u8], offset: u64) -> bool {
    i64::try_from(offset.saturating_add(buffer.len() as u64)).is_err()
}

/// Call `read` until the buffer is full or the file ends.
fn fill(
    buffer: &mut [u8],
    offset: u64,
    read: impl Fn(&mut [u8], u64) -> io::Result<Option<usize>>,
) -> io::Result<usize> {
    if is_beyond_any_file(buffer, offset) {
        return Ok(0);
    }
    let mut done = 0;
    while let Some(rest) = buffer.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match read(rest, offset + done as u64)? {
            Some(0) => break,
            Some(count) => done += count,
            None => {}
        }
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_beyond_what_a_file_can_reach() {
        let executable = std::env::current_exe().unwrap();
        let file = OsDisk.open(&executable, Access::Read).unwrap();
        for offset in [(1 << 63) - 3, 1 << 63, u64::MAX - 3, u64::MAX] {
            assert_eq!(file.read_at(&mut [0; 8], offset).unwrap(), 0);
            assert_eq!(file.read_at_once(&mut [0; 8], offset).unwrap(), Some(0));
        }
    }
}
