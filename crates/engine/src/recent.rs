//! The ids of what was written of late.
//!
//! Small transactions mostly change objects that others changed not long ago: whether one was
//! changed since it was read is known then without a look into the file.

use std::sync::{Mutex, PoisonError};

use perdure_format::Tid;

/// How many records are remembered at most; a power of two.
const SLOTS: usize = 1 << 12;

/// Transactions with more records would only drive out what others wrote.
const RECORDS_MAX: usize = 1 << 8;

/// Ids by the positions of records in one data file.
///
/// Used only under the commit lock, so nobody ever waits for the one within.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    /// Where a record is remembered follows from its position; 0, where none can be, for nothing.
    slots: Mutex<Vec<(u64, Tid)>>,
}

fn slot(position: u64) -> usize {
    // A multiplication spreads positions that lie close together; its upper bits are the best.
    let spread = position.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (spread >> 32) as usize % SLOTS
}

impl Recent {
    /// The id of the transaction that wrote the record at a position, if that is remembered.
    pub(crate) fn tid_at(&self, position: u64) -> Option<Tid> {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let &(known, tid) = slots.get(slot(position))?;
        (known == position).then_some(tid)
    }

    /// Remember that a transaction wrote the records at these positions, and will stay.
    pub(crate) fn note(&self, positions: impl ExactSizeIterator<Item = u64>, tid: Tid) {
        if positions.len() > RECORDS_MAX {
            return;
        }
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.is_empty() {
            slots.resize(SLOTS, (0, Tid::ZERO));
        }
        for position in positions {
            if let Some(slot) = slots.get_mut(slot(position)) {
                *slot = (position, tid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_right_and_the_newest_always_is() {
        let recent = Recent::default();
        assert_eq!(recent.tid_at(4), None);
        let positions = |n: u64| [4 + n * 61, 5000 + n * 997];
        for n in 0..20_000 {
            recent.note(positions(n).into_iter(), Tid(n + 1));
            assert_eq!(recent.tid_at(5000 + n * 997), Some(Tid(n + 1)));
        }
        let known = (0..20_000).flat_map(|n| positions(n).map(|position| (n, position)));
        // Some of the positions are written twice, later ones by a later transaction.
        let newest: std::collections::BTreeMap<u64, u64> =
            known.map(|(n, position)| (position, n + 1)).collect();
        let remembered = newest
            .iter()
            .filter_map(|(&position, &tid)| Some((recent.tid_at(position)?, Tid(tid))));
        let remembered: Vec<_> = remembered.collect();
        assert!(remembered.len() > SLOTS / 2);
        assert!(remembered.iter().all(|(found, written)| found == written));
    }

    #[test]
    fn a_large_transaction_drives_out_nothing() {
        let recent = Recent::default();
        recent.note([77].into_iter(), Tid(1));
        recent.note(vec![77; RECORDS_MAX + 1].into_iter(), Tid(2));
        assert_eq!(recent.tid_at(77), Some(Tid(1)));
    }
}
