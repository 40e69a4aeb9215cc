//! Walking over the transactions of a data file and their records.

use std::sync::Arc;

use perdure_format::file::{
    FIRST_TRANSACTION, RECORD_HEADER_LEN, RecordHeader, Status, TRAILER_LEN,
    TRANSACTION_HEADER_LEN, TransactionHeader,
};
use perdure_format::{Oid, Tid};

use crate::disk::read_exact_at;
use crate::error::{Error, Result};
use crate::generation::Generation;

/// How much is read at once while walking over records; larger ones are read by themselves.
const WINDOW_LEN: usize = 64 * 1024;

/// A transaction as the file has it.
#[derive(Clone, Debug)]
pub struct TransactionRecord {
    /// Where it begins.
    pub position: u64,
    /// Its header.
    pub header: TransactionHeader,
    strings: Vec<u8>,
}

impl TransactionRecord {
    /// The transaction whose header, at `position`, the bytes begin with; none where they don't
    /// hold all of it.
    pub(crate) fn parse(position: u64, bytes: &[u8]) -> Option<Self> {
        let header = TransactionHeader::parse(bytes).ok()?;
        let len = usize::try_from(header.len()).ok()?;
        let strings = bytes.get(TRANSACTION_HEADER_LEN..len)?.to_vec();
        Some(Self {
            position,
            header,
            strings,
        })
    }

    fn strings(&self) -> (&[u8], &[u8], &[u8]) {
        let user_end = usize::from(self.header.user_len);
        let description_end = user_end + usize::from(self.header.description_len);
        (
            self.strings.get(..user_end).unwrap_or_default(),
            self.strings
                .get(user_end..description_end)
                .unwrap_or_default(),
            self.strings.get(description_end..).unwrap_or_default(),
        )
    }

    /// The user name.
    #[must_use]
    pub fn user(&self) -> &[u8] {
        self.strings().0
    }

    /// The description.
    #[must_use]
    pub fn description(&self) -> &[u8] {
        self.strings().1
    }

    /// The pickled extension with the seal behind it, if any; empty for none.
    #[must_use]
    pub fn extension(&self) -> &[u8] {
        self.strings().2
    }

    /// Where the next transaction begins.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.position + self.header.length + TRAILER_LEN
    }
}

/// A record of a transaction, its data where they were read to.
#[derive(Clone, Copy, Debug)]
pub struct RecordView<'a> {
    /// Where it begins.
    pub position: u64,
    /// Its header.
    pub header: RecordHeader,
    /// Its data; none where it says that the object does not exist.
    pub data: Option<&'a [u8]>,
    /// The transaction that wrote the data, where it was an earlier one.
    pub data_tid: Option<Tid>,
}

/// A record of a transaction.
#[derive(Clone, Debug)]
pub struct DataRecord {
    /// Where it begins.
    pub position: u64,
    /// Its header.
    pub header: RecordHeader,
    /// Its data; none where it says that the object does not exist.
    pub data: Option<Vec<u8>>,
    /// The transaction that wrote the data, where it was an earlier one.
    pub data_tid: Option<Tid>,
}

impl RecordView<'_> {
    /// The record with a copy of its data.
    #[must_use]
    pub fn to_record(self) -> DataRecord {
        DataRecord {
            position: self.position,
            header: self.header,
            data: self.data.map(<[u8]>::to_vec),
            data_tid: self.data_tid,
        }
    }
}

impl DataRecord {
    /// The record as it is shown where it was read.
    #[must_use]
    pub fn view(&self) -> RecordView<'_> {
        RecordView {
            position: self.position,
            header: self.header,
            data: self.data.as_deref(),
            data_tid: self.data_tid,
        }
    }
}

/// Walks over transactions from a position to an end that were fixed when it was made.
#[derive(Clone, Debug)]
pub struct Transactions {
    generation: Arc<Generation>,
    position: u64,
    end: u64,
    stop: Tid,
}

impl Transactions {
    pub(crate) fn new(generation: Arc<Generation>, end: u64) -> Self {
        Self {
            generation,
            position: FIRST_TRANSACTION,
            end,
            stop: Tid::MAX,
        }
    }

