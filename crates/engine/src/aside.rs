//! Where the records of a large transaction wait for its vote: in a file that has no name.
//!
//! Nothing depends on it but memory. Where there is no such file to be had, or it takes no more,
//! records stay in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::disk::{Disk, File, read_exact_at};
use crate::error::{Error, Result};

/// How many bytes of records a transaction may have in memory before any are put aside.
const KEPT_BYTES_MAX: usize = 2 << 20;

/// How many are put aside, and written to the data file, at a time.
const PART_BYTES: usize = 1 << 18;

/// The place for what a transaction does not keep in memory.
#[derive(Debug)]
pub(crate) struct Aside {
    disk: Arc<dyn Disk>,
    beside: PathBuf,
    /// Made for the first bytes that are put aside.
    file: Option<Arc<dyn File>>,
    /// How many bytes were put aside.
    len: u64,
    /// More bytes than these are not to be in memory; none: nothing more can be put aside.
    kept_bytes_max: Option<usize>,
    part_bytes: usize,
}

impl Aside {
    /// A place on the disk of the file at `beside`.
    pub(crate) fn new(disk: Arc<dyn Disk>, beside: &Path) -> Self {
        Self {
            disk,
            beside: beside.to_owned(),
            file: None,
            len: 0,
            kept_bytes_max: Some(KEPT_BYTES_MAX),
            part_bytes: PART_BYTES,
        }
    }

    /// Keep no more than so many bytes in memory.
    pub(crate) fn keep(&mut self, bytes: usize) {
        self.kept_bytes_max = self.kept_bytes_max.map(|_| bytes);
        self.part_bytes = self.part_bytes.min(bytes);
    }

    /// How many bytes are put aside, and written to the data file, at a time.
    pub(crate) const fn part_bytes(&self) -> usize {
        self.part_bytes
    }

    /// How many bytes were put aside.
    pub(crate) const fn len(&self) -> u64 {
        self.len
    }

    /// Are so many bytes in memory enough to be put aside?
    pub(crate) fn is_due(&self, kept: usize) -> bool {
        self.kept_bytes_max.is_some_and(|most| kept > most)
    }

    /// Put bytes behind those that were put aside before; whether that was possible.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> bool {
        let put = self.write(bytes);
        if put.is_err() {
            // The vote will tell if there is no room for the transaction itself.
            self.kept_bytes_max = None;
            return false;
        }
        self.len += bytes.len() as u64;
        self.kept_bytes_max = Some(self.part_bytes);
        true
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(self.disk.nameless(&self.beside)?),
        };
        file.write_at(bytes, self.len)
    }

    /// Put other bytes in place of some that were put aside.
    ///
    /// # Errors
    /// Where the file cannot be written; it may hold part of them.
    pub(crate) fn put_over(&self, bytes: &[u8], at: u64) -> Result<()> {
        let written = match &self.file {
            Some(file) => file.write_at(bytes, at),
            None => Ok(()),
        };
        let action = "changing what a transaction has put aside, beside";
        written.map_err(|source| Error::io(action, &self.beside, source))
    }

    /// Read bytes that were put aside.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub(crate) fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let missing = || Err(std::io::ErrorKind::NotFound.into());
        let file = self.file.as_ref();
        file.map_or_else(missing, |file| read_exact_at(file.as_ref(), buffer, at))
            .map_err(|source| {
                Error::io(
                    "reading what a transaction has put aside, beside",
                    &self.beside,
                    source,
                )
            })
    }
}
