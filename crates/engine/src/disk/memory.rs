//! Files in memory: what a database without a disk is kept in.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use super::{Access, Disk, File};

/// Growing by chunks, a file is never copied as a whole and a reader waits for one chunk at most.
const CHUNK_LEN: usize = 1 << 18;

/// A file in memory.
#[derive(Debug, Default)]
pub struct MemoryFile {
    /// Guards the content. A leaf: nothing else is taken while it is held.
    content: RwLock<Content>,
    locked: AtomicBool,
}

#[derive(Debug, Default)]
struct Content {
    chunks: Vec<Vec<u8>>,
    len: usize,
}

impl MemoryFile {
    /// A file with this content.
    #[must_use]
    pub fn holding(bytes: &[u8]) -> Self {
        let file = Self::default();
        let mut content = file.content.write().unwrap_or_else(PoisonError::into_inner);
        content.write(bytes, 0);
        drop(content);
        file
    }
}

impl Content {
    fn read(&self, buffer: &mut [u8], offset: usize) -> usize {
        let count = buffer.len().min(self.len.saturating_sub(offset));
        let mut done = 0;
        while done < count {
            let (chunk, within) = ((offset + done) / CHUNK_LEN, (offset + done) % CHUNK_LEN);
            let part = (CHUNK_LEN - within).min(count - done);
            let source = self
                .chunks
                .get(chunk)
                .and_then(|chunk| chunk.get(within..within + part));
            if let (Some(source), Some(target)) = (source, buffer.get_mut(done..done + part)) {
                target.copy_from_slice(source);
            }
            done += part;
        }
        count
    }

    fn write(&mut self, bytes: &[u8], offset: usize) {
        self.resize(self.len.max(offset + bytes.len()));
        let mut done = 0;
        while done < bytes.len() {
            let (chunk, within) = ((offset + done) / CHUNK_LEN, (offset + done) % CHUNK_LEN);
            let part = (CHUNK_LEN - within).min(bytes.len() - done);
            let target = self
                .chunks
                .get_mut(chunk)
                .and_then(|c| c.get_mut(within..within + part));
            if let (Some(target), Some(source)) = (target, bytes.get(done..done + part)) {
                target.copy_from_slice(source);
            }
            done += part;
        }
    }

    fn resize(&mut self, len: usize) {
        self.chunks
            .resize_with(len.div_ceil(CHUNK_LEN), || vec![0; CHUNK_LEN]);
        // What is cut off must read as zeros should the file grow again.
        if len < self.len
            && let Some(tail) = self
                .chunks
                .last_mut()
                .and_then(|c| c.get_mut(len % CHUNK_LEN..))
            && !len.is_multiple_of(CHUNK_LEN)
        {
            tail.fill(0);
        }
        self.len = len;
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = self.content.read().unwrap_or_else(PoisonError::into_inner);
        Ok(content.read(buffer, place(offset)?))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut content = self.content.write().unwrap_or_else(PoisonError::into_inner);
        content.write(bytes, place(offset)?);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self
            .content
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len as u64)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.content
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .resize(place(len)?);
        Ok(())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Ok(!self.locked.swap(true, Ordering::AcqRel))
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, std::ptr::from_ref(self).addr() as u64))
    }
}

/// A file system in memory.
#[derive(Debug, Default)]
pub struct MemoryDisk {
    /// Guards the names. Taken alone.
    files: RwLock<BTreeMap<PathBuf, Arc<MemoryFile>>>,
}

impl Disk for MemoryDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let file = match (files.get(path), access) {
            (Some(_), Access::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, Access::Read | Access::Write) => return Err(io::ErrorKind::NotFound.into()),
            (Some(file), _) => Arc::clone(file),
            (None, Access::Create) => Arc::clone(files.entry(path.to_owned()).or_default()),
        };
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        let file = files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        if files.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let file = Arc::clone(files.get(from).ok_or(io::ErrorKind::NotFound)?);
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files
            .remove(path)
            .map(drop)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self
            .files
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(path))
    }

    fn sync_directory_of(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn is_volatile(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_reads_as_what_was_written_across_chunks() {
        let file = MemoryFile::default();
        let bytes: Vec<u8> = (0..=250).cycle().take(CHUNK_LEN * 2 + 10).collect();
        file.write_at(&bytes, 5).unwrap();
        let mut back = vec![0; bytes.len()];
        assert_eq!(file.read_at(&mut back, 5).unwrap(), bytes.len());
        assert_eq!(back, bytes);
        assert_eq!(file.read_at(&mut back, file.len().unwrap()).unwrap(), 0);
    }

    #[test]
    fn what_was_cut_off_reads_as_zeros_after_growing_again() {
        let file = MemoryFile::holding(b"abcdef");
        file.truncate(2).unwrap();
        file.write_at(b"x", 4).unwrap();
        let mut back = [9; 8];
        assert_eq!(file.read_at(&mut back, 0).unwrap(), 5);
        assert_eq!(&back[..5], b"ab\0\0x");
    }

    #[test]
    fn a_disk_keeps_names_apart() {
        let disk = MemoryDisk::default();
        let (a, b) = (Path::new("a"), Path::new("b"));
        assert!(disk.open(a, Access::Write).is_err());
        disk.open(a, Access::Create)
            .unwrap()
            .write_at(b"1", 0)
            .unwrap();
        assert!(disk.open(a, Access::Create).is_err());
        disk.rename(a, b).unwrap();
        assert!(!disk.exists(a).unwrap() && disk.exists(b).unwrap());
        disk.remove(b).unwrap();
        assert!(disk.remove(b).is_err());
    }
}
