//! What looks at every record.

use std::collections::HashSet;
use std::sync::Arc;

use perdure_format::Oid;
use perdure_format::file::{RecordHeader, TransactionHeader};
use perdure_format::pickle::{self, Reference, Scanner};

use super::others::{Others, Referrers, Targets};
use super::paths::Paths;
use super::{
    Checked, Finding, FindingKind, Gap, Pairs, Progress, REPORT_EVERY, objects_in, pointer_of,
};
use crate::error::Result;
use crate::generation::Generation;
use crate::pack::oids::{OidMap, OidSet};
use crate::scan::{self, Range, Visitor};

/// How many findings are kept.
const FINDINGS_MAX: usize = 10_000;

/// What a check knows of the objects when it has read everything.
pub(super) struct Known {
    positions: OidMap,
    deleted: HashSet<Oid>,
    others: Others,
}

impl Known {
    fn has(&self, oid: Oid) -> bool {
        self.positions.get(oid).is_some() && !self.deleted.contains(&oid)
    }

    /// What is referred to in other databases, with one that does.
    pub(super) fn others(&self) -> Referrers {
        self.others.told()
    }

    /// The same but for what is known to be in one of the members; without those who refer to it.
    pub(super) fn others_but(&self, members: &[(&str, &Self)]) -> Targets {
        self.others.but(|name, oid| {
            let member = members.iter().find(|(member, _)| *member == name);
            member.is_some_and(|(_, known)| known.has(oid))
        })
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
    /// What the transaction at hand has replaced there.
    replaced: Vec<(Oid, u64)>,
    /// Where the transaction at hand begins, if a record of it was told. What stands behind is its.
    start: u64,
    /// Objects whose last record says that they do not exist.
    deleted: HashSet<Oid>,
    others: Others,
    /// The objects that any record refers to: who does is found out if one does not exist.
    referred: OidSet,
    /// How many findings and records the whole transactions have.
    whole: (usize, u64),
    buffer: Vec<u8>,
}

impl<'a> Checker<'a> {
    pub(super) fn new(
        generation: &'a Arc<Generation>,
        end: u64,
        others: Others,
        progress: Progress<'a>,
    ) -> Self {
        Self {
            generation,
            end,
            progress,
            stopped: false,
            checked: Checked {
                bytes: end,
                ..Checked::default()
            },
            positions: OidMap::with_room(objects_in(generation, end)),
            replaced: Vec::new(),
            start: u64::MAX,
            deleted: HashSet::new(),
            others,
            referred: OidSet::default(),
            whole: (0, 0),
            buffer: Vec::new(),
        }
    }

