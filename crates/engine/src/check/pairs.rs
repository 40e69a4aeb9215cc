//! Who refers to whom.

use std::collections::HashSet;
use std::sync::Arc;

use perdure_format::Oid;
use perdure_format::file::RecordHeader;
use perdure_format::pickle::{self, Reference};

use super::{Progress, pointer_of};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::pack::oids::OidMap;
use crate::scan::Visitor;

/// How many records are read between two reports.
const REPORT_EVERY: u64 = 4096;

/// Collects references with the position of the record that has them.
pub(crate) struct Pairs<'a> {
    generation: &'a Arc<Generation>,
    end: u64,
    progress: Progress<'a>,
    stopped: bool,
    records: u64,
    positions: OidMap,
    wanted: Option<HashSet<Oid>>,
    found: Vec<(Oid, Oid, u64)>,
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
            positions: OidMap::default(),
            wanted: None,
            found: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// Collect only references to these objects.
    pub(super) fn only_to(&mut self, wanted: HashSet<Oid>) {
        self.wanted = Some(wanted);
    }

    /// What was wanted, and (target, referrer, position of its record) in the order of the file.
    pub(super) fn into_found(self) -> (HashSet<Oid>, Vec<(Oid, Oid, u64)>) {
        (self.wanted.unwrap_or_default(), self.found)
    }

    /// The pairs of target and referrer that current records make.
    pub(super) fn sorted(mut self) -> Result<Vec<u8>> {
        if self.stopped {
            return Err(Error::PackStopped);
        }
        let positions = &self.positions;
        self.found
            .retain(|(_, referrer, position)| positions.get(*referrer) == Some(*position));
        self.found.sort_unstable();
        self.found.dedup();
        let mut bytes = Vec::with_capacity(self.found.len() * 16);
        for (target, referrer, _) in &self.found {
            bytes.extend_from_slice(&target.to_bytes());
            bytes.extend_from_slice(&referrer.to_bytes());
        }
        Ok(bytes)
    }

    fn collect(&mut self, position: u64, referrer: Oid, data: &[u8]) {
        let (wanted, all) = (&self.wanted, &mut self.found);
        // What cannot be read to its end has the references before that.
        let _ = pickle::references(data, |reference| {
            let (Reference::Same(target)
            | Reference::Weak {
                oid: target,
                database: None,
            }) = reference
            else {
                return;
            };
            match wanted {
                None => all.push((target, referrer, position)),
                // A weak reference may lead nowhere.
                Some(wanted) if matches!(reference, Reference::Same(_)) => {
                    if wanted.contains(&target) {
                        all.push((target, referrer, position));
                    }
                }
                Some(_) => {}
            }
        });
    }
}

impl Visitor for Pairs<'_> {
    const READS_DATA: bool = true;

    fn record(&mut self, position: u64, header: &RecordHeader) {
        self.records += 1;
        if self.records.is_multiple_of(REPORT_EVERY) && !self.stopped {
            self.stopped = (self.progress)(position, self.end).is_break();
        }
        if self.wanted.is_none() {
            self.positions.insert(header.oid, position);
        }
    }

    fn data(&mut self, position: u64, header: &RecordHeader, data: &[u8]) {
        if self.stopped {
            return;
        }
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

    fn discard(&mut self) {}
}
