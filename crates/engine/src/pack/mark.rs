//! What was current at the pack time, and what is reachable.

use std::ops::Range;
use std::sync::Arc;

use perdure_format::Oid;
use perdure_format::file::{FIRST_TRANSACTION, RECORD_HEADER_LEN, RecordHeader, TransactionHeader};

use super::oids::{OidMap, OidSet};
use super::{PackPhase, PackWatch, report};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::scan::{self, Stop, Visitor, Window};

/// How many objects are marked, or transactions read, between two reports.
const REPORT_EVERY: u64 = 1024;

/// Where each object's revision of the pack time stands.
#[derive(Debug, Default)]
pub(crate) struct PackTime {
    positions: OidMap,
}

/// Notes the last record of each object.
struct Newest<'a> {
    time: &'a mut PackTime,
    end: u64,
    transactions: u64,
    watch: &'a mut dyn PackWatch,
    stopped: Option<Error>,
}

impl Visitor for Newest<'_> {
    fn record(&mut self, position: u64, header: &RecordHeader) {
        self.time.positions.insert(header.oid, position);
    }

    fn transaction(&mut self, position: u64, _header: &TransactionHeader) {
        self.transactions += 1;
        if self.transactions.is_multiple_of(REPORT_EVERY) && self.stopped.is_none() {
            self.stopped = report(self.watch, PackPhase::Scan, position, self.end).err();
        }
    }

    fn discard(&mut self) {}
}

impl PackTime {
    /// Scan the file up to the pack time.
    pub(super) fn find(
        generation: &Generation,
        end: u64,
        watch: &mut dyn PackWatch,
    ) -> Result<Self> {
        let mut time = Self::default();
        let mut newest = Newest {
            time: &mut time,
            end,
            transactions: 0,
            watch,
            stopped: None,
        };
        let range = scan::Range {
            end,
            ..scan::Range::default()
        };
        let scanned = scan::scan(&generation.file, &generation.path, range, &mut newest)?;
        if let Some(stopped) = newest.stopped {
            return Err(stopped);
        }
        match scanned.stop {
            None => Ok(time),
            Some(Stop::Voted(_)) => {
                Err(generation.corrupted(scanned.end, "a transaction that was not finished"))
            }
            Some(Stop::Torn(problem)) => Err(generation.corrupted(scanned.end, problem)),
            Some(Stop::Damaged { position, problem }) => {
                Err(generation.corrupted(position, problem))
            }
        }
    }

    /// Was there a root object?
    pub(super) fn has_root(&self) -> bool {
        self.positions.get(Oid::ZERO).is_some()
    }

    /// Where the object's revision stands.
    pub(super) fn position(&self, oid: Oid) -> Option<u64> {
        self.positions.get(oid)
    }
}

/// The objects that are reachable.
#[derive(Debug, Default)]
pub(crate) struct Marks(OidSet);

impl Marks {
    /// Is the object reachable?
    pub(super) fn contains(&self, oid: Oid) -> bool {
        self.0.contains(oid)
    }

    /// Follow references from the root, and from everything in the `later` part of the file.
    pub(super) fn follow(
        generation: &Arc<Generation>,
        time: &PackTime,
        later: Range<u64>,
        watch: &mut dyn PackWatch,
    ) -> Result<Self> {
        let mut marks = Self::default();
        let mut found = vec![Oid::ZERO];
        later_references(generation, later, watch, &mut found)?;
        let mut reader = Reader::new(generation);
        let mut round = Vec::new();
        loop {
            // One round reads all that the round before found, in the order of the file.
            round.clear();
            for oid in found.drain(..) {
                if let Some(position) = time.position(oid)
                    && marks.0.insert(oid)
                {
                    round.push((position, oid));
                }
            }
            if round.is_empty() {
                return Ok(marks);
            }
            round.sort_unstable();
            reader.prepare(&round);
            for (number, &(position, oid)) in round.iter().enumerate() {
                if (number as u64).is_multiple_of(REPORT_EVERY) {
                    let done = marks.0.len() - (round.len() - number) as u64;
                    report(watch, PackPhase::Mark, done, time.positions.len())?;
                }
                let first = found.len();
                if let Some(data) = reader.data(position)? {
                    find(watch, data, &mut found, oid)?;
                }
                marks.keep_new(&mut found, first, time);
            }
        }
    }

    /// Drop from the end of a list what is marked, or was not there at the pack time.
    fn keep_new(&self, found: &mut Vec<Oid>, first: usize, time: &PackTime) {
        let mut kept = first;
        for at in first..found.len() {
            let Some(oid) = found.get(at).copied() else {
                break;
            };
            if !self.contains(oid) && time.position(oid).is_some() {
                found.swap(kept, at);
                kept += 1;
            }
        }
        found.truncate(kept);
    }
}

/// When objects lie so close together on average, reading all between them is cheaper than
/// reading each on its own.
const CLOSE_BYTES_MAX: u64 = 1 << 12;

/// Reads records in the order of their positions.
struct Reader<'a> {
    generation: &'a Generation,
    window: Window<'a>,
    buffer: Vec<u8>,
    is_dense: bool,
}

impl<'a> Reader<'a> {
    fn new(generation: &'a Generation) -> Self {
        let window = Window::new(&generation.file, &generation.path);
        Self {
            generation,
            window,
            buffer: Vec::new(),
            is_dense: false,
        }
    }

    /// Choose how to read a round of records.
    fn prepare(&mut self, round: &[(u64, Oid)]) {
        let (first, last) = (round.first(), round.last());
        let span = first.zip(last).map_or(0, |(first, last)| last.0 - first.0);
        self.is_dense = round.len() > 1 && span / (round.len() as u64) < CLOSE_BYTES_MAX;
    }

    /// The data of the record at a position; none where the object did not exist.
    fn data(&mut self, position: u64) -> Result<Option<&[u8]>> {
        if self.is_dense {
            let header = self.window.at(position, RECORD_HEADER_LEN)?;
            let header = RecordHeader::parse(header).ok();
            let len = header.map_or(0, |header| usize::try_from(header.data_len).unwrap_or(0));
            let place = position + RECORD_HEADER_LEN as u64;
            // What is unusual, or cut off, is read (or refused) in the usual way.
            if len > 0 && self.window.at(place, len)?.len() == len {
                return self.window.at(place, len).map(Some);
            }
        }
        self.generation.data_in(position, &mut self.buffer)
    }
}

/// The references of a record.
pub(super) fn find(
    watch: &mut dyn PackWatch,
    data: &[u8],
    found: &mut Vec<Oid>,
    oid: Oid,
) -> Result<()> {
    watch
        .references(data, found)
        .map_err(|problem| Error::References { oid, problem })
}

/// What is referred to by any record in a part of the file.
fn later_references(
    generation: &Arc<Generation>,
    part: Range<u64>,
    watch: &mut dyn PackWatch,
    found: &mut Vec<Oid>,
) -> Result<()> {
    let mut position = part.start.max(FIRST_TRANSACTION);
    let mut buffer = Vec::new();
    while position < part.end {
        let (header, _) = generation.transaction_at(position)?;
        let end = position + header.length;
        let mut at = position + header.len();
        while at < end && header.status != perdure_format::file::Status::Skipped {
            let record = generation.header_at(at)?;
            if record.data_len > 0
                && let Some(data) = generation.data_in(at, &mut buffer)?
            {
                find(watch, data, found, record.oid)?;
            }
            at += record.record_len();
        }
        position = end + perdure_format::file::TRAILER_LEN;
        report(watch, PackPhase::Mark, 0, 0)?;
    }
    Ok(())
}
