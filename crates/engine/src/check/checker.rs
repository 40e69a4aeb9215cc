//! What looks at every record.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use perdure_format::file::{RecordHeader, TransactionHeader};
use perdure_format::pickle::{self, Reference, Scanner};
use perdure_format::{Oid, Tid};

use super::paths::Paths;
use super::{Checked, Finding, FindingKind, Gap, Pairs, Progress, pointer_of};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::pack::oids::OidMap;
use crate::scan::{self, Range, Visitor};

/// How many findings are kept.
const FINDINGS_MAX: usize = 10_000;
/// How many records are read between two reports.
const REPORT_EVERY: u64 = 4096;
/// How many references to objects not met yet are kept before those met meanwhile are dropped.
const PENDING_MAX: usize = 1 << 20;

/// A reference to an object that was not met yet.
struct Pending {
    target: Oid,
    referrer: Oid,
    /// Where the record that refers to it stands.
    position: u64,
    tid: Tid,
}

/// What a check knows of the objects when it has read everything.
pub(super) struct Known {
    positions: OidMap,
    deleted: HashSet<Oid>,
    others: BTreeMap<String, HashMap<Oid, Oid>>,
}

impl Known {
    fn has(&self, oid: Oid) -> bool {
        self.positions.get(oid).is_some() && !self.deleted.contains(&oid)
    }

    /// The references to other databases but those to what is known to be in one of them.
    pub(super) fn others_but(&self, members: &[(&str, &Self)]) -> BTreeMap<(String, Oid), Oid> {
        let mut left = BTreeMap::new();
        for (name, referred) in &self.others {
            let member = members.iter().find(|(member, _)| member == name);
            for (oid, referrer) in referred {
                if member.is_none_or(|(_, known)| !known.has(*oid)) {
                    left.insert((name.clone(), *oid), *referrer);
                }
            }
        }
        left
    }
}