    /// Begin with the first transaction at or after `start`, end with the last at or before `stop`.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn between(mut self, start: Tid, stop: Tid) -> Result<Self> {
        self.stop = stop;
        if start > Tid::ZERO {
            self.position = self.find(start)?;
        }
        Ok(self)
    }

    /// The next transaction that is part of the database.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn advance(&mut self) -> Result<Option<TransactionRecord>> {
        while self.position < self.end {
            let (header, mut bytes) = self.generation.transaction_at(self.position)?;
            if header.tid > self.stop || header.status == Status::Voted {
                break;
            }
            let position = self.position;
            self.position = position
                .checked_add(header.length)
                .and_then(|end| end.checked_add(TRAILER_LEN))
                .ok_or_else(|| {
                    self.generation
                        .corrupted(position, "a transaction without end")
                })?;
            if header.status != Status::Skipped {
                bytes.drain(..TRANSACTION_HEADER_LEN);
                return Ok(Some(TransactionRecord {
                    position,
                    header,
                    strings: bytes,
                }));
            }
        }
        self.position = self.end;
        Ok(None)
    }

    /// The transaction before the ones that were met going back; first the last one.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn retreat(&mut self) -> Result<Option<TransactionRecord>> {
        while let Some(transaction) = self.ending_at(self.end)? {
            self.end = transaction.position;
            if transaction.header.status != Status::Skipped {
                return Ok(Some(transaction));
            }
        }
        Ok(None)
    }

    /// The records of one of the transactions.
    #[must_use]
    pub fn records_of(&self, transaction: &TransactionRecord) -> Records {
        Records {
            generation: Arc::clone(&self.generation),
            transaction: transaction.position,
            position: transaction.position + transaction.header.len(),
            end: transaction.position + transaction.header.length,
            buffer: Vec::new(),
            window: Vec::new(),
            window_start: 0,
        }
    }

    /// The file that is walked over.
    pub(crate) fn generation(&self) -> &Arc<Generation> {
        &self.generation
    }

    /// Where the next transaction begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The transaction that ends at a position; none where that is the file's beginning.
    pub(crate) fn ending_at(&self, end: u64) -> Result<Option<TransactionRecord>> {
        if end <= FIRST_TRANSACTION {
            return Ok(None);
        }
        self.transaction_before(end)
            .and_then(|position| self.at(position))
            .map(Some)
    }

    /// The transaction at a position.
    pub(crate) fn at(&self, position: u64) -> Result<TransactionRecord> {
        let (header, mut bytes) = self.generation.transaction_at(position)?;
        bytes.drain(..TRANSACTION_HEADER_LEN);
        Ok(TransactionRecord {
            position,
            header,
            strings: bytes,
        })
    }

    /// The position of the first transaction at or after `start`, looked for from both ends.
    fn find(&self, start: Tid) -> Result<u64> {
        let (mut front, mut back) = (self.position, self.end);
        while front < back {
            let (header, _) = self.generation.transaction_at(front)?;
            if header.tid >= start {
                return Ok(front);
            }
            front += header.length + TRAILER_LEN;
            if front >= back {
                break;
            }
            let before = self.transaction_before(back)?;
            if self.generation.transaction_at(before)?.0.tid < start {
                return Ok(back);
            }
            back = before;
        }
        Ok(back)
    }

    /// The position of the transaction that ends at `end`.
    fn transaction_before(&self, end: u64) -> Result<u64> {
        let mut length = [0; 8];
        let at = end - TRAILER_LEN;
        read_exact_at(self.generation.file.as_ref(), &mut length, at)
            .map_err(|source| Error::io("reading", &self.generation.path, source))?;
        at.checked_sub(u64::from_be_bytes(length))
            .filter(|position| *position >= FIRST_TRANSACTION)
            .ok_or_else(|| {
                self.generation
                    .corrupted(at, "expected the length of a transaction")
            })
    }
}

/// Walks over the records of one transaction.
#[derive(Debug)]
pub struct Records {
    generation: Arc<Generation>,
    transaction: u64,
    position: u64,
    end: u64,
    buffer: Vec<u8>,
    /// What was read ahead, and where it begins in the file.
    window: Vec<u8>,
    window_start: u64,
}

