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

impl OidMap {
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
            _ => self.sparse.get(&oid.0).copied(),
        }
    }

    /// Set the number of an oid; whether it had none.
    pub(crate) fn insert(&mut self, oid: Oid, number: u64) -> bool {
        if let Some(known) = self.sparse.get_mut(&oid.0) {
            *known = number;
            return false;
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

    /// The array, and what does not stand in it.
    pub(crate) fn into_parts(self) -> (Vec<u64>, HashMap<u64, u64>) {
        (self.dense, self.sparse)
    }

    /// How many oids have a number.
    pub(crate) fn len(&self) -> u64 {
        self.filled as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