pub(super) struct Checker<'a> {
    generation: &'a Arc<Generation>,
    end: u64,
    progress: Progress<'a>,
    stopped: bool,
    checked: Checked,
    /// Where each object's last record stands.
    positions: OidMap,
    /// How many of them are gone with damaged transactions.
    removed: u64,
    /// What the transaction at hand has replaced there.
    replaced: Vec<(Oid, u64)>,
    /// Objects whose last record says that they do not exist.
    deleted: HashSet<Oid>,
    /// The objects of other databases that are referred to, and one that does, by database.
    others: BTreeMap<String, HashMap<Oid, Oid>>,
    pending: Vec<Pending>,
    pending_max: usize,
    /// How many findings, pending references and records the whole transactions have.
    whole: (usize, usize, u64),
    buffer: Vec<u8>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(generation: &'a Arc<Generation>, end: u64, progress: Progress<'a>) -> Self {
        Self {
            generation,
            end,
            progress,
            stopped: false,
            checked: Checked {
                bytes: end,
                ..Checked::default()
            },
            positions: OidMap::default(),
            removed: 0,
            replaced: Vec::new(),
            deleted: HashSet::new(),
            others: BTreeMap::new(),
            pending: Vec::new(),
            pending_max: PENDING_MAX,
            whole: (0, 0, 0),
            buffer: Vec::new(),
        }
    }

    pub(super) fn check_stopped(&self) -> Result<()> {
        if self.stopped {
            return Err(Error::PackStopped);
        }
        Ok(())
    }

    /// Note a part of the file that is no whole transaction.
    pub(super) fn gap(&mut self, gap: Gap, unfinished: bool) {
        let kind = if unfinished {
            FindingKind::Unfinished
        } else {
            FindingKind::Damaged
        };
        self.note(Finding {
            kind,
            position: gap.start,
            tid: None,
            oid: None,
            class: String::new(),
            target: None,
            problem: format!("{} bytes are lost: {}", gap.end - gap.start, gap.problem),
            path: Vec::new(),
        });
        self.checked.gaps.push(gap);
        self.whole.0 = self.checked.findings.len();
    }

    fn note(&mut self, finding: Finding) {
        self.checked.findings_total += 1;
        if self.checked.findings.len() < FINDINGS_MAX {
            self.checked.findings.push(finding);
        }
    }

    fn note_record(
        &mut self,
        kind: FindingKind,
        position: u64,
        header: &RecordHeader,
        data: &[u8],
        problem: String,
    ) {
        self.note(Finding {
            kind,
            position,
            tid: Some(header.tid),
            oid: Some(header.oid),
            class: class_of(data),
            target: None,
            problem,
            path: Vec::new(),
        });
    }

    /// Is a previous position one of those that may stand in a record of the object?
    fn previous_fits(&self, header: &RecordHeader, last: u64) -> bool {
        header.previous == last
            || self
                .replaced
                .iter()
                .rev()
                .any(|(oid, before)| *oid == header.oid && *before == header.previous)
            || self
                .checked
                .gaps
                .iter()
                .any(|gap| (gap.start..gap.end).contains(&header.previous))
    }

    /// Follow the position that stands in place of a record's data.
    fn undone(&mut self, position: u64, header: &RecordHeader, pointer: u64) {
        if pointer == 0 {
            self.deleted.insert(header.oid);
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let found = match self.generation.header_at(pointer) {
            Ok(there) if pointer < position && there.oid == header.oid => {
                self.generation.data_in(pointer, &mut buffer).ok().flatten()
            }
            _ => None,
        };
        if let Some(data) = found {
            self.references(position, header, data);
        } else {
            let problem = format!("expected data of the object at {pointer}");
            self.note_record(FindingKind::DataPosition, position, header, &[], problem);
        }
        self.buffer = buffer;
    }

    fn references(&mut self, position: u64, header: &RecordHeader, data: &[u8]) {
        let mut scanner = Scanner::new(data);
        let (positions, pending) = (&self.positions, &mut self.pending);
        let others = &mut self.others;
        let mut found = |reference: Reference<'_>| match reference {
            Reference::Same(target) => {
                if positions.get(target).is_none() {
                    pending.push(Pending {
                        target,
                        referrer: header.oid,
                        position,
                        tid: header.tid,
                    });
                }
            }
            Reference::Other { oid, database } => {
                let name = String::from_utf8_lossy(database);
                let known = match others.get_mut(name.as_ref()) {
                    Some(known) => known,
                    None => others.entry(name.into_owned()).or_default(),
                };
                known.entry(oid).or_insert(header.oid);
            }
            // What is referred to weakly may go.
            Reference::Weak { .. } => {}
        };
        let mut outcome = Ok(());
        for _ in 0..2 {
            outcome = outcome.and_then(|()| scanner.pickle(&mut found));
        }
        let problem = match outcome {
            Err(error) => error.to_string(),
            Ok(()) if !scanner.is_at_end() => "bytes follow the two pickles".to_owned(),
            Ok(()) => return,
        };
        self.note_record(FindingKind::Unreadable, position, header, data, problem);
    }

    /// Drop references to objects that were met meanwhile, or from records that are not current.
    fn settle(&mut self) {
        let positions = &self.positions;
        self.pending.retain(|each| {
            positions.get(each.target).is_none()
                && positions.get(each.referrer) == Some(each.position)
        });
        self.pending_max = PENDING_MAX.max(self.pending.len() * 2);
    }

    /// Judge what can only be judged at the end.
    pub(super) fn finish(mut self) -> Result<(Checked, Known)> {
        self.settle();
        if !self.deleted.is_empty() {
            self.find_references_to_deleted()?;
        }
        for each in std::mem::take(&mut self.pending) {
            self.note_missing(&each);
        }
        self.checked.objects = self.positions.len() - self.removed - self.deleted.len() as u64;
        let named = self
            .checked
            .findings
            .iter()
            .filter_map(|finding| finding.oid);
        let wanted: HashSet<Oid> = named.collect();
        if !wanted.is_empty() {
            let paths = Paths::find(self.generation, &self.positions, &wanted);
            for finding in &mut self.checked.findings {
                finding.path = finding
                    .oid
                    .map(|oid| paths.to(oid, self.generation, &self.positions))
                    .unwrap_or_default();
            }
        }
        let known = Known {
            positions: self.positions,
            deleted: self.deleted,
            others: self.others,
        };
        Ok((self.checked, known))
    }

    fn note_missing(&mut self, each: &Pending) {
        let mut buffer = std::mem::take(&mut self.buffer);
        let data = self.generation.data_in(each.position, &mut buffer);
        let class = class_of(data.ok().flatten().unwrap_or_default());
        self.buffer = buffer;
        self.note(Finding {
            kind: FindingKind::Missing,
            position: each.position,
            tid: Some(each.tid),
            oid: Some(each.referrer),
            class,
            target: Some(each.target),
            problem: format!("refers to {}, which does not exist", each.target),
            path: Vec::new(),
        });
    }

    /// A second pass, for the rare files with objects whose creation was undone.
    fn find_references_to_deleted(&mut self) -> Result<()> {
        let range = Range {
            end: self.checked.gaps.first().map_or(self.end, |gap| gap.start),
            ..Range::default()
        };
        let mut nothing = |_, _| std::ops::ControlFlow::Continue(());
        let mut pairs = Pairs::new(self.generation, self.end, &mut nothing);
        pairs.only_to(std::mem::take(&mut self.deleted));
        scan::scan(
            &self.generation.file,
            &self.generation.path,
            range,
            &mut pairs,
        )?;
        let (deleted, found) = pairs.into_found();
        self.deleted = deleted;
        for (target, referrer, position) in found {
            if self.positions.get(referrer) == Some(position) {
                let tid = self.generation.header_at(position)?.tid;
                self.pending.push(Pending {
                    target,
                    referrer,
                    position,
                    tid,
                });
            }
        }
        Ok(())
    }
}