impl Records {
    /// Where the next record begins.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// The next record with its data.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn advance(&mut self) -> Result<Option<DataRecord>> {
        #[expect(
            clippy::redundant_closure_for_method_calls,
            reason = "the method alone is not general enough in its lifetime"
        )]
        self.advance_with(|record| record.to_record())
    }

    /// What `take` makes of the next record, which it is shown without a copy of its data.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn advance_with<T>(&mut self, take: impl FnOnce(RecordView<'_>) -> T) -> Result<Option<T>> {
        let position = self.position;
        let Some(header) = self.advance_header()? else {
            return Ok(None);
        };
        let bare = RecordView {
            position,
            header,
            data: None,
            data_tid: None,
        };
        let data_start = position + RECORD_HEADER_LEN as u64;
        // In place of no data, a position stands: of none where the object does not exist.
        let is_elsewhere = header.data_len == 0;
        let len = if is_elsewhere { 8 } else { header.data_len };
        match self.ahead(data_start, len)? {
            Some(pointer) if is_elsewhere && pointer == [0; 8] => {
                return Ok(Some(take(bare)));
            }
            Some(data) if !is_elsewhere => {
                let data = Some(data);
                return Ok(Some(take(RecordView { data, ..bare })));
            }
            _ => {}
        }
        let (data, data_tid) = self.generation.data_at(position, &mut self.buffer)?;
        let data = data.as_deref();
        Ok(Some(take(RecordView {
            data,
            data_tid,
            ..bare
        })))
    }

    /// The header of the next record, without its data.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn advance_header(&mut self) -> Result<Option<RecordHeader>> {
        if self.position >= self.end {
            return Ok(None);
        }
        let position = self.position;
        let header = match self
            .ahead(position, RECORD_HEADER_LEN as u64)?
            .map(RecordHeader::parse)
        {
            Some(Ok(header)) => header,
            _ => self.generation.header_at(position)?,
        };
        let room = self.end - position;
        if header.transaction != self.transaction || header.record_len() > room {
            let problem = "expected a record of the transaction before it";
            return Err(self.generation.corrupted(position, problem));
        }
        self.position += header.record_len();
        Ok(Some(header))
    }

    /// Bytes of the transaction, none where they are too many to read ahead or not there.
    fn ahead(&mut self, start: u64, len: u64) -> Result<Option<&[u8]>> {
        let Some(len) = usize::try_from(len).ok().filter(|len| *len <= WINDOW_LEN) else {
            return Ok(None);
        };
        let window_end = self.window_start + self.window.len() as u64;
        if start < self.window_start || start + len as u64 > window_end {
            let room = usize::try_from(self.end.saturating_sub(start)).unwrap_or(WINDOW_LEN);
            self.window.resize(room.min(WINDOW_LEN), 0);
            self.window_start = start;
            let read = self.generation.file.read_at(&mut self.window, start);
            self.window.truncate(*read.as_ref().unwrap_or(&0));
            read.map_err(|source| Error::io("reading", &self.generation.path, source))?;
        }
        let offset = usize::try_from(start - self.window_start).unwrap_or(usize::MAX);
        Ok(self.window.get(offset..).and_then(|bytes| bytes.get(..len)))
    }
}

/// Where the data of a record are.
struct Holder {
    at: u64,
    header: RecordHeader,
    /// The transaction that the record itself names: one that took the data over in its turn, maybe.
    named: Option<Tid>,
}

impl Generation {
    /// The record that holds the data of the record at `position`: itself, or an earlier one.
    ///
    /// None where the record says that the object does not exist.
    fn holder(&self, position: u64) -> Result<Option<Holder>> {
        let (mut at, mut header) = (position, self.header_at(position)?);
        let oid: Oid = header.oid;
        let mut named = None;
        while header.data_len == 0 {
            let mut pointer = [0; 8];
            let place = at + RECORD_HEADER_LEN as u64;
            read_exact_at(self.file.as_ref(), &mut pointer, place)
                .map_err(|source| Error::io("reading", &self.path, source))?;
            let target = u64::from_be_bytes(pointer);
            if target == 0 {
                return Ok(None);
            }
            if target >= at {
                let problem = format!("expected its data before it, not at {target}");
                return Err(self.corrupted(at, problem));
            }
            at = target;
            header = self.header_at(at)?;
            if header.oid != oid {
                return Err(self.corrupted(at, format!("expected data of {oid}")));
            }
            named = named.or(Some(header.tid));
        }
        Ok(Some(Holder { at, header, named }))
    }

    /// The position of the record that holds the data of the record at `position`.
    pub(crate) fn data_position(&self, position: u64) -> Result<Option<u64>> {
        Ok(self.holder(position)?.map(|holder| holder.at))
    }

    /// The data of the record at `position`, and the transaction that it names for them.
    pub(crate) fn data_at(
        &self,
        position: u64,
        buffer: &mut Vec<u8>,
    ) -> Result<(Option<Vec<u8>>, Option<Tid>)> {
        let Some(Holder { at, header, named }) = self.holder(position)? else {
            return Ok((None, None));
        };
        let len = usize::try_from(header.data_len).unwrap_or(usize::MAX);
        let room = self
            .file
            .len()
            .map_err(|source| Error::io("reading", &self.path, source))?;
        if header.data_len > room {
            return Err(self.corrupted(at, format!("a record of {len} bytes ends beyond the file")));
        }
        buffer.resize(len, 0);
        let place = at + RECORD_HEADER_LEN as u64;
        read_exact_at(self.file.as_ref(), buffer, place)
            .map_err(|_| self.corrupted(at, "the record is cut off"))?;
        Ok((Some(std::mem::take(buffer)), named))
    }
}
