//! Sets of oids, in little memory.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use perdure_format::Oid;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// Oids are mostly consecutive: a word has a bit for each of so many.
const WORD_BITS: u64 = 64;

/// A set of oids of eight bytes.
#[derive(Debug, Default)]
pub struct Bits {
    words: HashMap<u64, u64, BuildHasherDefault<Mixer>>,
}

impl Bits {
    /// Add an oid; whether it is new, or none where it has not eight bytes.
    pub fn insert(&mut self, oid: &[u8]) -> Option<bool> {
        let (word, bit) = place(oid)?;
        let bits = self.words.entry(word).or_default();
        let is_new = *bits & bit == 0;
        *bits |= bit;
        Some(is_new)
    }

    /// Whether an oid was added, or none where it has not eight bytes.
    pub fn contains(&self, oid: &[u8]) -> Option<bool> {
        let (word, bit) = place(oid)?;
        Some(self.words.get(&word).is_some_and(|bits| bits & bit != 0))
    }

    /// How many words it takes.
    pub fn words(&self) -> usize {
        self.words.len()
    }
}

fn place(oid: &[u8]) -> Option<(u64, u64)> {
    let oid = Oid::from_bytes(oid.try_into().ok()?);
    Some((oid.0 / WORD_BITS, 1 << (oid.0 % WORD_BITS)))
}

/// A set of oids: a bit for each of those that follow one another.
#[pyclass(frozen, module = "perdure._native")]
#[derive(Debug, Default)]
pub struct OidSet(Mutex<Parts>);

#[derive(Debug, Default)]
struct Parts {
    oids: Bits,
    /// Those of other storages' making, if they have not eight bytes.
    others: HashSet<Box<[u8]>>,
    count: usize,
}

#[pymethods]
impl OidSet {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Add an oid.
    fn add(&self, oid: &Bound<'_, PyBytes>) {
        self.insert(oid.as_bytes());
    }

    fn __contains__(&self, oid: &Bound<'_, PyAny>) -> bool {
        oid.cast::<PyBytes>()
            .is_ok_and(|oid| self.has(oid.as_bytes()))
    }

    fn __len__(&self) -> usize {
        self.parts().count
    }
}

impl OidSet {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Add an oid.
    pub fn insert(&self, oid: &[u8]) {
        let mut parts = self.parts();
        let is_new = match parts.oids.insert(oid) {
            Some(is_new) => is_new,
            None => parts.others.insert(oid.into()),
        };
        parts.count += usize::from(is_new);
    }

    /// Whether an oid is in it.
    pub fn has(&self, oid: &[u8]) -> bool {
        let parts = self.parts();
        let known = parts.oids.contains(oid);
        known.unwrap_or_else(|| parts.others.contains(oid))
    }
}

/// Spreads the numbers of words: nobody gains by making them collide in a cache of his own.
#[derive(Debug, Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oids_are_counted_once_whatever_their_length() {
        let set = OidSet::default();
        let oids: [&[u8]; 4] = [&[0; 8], &[0xff; 8], b"short", b"longer than others"];
        for oid in oids.into_iter().chain(oids) {
            set.insert(oid);
        }
        assert_eq!(set.__len__(), 4);
        assert!(oids.into_iter().all(|oid| set.has(oid)));
        assert!(!set.has(&[0, 0, 0, 0, 0, 0, 0, 1]) && !set.has(b"shor"));
    }
}