    /// Note a part of the file that is no whole transaction.
    pub(super) fn gap(&mut self, gap: Gap, unfinished: bool) {
        let (kind, are) = if unfinished {
            (FindingKind::Unfinished, "not committed")
        } else {
            (FindingKind::Damaged, "lost")
        };
        self.note(Finding {
            kind,
            position: gap.start,
            tid: None,
            oid: None,
            class: String::new(),
            target: None,
            problem: format!("{} bytes are {are}: {}", gap.end - gap.start, gap.problem),
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

    /// Has the transaction at hand added this object, whose last record stands there?
    fn is_added(&self, oid: Oid, last: u64) -> bool {
        let mut replaced = self.replaced.iter();
        last >= self.start && replaced.all(|(other, before)| *other != oid || *before >= self.start)
    }

    /// Is a previous position one of those that may stand in a record of the object?
    fn previous_fits(&self, header: &RecordHeader, last: u64) -> bool {
        header.previous == last
            || (header.previous == 0 && self.is_added(header.oid, last))
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
        let (referred, others) = (&mut self.referred, &mut self.others);
        let mut found = |reference: Reference<'_>| match reference {
            Reference::Same(target) => referred.insert(target),
            Reference::Other { oid, database } => others.insert(database, oid, header.oid),
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

    /// Judge what can only be judged at the end.
    pub(super) fn finish(mut self, ways_to: &[Oid]) -> Result<(Checked, Known)> {
        // They were for the transaction at hand.
        self.replaced = Vec::new();
        self.find_references_to_missing()?;
        self.checked.objects = self.positions.len() - self.deleted.len() as u64;
        let named = self
            .checked
            .findings
            .iter()
            .filter_map(|finding| finding.oid);
        let wanted: HashSet<Oid> = named.chain(ways_to.iter().copied()).collect();
        if !wanted.is_empty() {
            let end = self.end;
            let mut again = || (self.progress)(end, end);
            let paths = Paths::find(self.generation, &self.positions, &wanted, &mut again)?;
            for finding in &mut self.checked.findings {
                finding.path = finding
                    .oid
                    .map(|oid| paths.to(oid, self.generation, &self.positions))
                    .unwrap_or_default();
            }
            let to = |oid: &Oid| (*oid, paths.to(*oid, self.generation, &self.positions));
            self.checked.ways = ways_to.iter().map(to).collect();
        }
        let known = Known {
            positions: self.positions,
            deleted: self.deleted,
            others: self.others,
        };
        Ok((self.checked, known))
    }

    fn note_missing(&mut self, target: Oid, referrer: Oid, position: u64) -> Result<()> {
        let tid = self.generation.header_at(position)?.tid;
        let mut buffer = std::mem::take(&mut self.buffer);
        let data = self.generation.data_in(position, &mut buffer);
        let class = class_of(data.ok().flatten().unwrap_or_default());
        self.buffer = buffer;
        self.note(Finding {
            kind: FindingKind::Missing,
            position,
            tid: Some(tid),
            oid: Some(referrer),
            class,
            target: Some(target),
            problem: format!("refers to {target}, which does not exist"),
            path: Vec::new(),
        });
        Ok(())
    }

    /// A second pass, for files with references to what does not exist, or does not any more:
    /// which of them stand in current records.
    fn find_references_to_missing(&mut self) -> Result<()> {
        let referred = std::mem::take(&mut self.referred);
        let missing = referred
            .iter()
            .filter(|oid| self.positions.get(*oid).is_none());
        let wanted: HashSet<Oid> = missing.chain(self.deleted.iter().copied()).collect();
        drop(referred);
        if wanted.is_empty() {
            return Ok(());
        }
        let end = self.end;
        let mut again = |_, _| (self.progress)(end, end);
        let mut pairs = Pairs::new(self.generation, end, &mut again);
        pairs.only_to(wanted, Targets::new());
        scan_whole(self.generation, &self.checked.gaps, end, &mut pairs)?;
        for (target, referrer, position) in pairs.into_found() {
            if self.positions.get(referrer) == Some(position) {
                self.note_missing(target, referrer, position)?;
            }
        }
        Ok(())
    }
}

/// Show all whole transactions to a visitor: those between the gaps that were found.
pub(super) fn scan_whole(
    generation: &Generation,
    gaps: &[Gap],
    end: u64,
    visitor: &mut impl Visitor,
) -> Result<()> {
    let mut range = Range::default();
    for gap in gaps {
        range.end = gap.start;
        range.after = scan::scan(&generation.file, &generation.path, range, visitor)?.last_tid;
        range.start = gap.end;
    }
    range.end = end;
    scan::scan(&generation.file, &generation.path, range, visitor).map(drop)
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
        if self.checked.records.is_multiple_of(REPORT_EVERY) {
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
        self.start = header.transaction;
        if last != 0 {
            self.replaced.push((header.oid, last));
        }
        self.positions.insert(header.oid, position);
    }

    fn data(&mut self, position: u64, header: &RecordHeader, data: &[u8]) {
        if !self.deleted.is_empty() {
            self.deleted.remove(&header.oid);
        }
        if header.data_len == 0 {
            self.undone(position, header, pointer_of(data));
        } else {
            self.references(position, header, data);
        }
    }

    fn is_stopped(&self) -> bool {
        self.stopped
    }

    fn transaction(&mut self, _position: u64, _header: &TransactionHeader) {
        self.checked.transactions += 1;
        self.replaced.clear();
        self.start = u64::MAX;
        self.whole = (self.checked.findings.len(), self.checked.records);
    }

    fn discard(&mut self) {
        let (findings, records) = self.whole;
        self.checked.findings_total -= (self.checked.findings.len() - findings) as u64;
        self.checked.findings.truncate(findings);
        self.checked.records = records;
        for (oid, before) in self.replaced.drain(..).rev() {
            self.positions.insert(oid, before);
        }
        self.positions.forget_from(self.start);
        self.start = u64::MAX;
    }
}
