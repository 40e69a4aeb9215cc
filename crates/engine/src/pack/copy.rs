//! Writing the packed file.

use std::io;
use std::path::Path;
use std::sync::Arc;

use perdure_format::file::{
    FIRST_TRANSACTION, MAGIC, RECORD_HEADER_LEN, RecordHeader, Status, TRAILER_LEN,
    TRANSACTION_HEADER_LEN, TransactionHeader,
};
use perdure_format::{Oid, Tid};

use super::oids::OidMap;
use super::swap::PackedFile;
use super::{PackMarking, PackPhase, PackWatch, report};
use crate::checksums::{KnownSums, PackedSums, SumsReader};
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::index::Index;
use crate::saved_index::with_suffix;
use crate::scan::Window;
use crate::store::Store;

/// How much is collected before it is written.
const BUFFER_BYTES_MAX: usize = 1 << 17;

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
    /// Where what was copied of the part up to the pack time stands.
    packed: OidMap,
    /// The checksums of the source, and of the target.
    known: KnownSums,
    sums: Option<PackedSums>,
}

/// A transaction on its way into the target: the part that is already in the file, and what is in
/// the buffer. Its header is filled in last.
struct Outgoing {
    header: TransactionHeader,
    /// The strings behind the header.
    strings: Vec<u8>,
    /// Where it begins in the new file.
    start: u64,
    record_sums: Vec<u32>,
}

/// What stands behind a record's header.
#[derive(Clone, Copy)]
enum Content<'a> {
    Data(&'a [u8]),
    Position(u64),
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
            packed: OidMap::with_room(source.index.len()),
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
                    if let Some(position) = self.copy_data(outgoing, &mut window, &record, at)? {
                        self.packed.insert(record.oid, position);
                    }
                }
                at += record.record_len();
            }
            if let Some(mut outgoing) = outgoing {
                outgoing.header.status = Status::Packed;
                self.complete(outgoing)?;
            }
            self.copied = end + TRAILER_LEN;
            report(watch, PackPhase::Copy, self.copied, time)?;
        }
        let place = known.place();
        self.known.go_on_at(place);
        self.target.index = Index::of(std::mem::take(&mut self.packed).into());
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
                let mut records = Vec::new();
                while at < transaction_end {
                    let record = self.record(&mut window, at)?;
                    self.verify(&mut window, &record, at, sums.next())?;
                    let position = self.copy_revision(&mut outgoing, &mut window, &record, at)?;
                    records.extend(position.map(|position| (record.oid, position)));
                    at += record.record_len();
                }
                self.complete(outgoing)?;
                for (oid, position) in records {
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
        let start = self.end();
        self.buffer.extend_from_slice(header_bytes);
        let strings = header_bytes.get(TRANSACTION_HEADER_LEN..);
        Outgoing {
            header,
            strings: strings.unwrap_or_default().to_vec(),
            start,
            record_sums: Vec::new(),
        }
    }

    /// Fill in the transaction's header and end it.
    fn complete(&mut self, mut outgoing: Outgoing) -> Result<()> {
        outgoing.header.length = self.end() - outgoing.start;
        let header = outgoing.header.to_bytes();
        let length = outgoing.header.length.to_be_bytes();
        self.buffer.extend_from_slice(&length);
        self.put_at(outgoing.start, &header)?;
        if let Some(sums) = &mut self.sums {
            let front = [&header[..], &outgoing.strings].concat();
            let added = sums.add(
                &outgoing.header,
                &front,
                outgoing.record_sums,
                outgoing.start,
            );
            added.map_err(|source| Error::io("writing", &self.target.path, source))?;
        }
        self.flush_if_full()
    }

    /// Put bytes in the place of others: in the buffer, or in the file where they are there.
    fn put_at(&mut self, position: u64, bytes: &[u8]) -> Result<()> {
        let within = position.checked_sub(self.written);
        let within = within.and_then(|within| usize::try_from(within).ok());
        let slot = within.and_then(|start| self.buffer.get_mut(start..start + bytes.len()));
        if let Some(slot) = slot {
            slot.copy_from_slice(bytes);
            return Ok(());
        }
        let written = self.target.file.write_at(bytes, position);
        written.map_err(|source| Error::io("writing", &self.target.path, source))
    }

    fn flush_if_full(&mut self) -> Result<()> {
        if self.buffer.len() >= BUFFER_BYTES_MAX {
            self.flush()?;
        }
        Ok(())
    }

    /// Write a record: its header for the new file, and its data or the position of such; where
    /// it stands.
    fn put(
        &mut self,
        outgoing: &mut Outgoing,
        record: &RecordHeader,
        content: Content<'_>,
    ) -> Result<u64> {
        let (data_len, bytes) = match content {
            Content::Data(data) => (data.len() as u64, data),
            Content::Position(position) => (0, &position.to_be_bytes()[..]),
        };
        let position = self.end();
        let header = RecordHeader {
            oid: record.oid,
            tid: record.tid,
            previous: self.target.position(record.oid)?.unwrap_or(0),
            transaction: outgoing.start,
            data_len,
        };
        let start = self.buffer.len();
        self.buffer.extend_from_slice(&header.to_bytes());
        self.buffer.extend_from_slice(bytes);
        if self.sums.is_some() {
            let whole = self.buffer.get(start..).unwrap_or_default();
            outgoing.record_sums.push(crc32c::crc32c(whole));
        }
        self.flush_if_full()?;
        Ok(position)
    }

    /// Copy a record with its data, wherever they stand; where it stands now. Nothing where the
    /// object does not exist.
    fn copy_data(
        &mut self,
        outgoing: &mut Outgoing,
        window: &mut Window<'_>,
        record: &RecordHeader,
        at: u64,
    ) -> Result<Option<u64>> {
        if record.data_len > 0 {
            let len = usize::try_from(record.data_len).unwrap_or(usize::MAX);
            let data = window.at(at + RECORD_HEADER_LEN as u64, len)?;
            if data.len() < len {
                let problem = "the file ends within a record".to_owned();
                return Err(self.source.corrupted(at, problem));
            }
            return self.put(outgoing, record, Content::Data(data)).map(Some);
        }
        match self.source.data_at(at, &mut Vec::new())?.0 {
            Some(data) => self.put(outgoing, record, Content::Data(&data)).map(Some),
            None => Ok(None),
        }
    }

    /// Copy a record as it is; a position becomes that of the same revision in the new file.
    fn copy_revision(
        &mut self,
        outgoing: &mut Outgoing,
        window: &mut Window<'_>,
        record: &RecordHeader,
        at: u64,
    ) -> Result<Option<u64>> {
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
                let content = Content::Position(position);
                self.put(outgoing, record, content).map(Some)
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
