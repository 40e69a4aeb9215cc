//! Where every object's current record stands: a saved base, and what came since.
//!
//! Lookups take no lock. The base is a file of checksummed blocks that are fetched when first
//! needed, so an open costs the same whatever the number of objects; what was committed since is
//! kept in memory, and so is a base that was just made.

mod base;
mod delta;
mod found;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use perdure_format::Oid;
use perdure_format::index::Entry;

pub(crate) use base::{Base, Damaged, write_index};
pub(crate) use delta::Delta;
pub(crate) use found::Found;

/// What an index begins with.
#[derive(Debug)]
enum Layer {
    Saved(Base),
    Found(Found),
}

impl Layer {
    fn get(&self, oid: Oid) -> Result<Option<u64>, Damaged> {
        match self {
            Self::Saved(base) => base.get(oid),
            Self::Found(found) => Ok(found.get(oid)),
        }
    }

    fn at_or_after(&self, oid: Oid) -> Result<Option<Entry>, Damaged> {
        match self {
            Self::Saved(base) => base.at_or_after(oid),
            Self::Found(found) => Ok(found.at_or_after(oid)),
        }
    }
}

/// The positions of all current records of one data file.
#[derive(Debug, Default)]
pub(crate) struct Index {
    base: ArcSwapOption<Layer>,
    delta: Delta,
    objects: AtomicU64,
}

impl Index {
    /// An index over a saved base.
    pub(crate) fn over(base: Base) -> Self {
        let objects = AtomicU64::new(base.header().entries);
        Self {
            base: ArcSwapOption::from_pointee(Layer::Saved(base)),
            delta: Delta::default(),
            objects,
        }
    }

    /// An index over what was found.
    pub(crate) fn of(found: Found) -> Self {
        let objects = AtomicU64::new(found.len());
        Self {
            base: ArcSwapOption::from_pointee(Layer::Found(found)),
            delta: Delta::default(),
            objects,
        }
    }

    /// An index without entries, of a file that had `objects` and is closed.
    pub(crate) fn of_nothing(objects: u64) -> Self {
        Self {
            objects: AtomicU64::new(objects),
            ..Self::default()
        }
    }

    /// How many objects have a record.
    pub(crate) fn len(&self) -> u64 {
        self.objects.load(Ordering::Relaxed)
    }

    /// The position of an object's newest record.
    pub(crate) fn get(&self, oid: Oid) -> Result<Option<u64>, Damaged> {
        match self.delta.get(oid) {
            Some(position) => Ok(Some(position)),
            None => match self.base.load().as_deref() {
                Some(base) => base.get(oid),
                None => Ok(None),
            },
        }
    }

    /// The first entry at or after an oid.
    pub(crate) fn at_or_after(&self, oid: Oid) -> Result<Option<Entry>, Damaged> {
        let newer = self.delta.at_or_after(oid);
        let older = match self.base.load().as_deref() {
            Some(base) => base.at_or_after(oid)?,
            None => None,
        };
        Ok(match (newer, older) {
            (Some(newer), Some(older)) if older.oid < newer.oid => Some(older),
            (None, older) => older,
            (newer, _) => newer,
        })
    }

    /// Note an object's newest record; `is_new` where its transaction found none before it.
    pub(crate) fn insert(&self, oid: Oid, position: u64, is_new: bool) {
        // The transaction may hold two records of a new object: the second isn't new to the delta.
        if self.delta.insert(oid, position) && is_new {
            self.objects.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Put what was found in place of a damaged base.
    pub(crate) fn mend_base(&self, found: Found) {
        self.base.store(Some(Arc::new(Layer::Found(found))));
    }

    /// Read from a saved base that was made of this index, from now on.
    pub(crate) fn replace_base(&self, base: Base) {
        self.base.store(Some(Arc::new(Layer::Saved(base))));
    }

    /// How much of the data file the saved base covers; none where the base is in memory.
    pub(crate) fn saved_end(&self) -> Option<u64> {
        match self.base.load().as_deref()? {
            Layer::Saved(base) => Some(base.header().end),
            Layer::Found(_) => None,
        }
    }
}
