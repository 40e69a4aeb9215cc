//! Whether the objects that a transaction refers to are there.
//!
//! It is asked under the commit lock, so that nobody can delete one of them between the answer and
//! the commit. An object that was loaded was there at the snapshot: it is only looked up where
//! something was removed since.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use perdure_format::{Oid, Tid};

use crate::draft::{Content, Draft};
use crate::error::Result;
use crate::generation::Generation;
use crate::store::Store;

/// The objects that a transaction refers to.
#[derive(Clone, Debug, Default)]
pub struct Targets {
    /// Those that were there at the snapshot.
    pub loaded: Vec<Oid>,
    /// Those that nothing is known of.
    pub unknown: Vec<Oid>,
    /// The transaction up to which they were seen.
    pub snapshot: Tid,
    /// [`Store::collections`] when the first of them may have been loaded.
    pub collections: u64,
}

impl Targets {
    /// Add what else a transaction refers to, which sees what it saw before.
    pub fn add_to(self, targets: &mut Option<Self>) {
        match targets {
            Some(before) => {
                before.loaded.extend(self.loaded);
                before.unknown.extend(self.unknown);
            }
            None => *targets = Some(self),
        }
    }
}

/// What was removed since the storage was opened.
#[derive(Debug)]
pub(crate) struct Removals {
    /// The last transaction when the storage was opened: nothing is known of what was before.
    pub(crate) opened_at: Tid,
    /// The last transaction that deleted an object. Changed only under the commit lock.
    last_deletion: AtomicU64,
    /// How many packs dropped garbage. Changed only under the commit lock.
    collections: AtomicU64,
}

impl Removals {
    pub(crate) fn since(opened_at: Tid) -> Self {
        Self {
            opened_at,
            last_deletion: AtomicU64::new(0),
            collections: AtomicU64::new(0),
        }
    }

    pub(crate) fn note_deletion(&self, tid: Tid) {
        self.last_deletion.fetch_max(tid.0, Ordering::AcqRel);
    }

    pub(crate) fn note_collection(&self) {
        self.collections.fetch_add(1, Ordering::AcqRel);
    }
}

impl Store {
    /// How many packs have dropped garbage since the storage was opened.
    #[must_use]
    pub fn collections(&self) -> u64 {
        self.removals.collections.load(Ordering::Acquire)
    }

    /// The last transaction since the storage was opened that deleted an object, visible or not.
    #[must_use]
    pub fn last_deletion(&self) -> Tid {
        Tid(self.removals.last_deletion.load(Ordering::Acquire))
    }

    /// Those of the draft's targets that don't exist, nor begin to by the draft. Under the
    /// commit lock.
    pub(crate) fn targets_gone(&self, draft: &Draft) -> Result<Vec<Oid>> {
        let Some(targets) = &draft.targets else {
            return Ok(Vec::new());
        };
        let is_settled =
            self.last_deletion() <= targets.snapshot && self.collections() == targets.collections;
        let loaded: &[Oid] = if is_settled { &[] } else { &targets.loaded };
        let mut missing = self.absent(targets.unknown.iter().chain(loaded).copied().collect())?;
        if !missing.is_empty() {
            let created = draft.created();
            missing.retain(|oid| !created.contains(oid));
        }
        Ok(missing)
    }

    /// Those of the objects that don't exist in their newest revision, visible or not; in order.
    pub(crate) fn absent(&self, mut oids: Vec<Oid>) -> Result<Vec<Oid>> {
        oids.sort_unstable();
        oids.dedup();
        let generation = self.generation();
        let mut absent = Vec::new();
        for oid in oids {
            if !generation.exists(oid)? {
                absent.push(oid);
            }
        }
        Ok(absent)
    }
}

impl Generation {
    /// Does the object exist in its newest revision, visible or not?
    fn exists(&self, oid: Oid) -> Result<bool> {
        let Some(position) = self.position(oid)? else {
            return Ok(false);
        };
        if self.header_at(position)?.data_len > 0 {
            return Ok(true);
        }
        Ok(self.data_at(position, &mut Vec::new())?.0.is_some())
    }
}

impl Draft {
    /// Note which objects the transaction refers to, besides those it creates.
    pub fn require(&mut self, targets: Targets) {
        targets.add_to(&mut self.targets);
    }

    /// The objects that the draft has data of.
    fn created(&self) -> HashSet<Oid> {
        let records = self.records.iter();
        records
            .filter(|record| record.content() != Content::Position(0))
            .map(|record| record.oid)
            .collect()
    }

    /// Does the draft delete objects?
    #[must_use]
    pub fn deletes(&self) -> bool {
        self.records
            .iter()
            .any(|record| record.content() == Content::Position(0))
    }
}
