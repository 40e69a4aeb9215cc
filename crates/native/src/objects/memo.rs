//! Which objects a pickle has already written.

use pyo3::prelude::*;

use super::classes::ShortMap;

/// How large a memo may be to be kept for the next record.
const KEPT_MAX: usize = 4096;

/// Places in the pickle's memo, by the objects' addresses.
#[derive(Default)]
pub struct Memo {
    places: ShortMap<usize, u32>,
    /// What is written stays alive until the end: an address must not be used twice.
    kept: Vec<Py<PyAny>>,
    count: u32,
}

impl Memo {
    /// The place of `object`, if it was written.
    pub fn place(&self, object: &Bound<'_, PyAny>) -> Option<u32> {
        self.places.get(&(object.as_ptr() as usize)).copied()
    }

    /// Give `object` the next place, and return that.
    pub fn put(&mut self, object: &Bound<'_, PyAny>) -> u32 {
        self.kept.push(object.clone().unbind());
        self.places.insert(object.as_ptr() as usize, self.count);
        self.put_unnamed()
    }

    /// Use up a place for something that nothing can refer to again.
    pub fn put_unnamed(&mut self) -> u32 {
        let place = self.count;
        self.count += 1;
        place
    }

    /// Forget everything.
    pub fn clear(&mut self) {
        self.count = 0;
        if self.places.capacity() > KEPT_MAX {
            self.places = ShortMap::default();
            self.kept = Vec::new();
        } else {
            self.places.clear();
            self.kept.clear();
        }
    }
}
