//! An index made by scanning the data file.

use perdure_format::Oid;
use perdure_format::file::{RecordHeader, TransactionHeader};
use perdure_format::index::Entry;

use crate::index::Found;
use crate::scan::Visitor;

/// The entries that a scan finds.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    found: Vec<Entry>,
    whole: usize,
}

impl Visitor for Entries {
    fn record(&mut self, position: u64, header: &RecordHeader) {
        self.found.push(Entry {
            oid: header.oid,
            position,
        });
    }

    fn transaction(&mut self, _position: u64, _header: &TransactionHeader) {
        self.whole = self.found.len();
    }

    fn discard(&mut self) {
        self.found.truncate(self.whole);
    }
}

impl Entries {
    /// One entry an object, its newest, in the order of the oids.
    pub(crate) fn current(&mut self) -> &[Entry] {
        // Stable: of an object's entries the last one found stays last.
        sort(&mut self.found);
        let mut newest: Vec<Entry> = Vec::with_capacity(self.found.len());
        for entry in &self.found {
            match newest.last_mut() {
                Some(last) if last.oid == entry.oid => *last = *entry,
                _ => newest.push(*entry),
            }
        }
        self.found = newest;
        &self.found
    }

    /// The greatest oid found; call after [`Entries::current`].
    pub(crate) fn max_oid(&self) -> Oid {
        self.found.last().map_or(Oid::ZERO, |entry| entry.oid)
    }

    /// The entries as the base of an index.
    pub(crate) fn into_found(mut self) -> Found {
        self.current();
        Found::sorted(self.found)
    }
}

/// How many bits of an oid are looked at in a turn.
const DIGIT_BITS: u32 = 11;
const DIGITS: usize = 1 << DIGIT_BITS;

/// Sort by oid, those of one oid staying in their order: digit by digit, the lowest first.
fn sort(entries: &mut Vec<Entry>) {
    if entries.is_sorted_by_key(|entry| entry.oid) {
        return;
    }
    let greatest = entries.iter().map(|entry| entry.oid.0).max().unwrap_or(0);
    let mut sorted = entries.clone();
    let mut shift = 0;
    while shift < u64::BITS - greatest.leading_zeros() {
        let digit = |entry: &Entry| {
            let digit = entry.oid.0 >> shift & (DIGITS as u64 - 1);
            usize::try_from(digit).unwrap_or(0)
        };
        let mut places = [0_usize; DIGITS];
        for entry in entries.iter() {
            if let Some(count) = places.get_mut(digit(entry)) {
                *count += 1;
            }
        }
        let mut place = 0;
        for count in &mut places {
            place += std::mem::replace(count, place);
        }
        for entry in entries.iter() {
            if let Some(place) = places.get_mut(digit(entry))
                && let Some(slot) = sorted.get_mut(*place)
            {
                *slot = *entry;
                *place += 1;
            }
        }
        std::mem::swap(entries, &mut sorted);
        shift += DIGIT_BITS;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_sorted_by_oid_and_those_of_one_stay_in_order() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for bits in [1, 3, 11, 12, 22, 23, 40, 63, 64] {
            for len in [0, 1, 2, 100, 5000] {
                let mut entries: Vec<Entry> = (0..len)
                    .map(|position| {
                        state ^= state << 13;
                        state ^= state >> 7;
                        state ^= state << 17;
                        let oid = Oid(state >> (64 - bits));
                        Entry { oid, position }
                    })
                    .collect();
                let mut expected = entries.clone();
                expected.sort_by_key(|entry| entry.oid);
                sort(&mut entries);
                let pairs = |all: &[Entry]| -> Vec<_> {
                    all.iter().map(|each| (each.oid, each.position)).collect()
                };
                assert_eq!(
                    pairs(&entries),
                    pairs(&expected),
                    "{bits} bits, {len} entries"
                );
            }
        }
    }
}
