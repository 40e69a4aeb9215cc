//! Positions that were found by reading a file, or by writing one, as a base in memory.

use perdure_format::Oid;
use perdure_format::index::Entry;

use crate::pack::oids::OidMap;

/// The current records of the objects of a file; never changed.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// By oid; 0, where no record can be, stands for none.
    dense: Vec<u64>,
    /// In the order of their oids, which may be any; none of them has a place in the array.
    sparse: Vec<Entry>,
    count: u64,
}

impl Found {
    /// Entries in the order of their oids, one an object.
    pub(crate) const fn sorted(entries: Vec<Entry>) -> Self {
        let count = entries.len() as u64;
        Self {
            dense: Vec::new(),
            sparse: entries,
            count,
        }
    }

    /// How many objects there are.
    pub(crate) const fn len(&self) -> u64 {
        self.count
    }

    fn in_array(&self, oid: u64) -> Option<u64> {
        let place = usize::try_from(oid).ok()?;
        self.dense.get(place).copied().filter(|it| *it != 0)
    }

    pub(crate) fn get(&self, oid: Oid) -> Option<u64> {
        self.in_array(oid.0).or_else(|| {
            let place = self.sparse.binary_search_by_key(&oid, |entry| entry.oid);
            self.sparse.get(place.ok()?).map(|entry| entry.position)
        })
    }

    pub(crate) fn at_or_after(&self, oid: Oid) -> Option<Entry> {
        let place = self.sparse.partition_point(|entry| entry.oid < oid);
        let sparse = self.sparse.get(place).copied();
        let start = usize::try_from(oid.0).unwrap_or(usize::MAX);
        let rest = self.dense.get(start..).unwrap_or_default();
        let dense = rest.iter().position(|position| *position != 0);
        let dense = dense.and_then(|skipped| {
            let oid = oid.0 + skipped as u64;
            let position = self.in_array(oid)?;
            Some(Entry {
                oid: Oid(oid),
                position,
            })
        });
        match (dense, sparse) {
            (Some(dense), Some(sparse)) if sparse.oid < dense.oid => Some(sparse),
            (dense, sparse) => dense.or(sparse),
        }
    }
}

impl From<OidMap> for Found {
    fn from(positions: OidMap) -> Self {
        let count = positions.len();
        let (dense, sparse) = positions.into_parts();
        let entries = sparse.into_iter().map(|(oid, position)| Entry {
            oid: Oid(oid),
            position,
        });
        let mut sparse: Vec<Entry> = entries.collect();
        sparse.sort_unstable_by_key(|entry| entry.oid);
        Self {
            dense,
            sparse,
            count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_found_again_in_the_order_of_the_oids() {
        let oids = [0, 3, 64, 70_000, 1 << 40, u64::MAX];
        let mut positions = OidMap::default();
        let mut entries = Vec::new();
        for (oid, position) in oids.into_iter().zip(4..) {
            positions.insert(Oid(oid), position);
            entries.push(Entry {
                oid: Oid(oid),
                position,
            });
        }
        for found in [Found::from(positions), Found::sorted(entries.clone())] {
            assert_eq!(found.len(), 6);
            let mut next = Some(Oid::ZERO);
            for entry in &entries {
                assert_eq!(found.get(entry.oid), Some(entry.position));
                assert_eq!(found.get(Oid(entry.oid.0 ^ 8)), None);
                let here = next.and_then(|oid| found.at_or_after(oid));
                assert_eq!(here, Some(*entry));
                next = entry.oid.0.checked_add(1).map(Oid);
            }
            assert_eq!(next, None);
            assert_eq!(found.at_or_after(Oid(65)), entries.get(3).copied());
        }
        assert_eq!(Found::default().at_or_after(Oid::ZERO), None);
    }
}
