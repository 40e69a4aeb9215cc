//! Which objects a connection has had in memory: all others need no invalidation.
//!
//! A cache may hold a ghost for each of a million references. Looking each of them up that somebody
//! else has changed costs several cache misses of the processor; asking here costs next to none.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::oids::Bits;

/// Fewer words than this are never worth being made anew.
const WORDS_KEPT: usize = 1 << 12;

/// The oids of all objects that may have a state, and of some that have none any more.
#[derive(Debug, Default)]
pub struct Loaded {
    oids: Bits,
    /// There was an oid that is none: any object may be loaded.
    is_unsure: bool,
}

impl Loaded {
    /// All objects in a cache.
    pub fn all_of(cache: Option<&Bound<'_, PyAny>>) -> Self {
        let mut loaded = Self::default();
        let Some(cache) = cache else {
            return loaded;
        };
        let data = cache.getattr(intern!(cache.py(), "cache_data"));
        match data.as_ref().map(|data| data.cast::<PyDict>()) {
            Ok(Ok(data)) => {
                for oid in data.keys() {
                    loaded.note(oid.cast::<PyBytes>().map_or(&[][..], |oid| oid.as_bytes()));
                }
            }
            _ => loaded.is_unsure = true,
        }
        loaded
    }

    /// Note that an object may have a state from now on.
    pub fn note(&mut self, oid: &[u8]) {
        if self.oids.insert(oid).is_none() {
            self.is_unsure = true;
        }
    }

    /// Whether the object may have a state.
    pub fn may_have(&self, oid: &[u8]) -> bool {
        self.is_unsure || self.oids.contains(oid).unwrap_or(true)
    }

    /// Whether it takes much more memory than it would for a cache of so many objects.
    pub fn is_stale(&self, cached: usize) -> bool {
        self.oids.words() > WORDS_KEPT.max(2 * cached)
    }
}

#[cfg(test)]
mod tests {
    use perdure_format::Oid;

    use super::*;

    #[test]
    fn what_was_noted_is_known_and_nothing_else() {
        let mut loaded = Loaded::default();
        let oids = [0, 1, 63, 64, 4095, u64::MAX];
        for oid in oids {
            loaded.note(&Oid(oid).to_bytes());
        }
        for oid in oids {
            assert!(loaded.may_have(&Oid(oid).to_bytes()));
            assert!(!loaded.may_have(&Oid(oid ^ 2).to_bytes()));
        }
    }

    #[test]
    fn an_oid_that_is_none_may_be_any() {
        let mut loaded = Loaded::default();
        assert!(loaded.may_have(b"short"));
        assert!(!loaded.may_have(&Oid(5).to_bytes()));
        loaded.note(b"short");
        assert!(loaded.may_have(&Oid(5).to_bytes()));
    }

    #[test]
    fn many_scattered_oids_are_stale_beside_a_small_cache() {
        let mut loaded = Loaded::default();
        for number in 0..10_000_u64 {
            loaded.note(&Oid(number << 20).to_bytes());
        }
        assert!(loaded.is_stale(10));
        assert!(!loaded.is_stale(10_000));
    }
}
