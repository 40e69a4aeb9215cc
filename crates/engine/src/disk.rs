//! The one border through which the engine reaches files.
//!
//! Every read, write, sync, rename and removal goes through [`Disk`] and [`File`], so that the
//! tests can run the engine on a disk that fails, tears and forgets.

mod memory;
mod os;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use memory::{MemoryDisk, MemoryFile};
pub use os::OsDisk;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// An existing file, for reading only.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A file that must not exist yet, for reading and writing.
    Create,
}

/// A file with positioned reads and writes.
pub trait File: Debug + Send + Sync {
    /// Read at `offset` until `buffer` is full or the file ends; the number of bytes read.
    ///
    /// # Errors
    /// What the operating system reports.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// As [`File::read_at`], but only where that takes no waiting for a device; else none.
    ///
    /// # Errors
    /// What the operating system reports.
    fn read_at_once(&self, buffer: &mut [u8], offset: u64) -> io::Result<Option<usize>> {
        self.read_at(buffer, offset).map(Some)
    }

    /// Write the whole of `bytes` at `offset`.
    ///
    /// # Errors
    /// What the operating system reports; part of the bytes may have been written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Wait until what was written is on the device.
    ///
    /// # Errors
    /// What the operating system reports; what is on the device is then unknown.
    fn sync(&self) -> io::Result<()>;

    /// The length in bytes.
    ///
    /// # Errors
    /// What the operating system reports.
    fn len(&self) -> io::Result<u64>;

    /// Is the file empty?
    ///
    /// # Errors
    /// What the operating system reports.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Cut the file off after `len` bytes.
    ///
    /// # Errors
    /// What the operating system reports.
    fn truncate(&self, len: u64) -> io::Result<()>;

    /// Take the lock that one process at a time can hold on the file; whether it was free.
    ///
    /// # Errors
    /// What the operating system reports.
    fn try_lock(&self) -> io::Result<bool>;

    /// What tells the file from all others that are there, whatever their names.
    ///
    /// # Errors
    /// What the operating system reports.
    fn identity(&self) -> io::Result<(u64, u64)>;
}

/// A file system.
pub trait Disk: Debug + Send + Sync {
    /// Open a file.
    ///
    /// # Errors
    /// What the operating system reports.
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>>;

    /// Make a file on the disk of `beside` that has no name, and is gone when it is let go of.
    ///
    /// # Errors
    /// `Unsupported` where there are none; else what the operating system reports.
    fn nameless(&self, beside: &Path) -> io::Result<Arc<dyn File>> {
        let _ = beside;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Give a file another name, replacing the file that has it.
    ///
    /// # Errors
    /// What the operating system reports.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Give a file a second name, which must be free.
    ///
    /// # Errors
    /// What the operating system reports.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Remove a file.
    ///
    /// # Errors
    /// What the operating system reports.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Is there a file of this name?
    ///
    /// # Errors
    /// What the operating system reports.
    fn exists(&self, path: &Path) -> io::Result<bool>;

    /// Wait until what was written to each of some files is on the device.
    ///
    /// # Errors
    /// What the operating system reports; what is on the device is then unknown.
    fn sync_together(&self, files: &[&dyn File]) -> io::Result<()> {
        files.iter().try_for_each(|file| file.sync())
    }

    /// The process that this is: another one after a fork.
    fn process(&self) -> u32 {
        std::process::id()
    }

    /// Is nothing left of the files when the process ends?
    fn is_volatile(&self) -> bool {
        false
    }

    /// Wait until the names in the directory of `path` are on the device.
    ///
    /// # Errors
    /// What the operating system reports.
    fn sync_directory_of(&self, path: &Path) -> io::Result<()>;
}

/// Read exactly as many bytes as `buffer` holds.
///
/// # Errors
/// `UnexpectedEof` where the file ends before; else what the operating system reports.
pub fn read_exact_at(file: &dyn File, buffer: &mut [u8], offset: u64) -> io::Result<()> {
    if file.read_at(buffer, offset)? == buffer.len() {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
