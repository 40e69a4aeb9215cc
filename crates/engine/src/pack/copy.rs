//! Writing the packed file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use perdure_format::file::{
    FIRST_TRANSACTION, MAGIC, RECORD_HEADER_LEN, RecordHeader, Status, TRAILER_LEN,
    TRANSACTION_HEADER_LEN, TransactionHeader,
};
use perdure_format::{Oid, Tid};

use super::swap::PackedFile;
use super::{PackMarking, PackPhase, PackWatch, report};
use crate::checksums::{KnownSums, PackedSums, SumsReader};
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::index::Index;
use crate::rebuild::Entries;
use crate::saved_index::with_suffix;
use crate::scan::Window;
use crate::store::Store;

/// How much is collected before it is written.
const BUFFER_BYTES_MAX: usize = 1 << 21;

/// Copies transactions from one data file into a new one.
pub(super) struct Copier {
    disk: Arc<dyn Disk>,
    source: Arc<Generation>,
    target: Generation,
    /// What is not written yet; it begins at `written`.
    buffer: Vec<u8>,
    written: u64,
    /// How far the source was copied.
    copied: u64,
    /// What was copied of the part up to the pack time.
    packed: Entries,
    /// The checksums of the source, and of the target.
    known: KnownSums,
    sums: Option<PackedSums>,
}

/// A transaction that is being put together for the target.
struct Outgoing {
    header: TransactionHeader,
    start: usize,
    records: Vec<(Oid, u64)>,
}

/// The known checksums of a transaction's records, one after the other.
struct Sums(std::vec::IntoIter<u32>);

impl Sums {
    fn of(known: &mut SumsReader<'_>, position: u64, header: &TransactionHeader) -> Result<Self> {
        let sums = known.of_records(position, header)?;
        Ok(Self(sums.unwrap_or_default().into_iter()))
    }

    fn next(&mut self) -> Option<u32> {
        self.0.next()
    }
}

impl Copier {
    pub(super) fn create(store: &Store, source: &Arc<Generation>) -> Result<Self> {
        let disk = Arc::clone(store.disk());
        let path = with_suffix(store.path(), ".pack");
        let error = |source| Error::io("creating", &path, source);
        if disk.exists(&path).map_err(error)? {
            disk.remove(&path).map_err(error)?;
        }
        let file = disk.open(&path, Access::Create).map_err(error)?;
        let known = KnownSums::of(disk.as_ref(), store.path());
        let sums = store.checksums.packing().map_err(error)?;
        Ok(Self {
            disk,
            source: Arc::clone(source),
            target: Generation::new(file, &path, Index::default()),
            buffer: MAGIC.to_vec(),
            written: 0,
            copied: FIRST_TRANSACTION,
            packed: Entries::default(),
            known,
            sums,
        })
    }

    /// Forget the new file.
    pub(super) fn discard(&self) {
        // What cannot be removed now is removed before the next pack.
        let _ = self.disk.remove(&self.target.path);
    }

    pub(super) fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// The new file, complete, to be put in place of the one at `path`.
    pub(super) fn packed_file(&mut self, path: &Path) -> PackedFile {
        let file = Arc::clone(&self.target.file);
        let index = std::mem::take(&mut self.target.index);
        PackedFile {
            path: self.target.path.clone(),
            generation: Generation::new(file, path, index),
            end: self.end(),
            sums: self.sums.take(),
        }
    }

    /// The checksums of the new file.
    pub(super) fn sums(&mut self) -> Option<&mut PackedSums> {
        self.sums.as_mut()
    }

