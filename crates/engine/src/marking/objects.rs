//! The objects of one moment: where the revision of each stands, and whether it is reachable.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use perdure_format::Oid;
use perdure_format::file::{RecordHeader, TransactionHeader};

use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::pack::oids::OidMap;
use crate::pack::{PackPhase, PackWatch, report};
use crate::scan::{self, Stop, Visitor};

/// How many transactions are read between two reports.
const REPORT_EVERY: u64 = 1024;
/// The bit of a position that says that the object is reachable: no file is so long.
const MARK: u64 = 1 << 63;

/// Positions by oid, each with a mark that any thread may set. 0 stands for none.
#[derive(Debug, Default)]
pub(crate) struct Objects {
    dense: Vec<AtomicU64>,
    sparse: HashMap<u64, AtomicU64>,
    count: u64,
}

/// Notes the last record of each object.
struct Newest<'a> {
    positions: OidMap,
    end: u64,
    transactions: u64,
    watch: &'a mut dyn PackWatch,
    stopped: Option<Error>,
}

impl Visitor for Newest<'_> {
    fn record(&mut self, position: u64, header: &RecordHeader) {
        self.positions.insert(header.oid, position);
    }

    fn transaction(&mut self, position: u64, _header: &TransactionHeader) {
        if self.transactions.is_multiple_of(REPORT_EVERY) && self.stopped.is_none() {
            self.stopped = report(self.watch, PackPhase::Scan, position, self.end).err();
        }
        self.transactions += 1;
    }

    fn discard(&mut self) {}
}

impl Objects {
    /// Scan a file up to a position where a transaction ends.
    pub(crate) fn find(
        generation: &Generation,
        end: u64,
        watch: &mut dyn PackWatch,
    ) -> Result<Self> {
        let mut newest = Newest {
            positions: OidMap::with_room(generation.index.len()),
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
        let (position, problem) = match scanned.stop {
            None => return Ok(Self::from(newest.positions)),
            Some(Stop::Voted(_)) => (scanned.end, "a transaction that was not finished".into()),
            Some(Stop::Torn(problem)) => (scanned.end, problem),
            Some(Stop::Damaged { position, problem }) => (position, problem),
        };
        Err(generation.corrupted(position, problem))
    }

    fn slot(&self, oid: Oid) -> Option<&AtomicU64> {
        let place = usize::try_from(oid.0).unwrap_or(usize::MAX);
        let dense = self.dense.get(place);
        dense
            .filter(|slot| slot.load(Ordering::Relaxed) != 0)
            .or_else(|| self.sparse.get(&oid.0))
    }

    /// Where the object's revision stands.
    pub(crate) fn position(&self, oid: Oid) -> Option<u64> {
        self.slot(oid)
            .map(|slot| slot.load(Ordering::Relaxed) & !MARK)
    }

    /// Mark an object as reachable; its position, if it was not marked before.
    pub(crate) fn mark(&self, oid: Oid) -> Option<u64> {
        let slot = self.slot(oid)?;
        // Most references lead to what is marked already: look before writing.
        if slot.load(Ordering::Relaxed) & MARK != 0 {
            return None;
        }
        let before = slot.fetch_or(MARK, Ordering::Relaxed);
        (before & MARK == 0).then_some(before)
    }

    /// Is the object reachable?
    pub(crate) fn is_marked(&self, oid: Oid) -> bool {
        self.slot(oid)
            .is_some_and(|slot| slot.load(Ordering::Relaxed) & MARK != 0)
    }

    /// How many objects there are.
    pub(crate) fn len(&self) -> u64 {
        self.count
    }

    /// The objects that are not marked, with their positions.
    pub(crate) fn unmarked(&self) -> impl Iterator<Item = (Oid, u64)> + '_ {
        let dense = (0..).zip(&self.dense);
        let sparse = self.sparse.iter().map(|(oid, slot)| (*oid, slot));
        dense
            .chain(sparse)
            .map(|(oid, slot)| (Oid(oid), slot.load(Ordering::Relaxed)))
            .filter(|(_, value)| *value != 0 && value & MARK == 0)
    }
}

impl From<OidMap> for Objects {
    fn from(positions: OidMap) -> Self {
        let count = positions.len();
        let (dense, sparse) = positions.into_parts();
        Self {
            // In place: the two have one layout.
            dense: dense.into_iter().map(AtomicU64::new).collect(),
            sparse: sparse
                .into_iter()
                .map(|(oid, position)| (oid, AtomicU64::new(position)))
                .collect(),
            count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_marked_once_wherever_it_lies() {
        let mut positions = OidMap::default();
        let oids = [0, 1, 70_000, 1 << 40, u64::MAX];
        for (number, oid) in (4..).zip(oids) {
            positions.insert(Oid(oid), number);
        }
        let objects = Objects::from(positions);
        assert_eq!(objects.len(), 5);
        for (number, oid) in (4..).zip(oids) {
            assert_eq!(objects.mark(Oid(oid)), Some(number));
            assert_eq!(objects.mark(Oid(oid)), None);
            assert_eq!(objects.position(Oid(oid)), Some(number));
            assert!(objects.is_marked(Oid(oid)));
        }
        assert_eq!(objects.mark(Oid(2)), None);
        assert_eq!(objects.unmarked().count(), 0);
    }

    #[test]
    fn what_is_not_marked_is_told_with_its_position() {
        let mut positions = OidMap::default();
        for oid in [3, 5, 1 << 50] {
            positions.insert(Oid(oid), oid * 2);
        }
        let objects = Objects::from(positions);
        objects.mark(Oid(5));
        let mut left: Vec<_> = objects.unmarked().collect();
        left.sort_unstable();
        assert_eq!(left, [(Oid(3), 6), (Oid(1 << 50), 1 << 51)]);
    }
}
