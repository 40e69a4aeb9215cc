//! Who refers to whom.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use perdure_format::Oid;
use perdure_format::file::RecordHeader;
use perdure_format::pickle::{self, Reference};

use super::others::{Referrers, Targets};
use super::{Progress, REPORT_EVERY, objects_in, pointer_of};
use crate::generation::Generation;
use crate::pack::oids::OidMap;
use crate::scan::Visitor;

/// Who refers to whom: for each reference the oids of the target and of the referrer, 8 bytes each,
/// sorted and without repetitions.
#[derive(Debug, Default)]
pub struct ReferencePairs {
    /// References within the database.
    pub own: Vec<u8>,
    /// References to other members of the collection, by their names.
    pub others: BTreeMap<String, Vec<u8>>,
}

/// A target, who refers to it, and the position of the record that does.
type Found = (Oid, Oid, u64);

/// The references that are asked for.
struct Wanted {
    /// To these objects of the same database, by whomever.
    own: HashSet<Oid>,
    /// To these of others: the first one to each.
    others: Targets,
}

impl Wanted {
    /// Is it the first reference to an object of another database that was asked for?
    fn take_other(&mut self, database: &[u8], target: Oid) -> bool {
        let name = String::from_utf8_lossy(database);
        let targets = self.others.get_mut(name.as_ref());
        targets.is_some_and(|targets| targets.remove(target))
    }
}

/// Collects references with the position of the record that has them.
pub(crate) struct Pairs<'a> {
    generation: &'a Arc<Generation>,
    end: u64,
    progress: Progress<'a>,
    stopped: bool,
    records: u64,
    positions: OidMap,
    wanted: Option<Wanted>,
    found: Vec<Found>,
    /// References to other members, by the bytes of their names.
    others: BTreeMap<Box<[u8]>, Vec<Found>>,
    buffer: Vec<u8>,
}

impl<'a> Pairs<'a> {
    pub(super) fn new(generation: &'a Arc<Generation>, end: u64, progress: Progress<'a>) -> Self {
        Self {
            generation,
            end,
            progress,
            stopped: false,
            records: 0,
            positions: OidMap::with_room(objects_in(generation, end)),
            wanted: None,
            found: Vec::new(),
            others: BTreeMap::new(),
            buffer: Vec::new(),
        }
    }

    /// Collect only references to these objects; of those to others' objects, one to each.
    pub(super) fn only_to(&mut self, own: HashSet<Oid>, others: Targets) {
        self.wanted = Some(Wanted { own, others });
    }

    /// (target, referrer, position of its record) in the order of the file.
    pub(super) fn into_found(self) -> Vec<Found> {
        self.found
    }

    /// What was found to refer to objects of other databases.
    pub(super) fn into_referrers(self) -> Referrers {
        let others = self.others.into_iter().flat_map(|(database, found)| {
            let name = String::from_utf8_lossy(&database).into_owned();
            let found = found.into_iter();
            found.map(move |(target, referrer, _)| ((name.clone(), target), referrer))
        });
        others.collect()
    }

    /// The pairs of target and referrer that current records make.
    pub(super) fn sorted(self) -> ReferencePairs {
        let positions = &self.positions;
        let name = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        let others = self.others.into_iter();
        ReferencePairs {
            own: current_pairs(self.found, positions),
            others: others
                .map(|(database, found)| (name(&database), current_pairs(found, positions)))
                .filter(|(_, pairs)| !pairs.is_empty())
                .collect(),
        }
    }

    fn collect(&mut self, position: u64, referrer: Oid, data: &[u8]) {
        let (wanted, all, others) = (&mut self.wanted, &mut self.found, &mut self.others);
        // What cannot be read to its end has the references before that.
        let _ = pickle::references(data, |reference| match (reference, &mut *wanted) {
            (Reference::Same(target), Some(wanted)) => {
                if wanted.own.contains(&target) {
                    all.push((target, referrer, position));
                }
            }
            (Reference::Other { oid, database }, Some(wanted)) => {
                if wanted.take_other(database, oid) {
                    note_other(others, database, (oid, referrer, position));
                }
            }
            // A weak reference may lead nowhere.
            (Reference::Weak { .. }, Some(_)) => {}
            (
                Reference::Same(target)
                | Reference::Weak {
                    oid: target,
                    database: None,
                },
                None,
            ) => all.push((target, referrer, position)),
            (
                Reference::Other { oid, database }
                | Reference::Weak {
                    oid,
                    database: Some(database),
                },
                None,
            ) => note_other(others, database, (oid, referrer, position)),
        });
    }
}

fn note_other(others: &mut BTreeMap<Box<[u8]>, Vec<Found>>, database: &[u8], found: Found) {
    match others.get_mut(database) {
        Some(known) => known.push(found),
        None => drop(others.insert(Box::from(database), vec![found])),
    }
}

/// The bytes of what records at the current positions refer to.
fn current_pairs(mut found: Vec<Found>, positions: &OidMap) -> Vec<u8> {
    found.retain(|(_, referrer, position)| positions.get(*referrer) == Some(*position));
    found.sort_unstable();
    found.dedup();
    let mut bytes = Vec::with_capacity(found.len() * 16);
    for (target, referrer, _) in &found {
        bytes.extend_from_slice(&target.to_bytes());
        bytes.extend_from_slice(&referrer.to_bytes());
    }
    bytes
}

impl Visitor for Pairs<'_> {
    const READS_DATA: bool = true;

    fn record(&mut self, position: u64, header: &RecordHeader) {
        self.records += 1;
        if self.records.is_multiple_of(REPORT_EVERY) {
            self.stopped = (self.progress)(position, self.end).is_break();
        }
        if self.wanted.is_none() {
            self.positions.insert(header.oid, position);
        }
    }

    fn data(&mut self, position: u64, header: &RecordHeader, data: &[u8]) {
        if header.data_len > 0 {
            self.collect(position, header.oid, data);
        } else if pointer_of(data) != 0 {
            let mut buffer = std::mem::take(&mut self.buffer);
            if let Ok(Some(data)) = self.generation.data_in(position, &mut buffer) {
                self.collect(position, header.oid, data);
            }
            self.buffer = buffer;
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn discard(&mut self) {}
}