    fn flush(&mut self) -> Result<()> {
        let result = self.target.file.write_at(&self.buffer, self.written);
        result.map_err(|source| Error::io("writing", &self.target.path, source))?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Wait until the new file is on the device.
    pub(super) fn sync(&mut self) -> Result<()> {
        self.flush()?;
        let data = self.target.file.as_ref();
        let synced = match &mut self.sums {
            None => data.sync(),
            Some(sums) => sums
                .flush()
                .and_then(|()| self.disk.sync_together(&[data, sums.file()])),
        };
        synced.map_err(|source| Error::io("syncing", &self.target.path, source))
    }

    /// Copy what is still needed of the part up to the pack time.
    pub(super) fn copy_packed(
        &mut self,
        marking: &PackMarking,
        time: u64,
        watch: &mut dyn PackWatch,
    ) -> Result<()> {
        let (source, known) = (Arc::clone(&self.source), self.known.clone());
        let mut window = Window::new(&source.file, &source.path);
        let mut known = known.read();
        while self.copied < time {
            let (header, strings) = self.transaction(&mut window)?;
            let mut sums = Sums::of(&mut known, self.copied, &header)?;
            let mut outgoing = None;
            let mut at = self.copied + header.len();
            let end = self.copied + header.length;
            while at < end && header.status != Status::Skipped {
                let record = self.record(&mut window, at)?;
                let sum = sums.next();
                if marking.is_kept(record.oid, at) {
                    self.verify(&mut window, &record, at, sum)?;
                    let outgoing = outgoing.get_or_insert_with(|| self.begin(header, &strings));
                    self.copy_data(outgoing, &mut window, &record, at)?;
                }
                at += record.record_len();
            }
            if let Some(mut outgoing) = outgoing {
                outgoing.header.status = Status::Packed;
                let records = self.complete(outgoing)?;
                self.packed.extend(records);
            }
            self.copied = end + TRAILER_LEN;
            report(watch, PackPhase::Copy, self.copied, time)?;
        }
        let place = known.place();
        self.known.go_on_at(place);
        let base = std::mem::take(&mut self.packed).into_memory_base()?;
        self.target.index = Index::over(base);
        Ok(())
    }

    /// Copy everything up to `end`.
    pub(super) fn copy_later(&mut self, end: u64, watch: &mut dyn PackWatch) -> Result<()> {
        let (source, known) = (Arc::clone(&self.source), self.known.clone());
        let mut window = Window::new(&source.file, &source.path);
        let mut known = known.read();
        while self.copied < end {
            let (header, strings) = self.transaction(&mut window)?;
            let mut sums = Sums::of(&mut known, self.copied, &header)?;
            let transaction_end = self.copied + header.length;
            if header.status != Status::Skipped {
                let mut outgoing = self.begin(header, &strings);
                let mut at = self.copied + header.len();
                while at < transaction_end {
                    let record = self.record(&mut window, at)?;
                    self.verify(&mut window, &record, at, sums.next())?;
                    self.copy_revision(&mut outgoing, &mut window, &record, at)?;
                    at += record.record_len();
                }
                for (oid, position) in self.complete(outgoing)? {
                    let is_new = self.target.position(oid)?.is_none();
                    self.target.index.insert(oid, position, is_new);
                }
            }
            self.copied = transaction_end + TRAILER_LEN;
            report(watch, PackPhase::Copy, self.copied, end)?;
        }
        let place = known.place();
        self.known.go_on_at(place);
        Ok(())
    }

    /// Compare a record with its checksum where that is known: damage is not to get a new one.
    fn verify(
        &self,
        window: &mut Window<'_>,
        record: &RecordHeader,
        at: u64,
        sum: Option<u32>,
    ) -> Result<()> {
        let Some(sum) = sum else {
            return Ok(());
        };
        let len = usize::try_from(record.record_len()).unwrap_or(usize::MAX);
        if crc32c::crc32c(window.at(at, len)?) == sum {
            return Ok(());
        }
        let problem = format!(
            "the record of object {} has another checksum than was written",
            record.oid
        );
        Err(self.source.corrupted(at, problem))
    }

    /// The transaction to be copied next: its header, and the header's bytes with the strings.
    fn transaction(&self, window: &mut Window<'_>) -> Result<(TransactionHeader, Vec<u8>)> {
        let at = self.copied;
        let header =
            TransactionHeader::parse(window.at(at, TRANSACTION_HEADER_LEN)?).map_err(|error| {
                self.source
                    .corrupted(at, format!("expected a transaction: {error}"))
            })?;
        let len = usize::try_from(header.len()).unwrap_or(usize::MAX);
        Ok((header, window.at(at, len)?.to_vec()))
    }

    fn record(&self, window: &mut Window<'_>, at: u64) -> Result<RecordHeader> {
        RecordHeader::parse(window.at(at, RECORD_HEADER_LEN)?).map_err(|error| {
            self.source
                .corrupted(at, format!("expected a record: {error}"))
        })
    }

    // Writing a transaction.

    fn begin(&mut self, header: TransactionHeader, header_bytes: &[u8]) -> Outgoing {
        let start = self.buffer.len();
        self.buffer.extend_from_slice(header_bytes);
        Outgoing {
            header,
            start,
            records: Vec::new(),
        }
    }

    /// Fill in the transaction's header and end it; its oids and positions.
    fn complete(&mut self, mut outgoing: Outgoing) -> Result<Vec<(Oid, u64)>> {
        let length = self.buffer.len() - outgoing.start;
        outgoing.header.length = length as u64;
        let header = outgoing.header.to_bytes();
        let place = outgoing.start..outgoing.start + header.len();
        if let Some(slot) = self.buffer.get_mut(place) {
            slot.copy_from_slice(&header);
        }
        self.buffer
            .extend_from_slice(&outgoing.header.length.to_be_bytes());
        if let Some(sums) = &mut self.sums {
            let start = self.written + outgoing.start as u64;
            let transaction = self.buffer.get(outgoing.start..).unwrap_or_default();
            let added = sums.add(transaction, start);
            added.map_err(|source| Error::io("writing", &self.target.path, source))?;
        }
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            self.flush()?;
        }
        Ok(outgoing.records)
    }

