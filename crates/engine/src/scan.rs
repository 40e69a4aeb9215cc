//! Reading a data file from front to back, checking every header on the way.

use std::path::Path;
use std::sync::Arc;

use perdure_format::Tid;
use perdure_format::file::{
    FIRST_TRANSACTION, RECORD_HEADER_LEN, RecordHeader, Status, TRAILER_LEN,
    TRANSACTION_HEADER_LEN, TransactionHeader,
};

use crate::disk::File;
use crate::error::{Error, Result};

/// How much is read at first, and at most: each read takes twice as much as the one before.
const FIRST_LEN: usize = 1 << 14;
const WINDOW_LEN: usize = 1 << 17;

/// The part of a file to scan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// The position of the first transaction.
    pub(crate) start: u64,
    /// Where to end: the end of the file, or the end of a transaction.
    pub(crate) end: u64,
    /// The transaction before the first.
    pub(crate) after: Tid,
}

impl Default for Range {
    fn default() -> Self {
        Self {
            start: FIRST_TRANSACTION,
            end: u64::MAX,
            after: Tid::ZERO,
        }
    }
}

/// What is told of each transaction and record.
pub(crate) trait Visitor {
    /// A record of a transaction that is part of the database.
    fn record(&mut self, position: u64, header: &RecordHeader);
    /// Is [`Visitor::data`] to be called?
    const READS_DATA: bool = false;
    /// What stands behind the header just told: data, or a position in their place.
    fn data(&mut self, _position: u64, _header: &RecordHeader, _data: &[u8]) {}
    /// All records of this transaction were told.
    fn transaction(&mut self, _position: u64, _header: &TransactionHeader) {}
    /// Was it asked to end the scan? It ends with an error then.
    fn is_stopped(&self) -> bool {
        false
    }
    /// The records told since the last transaction belong to a damaged one.
    fn discard(&mut self);
}

/// Where a scan ended.
#[derive(Debug)]
pub(crate) struct Scanned {
    /// The end of the last whole transaction.
    pub(crate) end: u64,
    /// The start of the last whole transaction, where there was one.
    pub(crate) last_start: Option<u64>,
    /// The last whole transaction.
    pub(crate) last_tid: Tid,
    /// What stands there instead of the file's end.
    pub(crate) stop: Option<Stop>,
}

/// Why a scan ended before the end of the file.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The checksums say that what follows was never wholly written.
    Torn(String),
    /// A whole transaction that was voted and not finished.
    Voted(TransactionHeader),
    /// No whole transaction.
    Damaged {
        /// Where exactly.
        position: u64,
        /// What is wrong there.
        problem: String,
    },
}

/// A window that moves over the file.
pub(crate) struct Window<'a> {
    file: &'a Arc<dyn File>,
    path: &'a Path,
    bytes: Vec<u8>,
    start: u64,
    /// How much the next read takes, and how much any may take.
    len: usize,
    len_max: usize,
}

impl<'a> Window<'a> {
    /// A window that holds nothing yet.
    pub(crate) fn new(file: &'a Arc<dyn File>, path: &'a Path) -> Self {
        Self {
            file,
            path,
            bytes: Vec::new(),
            start: 0,
            len: FIRST_LEN,
            len_max: WINDOW_LEN,
        }
    }

    /// A window for something of a known length; more than that is not read at a time.
    pub(crate) fn for_len(file: &'a Arc<dyn File>, path: &'a Path, len: u64) -> Self {
        let len_max = usize::try_from(len).map_or(WINDOW_LEN, |len| len.min(WINDOW_LEN));
        Self {
            len: len_max,
            len_max,
            ..Self::new(file, path)
        }
    }

    /// Let go of what took more room than usual.
    pub(crate) fn shrink(&mut self) {
        if self.bytes.capacity() > 2 * WINDOW_LEN {
            self.bytes = Vec::new();
        }
    }

    /// The `len` bytes at `position`; fewer where the file ends.
    pub(crate) fn at(&mut self, position: u64, len: usize) -> Result<&[u8]> {
        let within = position
            .checked_sub(self.start)
            .and_then(|n| usize::try_from(n).ok());
        let held = within.is_some_and(|within| {
            within
                .checked_add(len)
                .is_some_and(|end| end <= self.bytes.len())
        });
        let within = if held {
            within.unwrap_or(0)
        } else {
            self.bytes.resize(self.len.max(len), 0);
            let read = self.file.read_at(&mut self.bytes, position);
            let read = read.map_err(|source| Error::io("reading", self.path, source))?;
            self.bytes.truncate(read);
            self.start = position;
            self.len = (self.len * 2).min(self.len_max);
            0
        };
        let end = (within + len).min(self.bytes.len());
        Ok(self.bytes.get(within..end).unwrap_or_default())
    }
}

/// Scan whole transactions until the range, the file or its health ends.
pub(crate) fn scan(
    file: &Arc<dyn File>,
    path: &Path,
    range: Range,
    visitor: &mut impl Visitor,
) -> Result<Scanned> {
    let len = file
        .len()
        .map_err(|source| Error::io("reading", path, source))?;
    let limit = range.end.min(len);
    let mut window = Window::new(file, path);
    let mut done = Scanned {
        end: range.start,
        last_start: None,
        last_tid: range.after,
        stop: None,
    };
    while done.end < limit {
        match transaction(&mut window, &done, limit, visitor)? {
            Ok(header) => {
                visitor.transaction(done.end, &header);
                done.last_start = Some(done.end);
                done.last_tid = header.tid;
                done.end += header.length + TRAILER_LEN;
            }
            Err(stop) => {
                visitor.discard();
                done.stop = Some(stop);
                break;
            }
        }
    }
    Ok(done)
}