/// The class that a record names, as "module.name"; empty where it cannot be read.
pub(super) fn class_of(data: &[u8]) -> String {
    let class = pickle::class_name(data).ok().flatten();
    class.map_or_else(String::new, |class| {
        let module = String::from_utf8_lossy(class.module);
        format!("{module}.{}", String::from_utf8_lossy(class.name))
    })
}

impl Visitor for Checker<'_> {
    const READS_DATA: bool = true;

    fn record(&mut self, position: u64, header: &RecordHeader) {
        self.checked.records += 1;
        if self.checked.records.is_multiple_of(REPORT_EVERY) && !self.stopped {
            self.stopped = (self.progress)(position, self.end).is_break();
        }
        let last = self.positions.get(header.oid).unwrap_or(0);
        if !self.previous_fits(header, last) {
            let problem = format!(
                "its previous record is said to stand at {}, and stands at {last}",
                header.previous
            );
            self.note_record(FindingKind::Previous, position, header, &[], problem);
        }
        self.replaced.push((header.oid, last));
        self.positions.insert(header.oid, position);
    }

    fn data(&mut self, position: u64, header: &RecordHeader, data: &[u8]) {
        if self.stopped {
            return;
        }
        if !self.deleted.is_empty() {
            self.deleted.remove(&header.oid);
        }
        if header.data_len == 0 {
            self.undone(position, header, pointer_of(data));
        } else {
            self.references(position, header, data);
        }
    }

    fn transaction(&mut self, _position: u64, _header: &TransactionHeader) {
        self.checked.transactions += 1;
        self.replaced.clear();
        if self.pending.len() > self.pending_max {
            self.settle();
        }
        self.whole = (
            self.checked.findings.len(),
            self.pending.len(),
            self.checked.records,
        );
    }

    fn discard(&mut self) {
        let (findings, pending, records) = self.whole;
        self.checked.findings_total -= (self.checked.findings.len() - findings) as u64;
        self.checked.findings.truncate(findings);
        self.pending.truncate(pending);
        self.checked.records = records;
        for (oid, before) in self.replaced.drain(..).rev() {
            self.positions.insert(oid, before);
            self.removed += u64::from(before == 0);
        }
    }
}
