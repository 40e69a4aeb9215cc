//! The checksums of a file that a pack writes, and those of the file that it reads.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use perdure_format::Tid;
use perdure_format::checksums::{ENTRY_HEAD_LEN, Entry, FIRST_ENTRY, Mark, header_sum};
use perdure_format::file::{FIRST_TRANSACTION, TRAILER_LEN, TransactionHeader};

use super::{Checksums, Finished, path_of};
use crate::disk::{Access, Disk, File};
use crate::error::Result;
use crate::saved_index::with_suffix;
use crate::scan::Window;

/// What the name of a new checksum file ends with until it is put in place.
const SUFFIX: &str = "_pack";
/// How much is collected before it is written.
const BUFFER_BYTES_MAX: usize = 1 << 16;

/// Checksums of a data file that is being written, to be put in place with it.
pub(crate) struct PackedSums {
    path: PathBuf,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    written: u64,
    finished: Finished,
    mark: Mark,
}

impl Checksums {
    /// Begin the checksums of a new data file; none where none are kept.
    pub(crate) fn packing(&self) -> io::Result<Option<PackedSums>> {
        if self.keeper.is_none() {
            return Ok(None);
        }
        let path = with_suffix(&self.path, SUFFIX);
        if self.disk.exists(&path)? {
            self.disk.remove(&path)?;
        }
        let file = self.disk.open(&path, Access::Create)?;
        Ok(Some(PackedSums {
            path,
            file,
            buffer: Vec::new(),
            written: FIRST_ENTRY,
            finished: Finished::unknown(FIRST_TRANSACTION, Tid::ZERO),
            mark: Mark::default(),
        }))
    }

    /// Forget the checksums of a new data file.
    pub(crate) fn discard_packed(&self) {
        // What cannot be removed now is removed before the next pack.
        let _ = self.disk.remove(&with_suffix(&self.path, SUFFIX));
    }

    /// Note in new checksums that this session goes on with them. Under the commit lock.
    pub(crate) fn mark_packed(&self, sums: &mut PackedSums) -> io::Result<()> {
        let Some(keeper) = self.keeper() else {
            return Ok(());
        };
        let session = keeper.file.as_ref().map_or(0, |_| keeper.mark.session);
        sums.mark = Mark {
            sequence: keeper.mark.sequence + 1,
            session,
            data_end: sums.finished.data_end,
            last_tid: sums.finished.last_tid,
            entries_end: sums.finished.entries_end,
            anchors: sums.finished.anchors.clone(),
        };
        sums.flush()?;
        sums.file.write_at(&sums.mark.to_bytes(), sums.mark.place())
    }

    /// Use the checksums of the data file that was just put in place; they are on the device.
    pub(crate) fn adopt(&self, sums: PackedSums) -> io::Result<()> {
        let Some(mut keeper) = self.keeper() else {
            return Ok(());
        };
        self.disk.rename(&sums.path, &self.path)?;
        self.disk.sync_directory_of(&self.path)?;
        keeper.file = (sums.mark.session != 0).then_some(sums.file);
        keeper.belongs = true;
        keeper.mark = sums.mark;
        keeper.finished = sums.finished;
        Ok(())
    }
}

impl PackedSums {
    /// Add those of a transaction that stands at `start` in the new file, and begins with `front`:
    /// its header with its strings.
    pub(crate) fn add(
        &mut self,
        header: &TransactionHeader,
        front: &[u8],
        record_sums: Vec<u32>,
        start: u64,
    ) -> io::Result<()> {
        let entry = Entry {
            session: 0,
            position: start,
            len: header.length + TRAILER_LEN,
            tid: header.tid,
            durable: start,
            header_sum: header_sum(front),
            record_sums,
        };
        let bytes = entry.to_bytes();
        if bytes.len() < BUFFER_BYTES_MAX {
            self.buffer.extend_from_slice(&bytes);
        } else {
            self.flush()?;
            self.file.write_at(&bytes, self.written)?;
            self.written += bytes.len() as u64;
        }
        let entries_end = self.written + self.buffer.len() as u64;
        let end = entry.end();
        self.finished
            .push(start, end, header.tid, header.status, entries_end);
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.buffer, self.written)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// The file, to be synced with the data.
    pub(crate) fn file(&self) -> &dyn File {
        self.file.as_ref()
    }
}

/// Where the checksums of the file that a pack reads stand.
#[derive(Clone)]
pub(crate) struct KnownSums {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    /// The place of the first entry that was not asked for yet.
    at: u64,
}

impl KnownSums {
    /// Those of a data file; there may be none.
    pub(crate) fn of(disk: &dyn Disk, data: &Path) -> Self {
        let path = path_of(data);
        let is_kept = !disk.is_volatile();
        let file = is_kept.then(|| disk.open(&path, Access::Read).ok());
        Self {
            path,
            file: file.flatten(),
            at: FIRST_ENTRY,
        }
    }

    /// Read on from where reading ended.
    pub(crate) fn read(&self) -> SumsReader<'_> {
        SumsReader {
            window: self.file.as_ref().map(|file| Window::new(file, &self.path)),
            at: self.at,
            next: None,
        }
    }

    /// Note where reading ended.
    pub(crate) fn go_on_at(&mut self, place: u64) {
        self.at = place;
    }
}

/// Reads checksums in the order of the transactions.
pub(crate) struct SumsReader<'a> {
    window: Option<Window<'a>>,
    at: u64,
    /// The entry at that place, and its length.
    next: Option<(Entry, u64)>,
}

impl SumsReader<'_> {
    /// Where the next entry stands.
    pub(crate) fn place(&self) -> u64 {
        self.at
    }

    /// The sums of the records of the transaction at a position, where they are known.
    pub(crate) fn of_records(
        &mut self,
        position: u64,
        header: &TransactionHeader,
    ) -> Result<Option<Vec<u32>>> {
        while let Some(entry) = self.next_before(position + 1)? {
            let is_it = entry.tid == header.tid && entry.end() == position + header.length + 8;
            if entry.position == position && is_it {
                return Ok(Some(entry.record_sums));
            }
        }
        Ok(None)
    }

    /// The next entry, where it is of a transaction that begins before a position.
    pub(crate) fn next_before(&mut self, position: u64) -> Result<Option<Entry>> {
        let Some((entry, len)) = self.peek()? else {
            return Ok(None);
        };
        if entry.position >= position {
            self.next = Some((entry, len));
            return Ok(None);
        }
        self.at += len;
        Ok(Some(entry))
    }

    /// The entry at the place, passing over what is none.
    fn peek(&mut self) -> Result<Option<(Entry, u64)>> {
        if let Some(next) = self.next.take() {
            return Ok(Some(next));
        }
        let Some(window) = &mut self.window else {
            return Ok(None);
        };
        loop {
            let head = window.at(self.at, ENTRY_HEAD_LEN)?;
            if head.len() < ENTRY_HEAD_LEN {
                return Ok(None);
            }
            if let Some(len) = Entry::len_of(head)
                && let Some(entry) = Entry::parse(window.at(self.at, len)?)
            {
                window.shrink();
                return Ok(Some((entry, len as u64)));
            }
            // Entries begin at multiples of four.
            self.at += 4;
        }
    }
}
