//! Numbers by oid, for one thread, in little memory.

use std::collections::HashMap;

use perdure_format::Oid;

/// Numbers by oid. 0 stands for none.
///
/// Oids are mostly consecutive from zero: those stand in one array, the others in a map.
#[derive(Debug, Default)]
pub(crate) struct OidMap {
    dense: Vec<u64>,
    sparse: HashMap<u64, u64>,
    filled: usize,
}

/// How far the array may reach beyond what would fill it.
const SLACK: usize = 1 << 16;

/// For how many numbers room is made beforehand, at the most.
const ROOM_MAX: u64 = 1 << 27;

impl OidMap {
    /// A map with room for about so many oids: the array need not be copied as it grows. Room that
    /// is not used takes no memory.
    pub(crate) fn with_room(oids: u64) -> Self {
        let mut map = Self::default();
        let room = usize::try_from(oids.min(ROOM_MAX)).unwrap_or(0);
        // It grows in any case.
        let _ = map.dense.try_reserve_exact(room);
        map
    }

    /// Where the oid stands in the array, if it may.
    fn place(&self, oid: Oid) -> Option<usize> {
        let limit = self.filled.saturating_mul(4).saturating_add(SLACK);
        usize::try_from(oid.0)
            .ok()
            .filter(|place| *place < limit.max(self.dense.len()))
    }

    pub(crate) fn get(&self, oid: Oid) -> Option<u64> {
        let dense = usize::try_from(oid.0)
            .ok()
            .and_then(|place| self.dense.get(place))
            .copied();
        match dense {
            Some(number) if number != 0 => Some(number),
            _ if self.sparse.is_empty() => None,
            _ => self.sparse.get(&oid.0).copied().filter(|it| *it != 0),
        }
    }

    /// Set the number of an oid; whether it had none.
    pub(crate) fn insert(&mut self, oid: Oid, number: u64) -> bool {
        if let Some(known) = self.sparse.get_mut(&oid.0) {
            let is_new = std::mem::replace(known, number) == 0;
            self.filled += usize::from(is_new);
            return is_new;
        }
        let Some(place) = self.place(oid) else {
            self.filled += 1;
            return self.sparse.insert(oid.0, number).is_none();
        };
        if self.dense.len() <= place {
            self.dense.resize(place + 1, 0);
        }
        let Some(slot) = self.dense.get_mut(place) else {
            return false;
        };
        let is_new = *slot == 0;
        *slot = number;
        self.filled += usize::from(is_new);
        is_new
    }

    /// Have oids whose number is `least` or more have none.
    pub(crate) fn forget_from(&mut self, least: u64) {
        let numbers = self.dense.iter_mut().chain(self.sparse.values_mut());
        for number in numbers.filter(|number| **number >= least.max(1)) {
            *number = 0;
            self.filled -= 1;
        }
    }

    /// All oids with their numbers, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Oid, u64)> + '_ {
        let dense = (0..).zip(self.dense.iter().copied());
        let sparse = self.sparse.iter().map(|(oid, number)| (*oid, *number));
        let all = dense.chain(sparse);
        all.filter(|(_, number)| *number != 0)
            .map(|(oid, number)| (Oid(oid), number))
    }

    /// The array, and what does not stand in it.
    pub(crate) fn into_parts(self) -> (Vec<u64>, HashMap<u64, u64>) {
        (self.dense, self.sparse)
    }

    /// How many oids have a number.
    pub(crate) fn len(&self) -> u64 {
        self.filled as u64
    }
}

/// A set of oids: mostly one bit for each.
#[derive(Debug, Default)]
pub(crate) struct OidSet {
    words: OidMap,
}

impl OidSet {
    pub(crate) fn insert(&mut self, oid: Oid) {
        let (word, bit) = (Oid(oid.0 / 64), 1 << (oid.0 % 64));
        let bits = self.words.get(word).unwrap_or(0);
        // Most references lead to what others refer to, too.
        if bits & bit == 0 {
            self.words.insert(word, bits | bit);
        }
    }

    /// Take one out; whether it was there.
    pub(crate) fn remove(&mut self, oid: Oid) -> bool {
        let (word, bit) = (Oid(oid.0 / 64), 1 << (oid.0 % 64));
        let bits = self.words.get(word).unwrap_or(0);
        if bits & bit != 0 {
            self.words.insert(word, bits & !bit);
        }
        bits & bit != 0
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Oid> + '_ {
        self.words.iter().flat_map(|(word, bits)| {
            let set = (0..64).filter(move |place| bits >> place & 1 == 1);
            set.map(move |place| Oid(word.0 * 64 + place))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_forgotten_has_no_number() {
        let mut map = OidMap::default();
        for oid in [1, 2, 1 << 40, 1 << 41] {
            map.insert(Oid(oid), oid + 1);
        }
        map.forget_from(3);
        let left: Vec<_> = map.iter().collect();
        assert_eq!((left, map.len()), (vec![(Oid(1), 2)], 1));
        for oid in [2, 1 << 40] {
            assert_eq!(map.get(Oid(oid)), None);
            assert!(map.insert(Oid(oid), 5));
            assert_eq!(map.get(Oid(oid)), Some(5));
        }
        assert_eq!(map.len(), 3);
    }

    #[test]
    fn a_set_tells_what_was_put_into_it() {
        let mut set = OidSet::default();
        let oids = [0, 1, 63, 64, 1 << 30, 1 << 50, u64::MAX];
        for oid in oids.into_iter().chain(oids) {
            set.insert(Oid(oid));
        }
        let mut found: Vec<u64> = set.iter().map(|oid| oid.0).collect();
        found.sort_unstable();
        assert_eq!(found, oids);
    }

    #[test]
    fn oids_keep_their_numbers_wherever_they_lie() {
        let mut map = OidMap::default();
        let oids: Vec<u64> = (0..5000).chain([1 << 20, 1 << 40, u64::MAX]).collect();
        for &oid in &oids {
            assert!(map.insert(Oid(oid), oid ^ 1 << 63));
            assert!(!map.insert(Oid(oid), oid ^ 1 << 62));
        }
        for &oid in &oids {
            assert_eq!(map.get(Oid(oid)), Some(oid ^ 1 << 62));
        }
        let mut all: Vec<_> = map.iter().collect();
        all.sort_unstable();
        let expected = oids.iter().map(|&oid| (Oid(oid), oid ^ 1 << 62));
        assert_eq!(all, expected.collect::<Vec<_>>());
        assert_eq!(map.get(Oid(5000)), None);
        assert_eq!(map.len(), oids.len() as u64);
    }

    #[test]
    fn an_oid_that_came_early_is_found_when_the_array_has_grown_past_it() {
        let mut map = OidMap::default();
        let late = (SLACK + 10) as u64;
        map.insert(Oid(late), 7);
        for oid in 0..late * 2 {
            if oid != late {
                map.insert(Oid(oid), 1);
            }
        }
        assert_eq!(map.get(Oid(late)), Some(7));
        map.insert(Oid(late), 8);
        assert_eq!(map.get(Oid(late)), Some(8));
    }
}