    /// Write a record's header for the new file, with the data's length or 0 for a position.
    fn put_header(
        &mut self,
        outgoing: &mut Outgoing,
        record: &RecordHeader,
        data_len: u64,
    ) -> Result<()> {
        let position = self.end();
        let header = RecordHeader {
            oid: record.oid,
            tid: record.tid,
            previous: self.target.position(record.oid)?.unwrap_or(0),
            transaction: self.written + outgoing.start as u64,
            data_len,
        };
        self.buffer.extend_from_slice(&header.to_bytes());
        outgoing.records.push((record.oid, position));
        Ok(())
    }

    /// Copy a record with its data, wherever they stand; nothing where the object does not exist.
    fn copy_data(
        &mut self,
        outgoing: &mut Outgoing,
        window: &mut Window<'_>,
        record: &RecordHeader,
        at: u64,
    ) -> Result<()> {
        if record.data_len > 0 {
            self.put_header(outgoing, record, record.data_len)?;
            let len = usize::try_from(record.data_len).unwrap_or(usize::MAX);
            let data = window.at(at + RECORD_HEADER_LEN as u64, len)?;
            self.buffer.extend_from_slice(data);
            return Ok(());
        }
        if let (Some(data), _) = self.source.data_at(at, &mut Vec::new())? {
            self.put_header(outgoing, record, data.len() as u64)?;
            self.buffer.extend_from_slice(&data);
        }
        Ok(())
    }

    /// Copy a record as it is; a position becomes that of the same revision in the new file.
    fn copy_revision(
        &mut self,
        outgoing: &mut Outgoing,
        window: &mut Window<'_>,
        record: &RecordHeader,
        at: u64,
    ) -> Result<()> {
        if record.data_len > 0 {
            return self.copy_data(outgoing, window, record, at);
        }
        let holder = self.source.data_position(at)?;
        let position = match holder {
            None => Some(0),
            Some(holder) => {
                let tid = self.source.header_at(holder)?.tid;
                self.position_of(record.oid, tid)?
            }
        };
        match position {
            Some(position) => {
                self.put_header(outgoing, record, 0)?;
                self.buffer.extend_from_slice(&position.to_be_bytes());
                Ok(())
            }
            // The revision that held the data is gone: they stand here from now on.
            None => self.copy_data(outgoing, window, record, at),
        }
    }

    /// Where an object's revision stands in the new file, if it was copied.
    fn position_of(&mut self, oid: Oid, tid: Tid) -> Result<Option<u64>> {
        let mut next = self.target.position(oid)?;
        while let Some(position) = next {
            let header = self.target_header(position)?;
            if header.tid <= tid {
                return Ok((header.tid == tid).then_some(position));
            }
            next = (header.previous != 0).then_some(header.previous);
        }
        Ok(None)
    }

    fn target_header(&self, position: u64) -> Result<RecordHeader> {
        let Some(within) = position.checked_sub(self.written) else {
            return self.target.header_at(position);
        };
        let within = usize::try_from(within).unwrap_or(usize::MAX);
        let bytes = self.buffer.get(within..).unwrap_or_default();
        RecordHeader::parse(bytes).map_err(|_| {
            let source = io::Error::from(io::ErrorKind::InvalidData);
            Error::io("writing", &self.target.path, source)
        })
    }
}
