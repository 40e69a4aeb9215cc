//! What was committed since the index was saved.

use std::sync::atomic::Ordering;

use crossbeam_skiplist::SkipMap;
use perdure_format::Oid;
use perdure_format::index::Entry;

use crate::sync::AtomicU64;

/// Oids are mostly consecutive, so a page of positions serves a run of them with one search.
const PAGE_LEN: u64 = 64;

/// Positions by oid; 0, where no record can be, stands for none.
#[derive(Debug, Default)]
pub(crate) struct Delta {
    pages: SkipMap<u64, Box<[AtomicU64]>>,
}

fn place(oid: Oid) -> (u64, usize) {
    let slot = (oid.0 % PAGE_LEN) as usize;
    (oid.0 / PAGE_LEN, slot)
}

impl Delta {
    pub(crate) fn get(&self, oid: Oid) -> Option<u64> {
        let (page, slot) = place(oid);
        let entry = self.pages.get(&page)?;
        let position = entry.value().get(slot)?.load(Ordering::Acquire);
        (position != 0).then_some(position)
    }

    /// Note a position; tells whether there was none.
    pub(crate) fn insert(&self, oid: Oid, position: u64) -> bool {
        let (page, slot) = place(oid);
        let empty = || (0..PAGE_LEN).map(|_| AtomicU64::new(0)).collect();
        let entry = self.pages.get_or_insert_with(page, empty);
        let slot = entry.value().get(slot);
        slot.is_some_and(|slot| slot.swap(position, Ordering::AcqRel) == 0)
    }

    pub(crate) fn at_or_after(&self, oid: Oid) -> Option<Entry> {
        let (first, slot) = place(oid);
        self.pages.range(first..).find_map(|page| {
            let skip = if *page.key() == first { slot } else { 0 };
            let slots = page.value().iter().enumerate().skip(skip);
            let mut filled = slots.map(|(slot, p)| (slot as u64, p.load(Ordering::Acquire)));
            let (slot, position) = filled.find(|(_, position)| *position != 0)?;
            Some(Entry {
                oid: Oid(page.key() * PAGE_LEN + slot),
                position,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_come_back_in_order_from_both_ends_of_the_oids() {
        let delta = Delta::default();
        let oids = [0, 1, 63, 64, 1000, u64::MAX];
        for oid in oids {
            delta.insert(Oid(oid), oid.wrapping_add(5));
        }
        for oid in oids {
            assert_eq!(delta.get(Oid(oid)), Some(oid.wrapping_add(5)));
        }
        assert_eq!(delta.get(Oid(2)), None);
        assert_eq!(delta.at_or_after(Oid(2)).map(|e| e.oid), Some(Oid(63)));
        assert_eq!(delta.at_or_after(Oid(65)).map(|e| e.oid), Some(Oid(1000)));
        assert_eq!(
            delta.at_or_after(Oid(1001)).map(|e| e.oid),
            Some(Oid(u64::MAX))
        );
    }
}