/// Read the transaction at `done.end` and its records.
fn transaction<V: Visitor>(
    window: &mut Window<'_>,
    done: &Scanned,
    limit: u64,
    visitor: &mut V,
) -> Result<std::result::Result<TransactionHeader, Stop>> {
    let position = done.end;
    let damaged = |position, problem| Ok(Err(Stop::Damaged { position, problem }));
    let header = match TransactionHeader::parse(window.at(position, TRANSACTION_HEADER_LEN)?) {
        Ok(header) => header,
        Err(error) => return damaged(position, format!("expected a transaction: {error}")),
    };
    let fits = position
        .checked_add(header.length)
        .and_then(|end| end.checked_add(TRAILER_LEN));
    if fits.is_none_or(|end| end > limit) {
        let problem = format!(
            "a transaction of {} bytes ends beyond the file",
            header.length
        );
        return damaged(position, problem);
    }
    if header.tid <= done.last_tid {
        let problem = format!(
            "transaction {} follows {}, which is later",
            header.tid, done.last_tid
        );
        return damaged(position, problem);
    }
    let end = position + header.length;
    if header.status != Status::Skipped {
        let mut at = position + header.len();
        while at < end {
            let record = match RecordHeader::parse(window.at(at, RECORD_HEADER_LEN)?) {
                Ok(record) => record,
                Err(error) => return damaged(at, format!("expected a record: {error}")),
            };
            if let Some(problem) = problem_of(&record, &header, position, end - at) {
                return damaged(at, problem);
            }
            if header.status != Status::Voted {
                visitor.record(at, &record);
                if visitor.is_stopped() {
                    return Err(Error::PackStopped);
                }
                if V::READS_DATA {
                    let start = at + RECORD_HEADER_LEN as u64;
                    let len = usize::try_from(record.record_len()).unwrap_or(usize::MAX);
                    let data = window.at(start, len.saturating_sub(RECORD_HEADER_LEN))?;
                    visitor.data(at, &record, data);
                }
            }
            at += record.record_len();
        }
    }
    let trailer = window.at(end, 8)?;
    if trailer != header.length.to_be_bytes() {
        let problem = format!("expected the transaction's length {} again", header.length);
        return damaged(end, problem);
    }
    if header.status == Status::Voted {
        return Ok(Err(Stop::Voted(header)));
    }
    Ok(Ok(header))
}

/// What is wrong with a record of a transaction, `room` bytes before the transaction's end.
fn problem_of(
    record: &RecordHeader,
    transaction: &TransactionHeader,
    position: u64,
    room: u64,
) -> Option<String> {
    if record.transaction != position {
        return Some(format!(
            "expected a record of the transaction at {position}, found one of {}",
            record.transaction
        ));
    }
    if record.tid != transaction.tid {
        return Some(format!(
            "expected a record of transaction {}, found one of {}",
            transaction.tid, record.tid
        ));
    }
    (record.record_len() > room).then(|| {
        format!(
            "a record of {} bytes ends beyond its transaction",
            record.data_len
        )
    })
}

/// Is there a whole transaction after `last` anywhere from `start` on?
///
/// Tells damage in the middle of a file from a tail that was never whole.
pub(crate) fn whole_transaction_after(
    file: &Arc<dyn File>,
    path: &Path,
    start: u64,
    last: Tid,
) -> Result<Option<u64>> {
    let len = file
        .len()
        .map_err(|source| Error::io("reading", path, source))?;
    let mut window = Window::new(file, path);
    let mut at = start;
    while at + TRANSACTION_HEADER_LEN as u64 + TRAILER_LEN <= len {
        let header = TransactionHeader::parse(window.at(at, TRANSACTION_HEADER_LEN)?);
        if let Ok(header) = header
            && header.tid > last
            && header.status != Status::Voted
            && at
                .checked_add(header.length)
                .is_some_and(|end| end + TRAILER_LEN <= len)
        {
            let mut nothing = Nothing;
            let end = at + header.length + TRAILER_LEN;
            let range = Range {
                start: at,
                end,
                after: last,
            };
            let found = scan(file, path, range, &mut nothing)?;
            if found.stop.is_none() && has_record(file, path, at, &header)? {
                return Ok(Some(at));
            }
        }
        at += 1;
    }
    Ok(None)
}

/// A transaction without records proves nothing: too many bytes look like one.
fn has_record(
    file: &Arc<dyn File>,
    path: &Path,
    position: u64,
    header: &TransactionHeader,
) -> Result<bool> {
    let mut window = Window::new(file, path);
    let first = window.at(position + header.len(), RECORD_HEADER_LEN)?;
    Ok(header.length > header.len()
        && RecordHeader::parse(first).is_ok_and(|record| record.transaction == position))
}

/// Nothing is remembered.
pub(crate) struct Nothing;

impl Visitor for Nothing {
    fn record(&mut self, _position: u64, _header: &RecordHeader) {}
    fn discard(&mut self) {}
}
