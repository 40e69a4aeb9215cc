//! What was current at the pack time, and what is reachable.

use std::ops::Range;
use std::sync::Arc;

use perdure_format::Oid;
use perdure_format::file::{FIRST_TRANSACTION, RecordHeader, TransactionHeader};

use super::oids::{OidMap, OidSet};
use super::{PackPhase, PackWatch, report};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::scan::{self, Stop, Visitor};

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
        let mut waiting = vec![Oid::ZERO];
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        later_references(generation, later, watch, &mut waiting)?;
        while let Some(oid) = waiting.pop() {
            if !marks.0.insert(oid) {
                continue;
            }
            if marks.0.len().is_multiple_of(REPORT_EVERY) {
                report(watch, PackPhase::Mark, marks.0.len(), time.positions.len())?;
            }
            let Some(position) = time.position(oid) else {
                continue;
            };
            if let Some(data) = generation.data_in(position, &mut buffer)? {
                found.clear();
                find(watch, data, &mut found, oid)?;
                // What is marked need not wait: the list stays short.
                waiting.extend(found.iter().filter(|oid| !marks.contains(**oid)));
            }
        }
        Ok(marks)
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
