//! How objects are reached from the root.

use std::collections::{HashSet, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use perdure_format::Oid;
use perdure_format::pickle::{self, Reference};

use super::REPORT_EVERY;
use super::checker::class_of;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::pack::oids::OidMap;

/// Longer paths are cut off: they are for people.
const STEPS_MAX: usize = 100;

/// For each object met, the object that it was reached from, plus one.
pub(super) struct Paths {
    parents: OidMap,
}

impl Paths {
    /// Follow references from the root until all of `wanted` are met. `watch` may ask to stop.
    pub(super) fn find(
        generation: &Arc<Generation>,
        positions: &OidMap,
        wanted: &HashSet<Oid>,
        watch: &mut dyn FnMut() -> ControlFlow<()>,
    ) -> Result<Self> {
        let mut parents = OidMap::default();
        let mut missing = wanted.len() - usize::from(wanted.contains(&Oid::ZERO));
        parents.insert(Oid::ZERO, 1);
        let mut waiting = VecDeque::from([Oid::ZERO]);
        let (mut buffer, mut followed) = (Vec::new(), 0_u64);
        while let Some(oid) = waiting.pop_front() {
            if missing == 0 {
                break;
            }
            followed += 1;
            if followed.is_multiple_of(REPORT_EVERY) && watch().is_break() {
                return Err(Error::PackStopped);
            }
            let Some(position) = positions.get(oid).filter(|position| *position != 0) else {
                continue;
            };
            let Ok(Some(data)) = generation.data_in(position, &mut buffer) else {
                continue;
            };
            // What cannot be read to its end has the references before that.
            let _ = pickle::references(data, |reference| {
                if let Reference::Same(target) = reference
                    && parents.get(target).is_none()
                {
                    parents.insert(target, oid.0.saturating_add(1));
                    missing -= usize::from(wanted.contains(&target));
                    waiting.push_back(target);
                }
            });
        }
        Ok(Self { parents })
    }

    /// The objects from the root to this one, each with its class; empty where there is no way.
    pub(super) fn to(
        &self,
        oid: Oid,
        generation: &Arc<Generation>,
        positions: &OidMap,
    ) -> Vec<(Oid, String)> {
        let mut path = Vec::new();
        let mut at = oid;
        let mut buffer = Vec::new();
        while path.len() < STEPS_MAX {
            let Some(parent) = self.parents.get(at) else {
                return Vec::new();
            };
            let position = positions.get(at).unwrap_or(0);
            let data = generation.data_in(position, &mut buffer).ok().flatten();
            path.push((at, class_of(data.unwrap_or_default())));
            if at == Oid::ZERO {
                break;
            }
            at = Oid(parent - 1);
        }
        path.reverse();
        path
    }
}
