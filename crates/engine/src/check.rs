//! Checking a data file: everything is read once, front to back, and nothing is run.

mod checker;
mod others;
mod pairs;
mod paths;

use std::collections::{BTreeMap, HashSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use perdure_format::file::{FIRST_TRANSACTION, MAGIC, TransactionHeader, is_magic};
use perdure_format::{Oid, Tid};

use crate::disk::{Access, Disk, OsDisk};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::in_doubt::{Marked, mark_of};
use crate::index::Index;
use crate::scan::{self, Range, Scanned, Stop};
use crate::store::Store;
use checker::{Checker, Known, scan_whole};
use others::{Others, Targets};
use pairs::Pairs;
pub use pairs::ReferencePairs;

/// How long a check of several files goes on between two reports.
const MEMBERS_REPORT_EVERY: Duration = Duration::from_millis(2);

/// How many records, or objects, are read between two reports of one file.
const REPORT_EVERY: u64 = 4096;

/// What a small record takes in a file.
const RECORD_BYTES: u64 = 128;

/// Hears how many of how many bytes are done; may ask to stop.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> ControlFlow<()>;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// Bytes that are no whole transaction.
    Damaged,
    /// A transaction that was voted and not finished.
    Unfinished,
    /// The position of an object's previous record is wrong.
    Previous,
    /// The position of the data of an undone record is wrong.
    DataPosition,
    /// The data are not pickles.
    Unreadable,
    /// An object that is referred to does not exist.
    Missing,
}

/// Something that is wrong in a file.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What is wrong.
    pub kind: FindingKind,
    /// Where.
    pub position: u64,
    /// In which transaction.
    pub tid: Option<Tid>,
    /// In the record of which object.
    pub oid: Option<Oid>,
    /// The object's class, as "module.name".
    pub class: String,
    /// The object that is missing.
    pub target: Option<Oid>,
    /// In words.
    pub problem: String,
    /// The objects that lead from the root to the object; empty where none do.
    pub path: Vec<(Oid, String)>,
}

/// A part of a file that is no whole transaction.
#[derive(Clone, Debug)]
pub struct Gap {
    /// Where it begins.
    pub start: u64,
    /// Where it ends.
    pub end: u64,
    /// Why.
    pub problem: String,
}

/// What a check found.
#[derive(Debug, Default)]
pub struct Checked {
    /// How many bytes were read.
    pub bytes: u64,
    /// How many whole transactions there are.
    pub transactions: u64,
    /// How many records they have.
    pub records: u64,
    /// How many objects exist.
    pub objects: u64,
    /// What is wrong, the first `FINDINGS_MAX` of it.
    pub findings: Vec<Finding>,
    /// How much is wrong.
    pub findings_total: u64,
    /// The parts that are no whole transactions.
    pub gaps: Vec<Gap>,
    /// The objects of other databases that are referred to, and one that does.
    pub others: BTreeMap<(String, Oid), Oid>,
    /// For each object that was asked for: the objects that lead to it from the root.
    pub ways: BTreeMap<Oid, Vec<(Oid, String)>>,
}

/// Check a data file without opening it as a database: it may be damaged.
///
/// The ways from the root to the objects of its findings are looked for, and to those of `ways_to`.
///
/// # Errors
/// Where the file cannot be read, or `progress` asked to stop.
pub fn check_file(path: &Path, ways_to: &[Oid], progress: Progress<'_>) -> Result<Checked> {
    let (generation, len) = generation_of(path)?;
    run_alone(&generation, len, ways_to, progress)
}

/// All references to other databases count where those are not checked, too.
fn run_alone(
    generation: &Arc<Generation>,
    end: u64,
    ways_to: &[Oid],
    progress: Progress<'_>,
) -> Result<Checked> {
    let others = Others::Told(BTreeMap::new());
    let (mut checked, known) = run(generation, end, others, ways_to, progress)?;
    checked.others = known.others();
    Ok(checked)
}

/// What a check reads.
#[derive(Debug)]
pub enum CheckSource {
    /// A data file, which may be damaged.
    File(PathBuf),
    /// A storage.
    Store(Arc<Store>),
}

/// Check the members of a collection, each on a thread of its own.
///
/// As `others`, each has those references only whose target is in none of the members.
///
/// # Errors
/// Where one cannot be read, or `progress` asked to stop.
pub fn check_members(
    members: &[(String, CheckSource)],
    progress: Progress<'_>,
) -> Result<Vec<Checked>> {
    let sources = members.iter().map(|(_, source)| match source {
        CheckSource::File(path) => generation_of(path),
        CheckSource::Store(store) => Ok(store.generation_and_end()),
    });
    let sources: Vec<_> = sources.collect::<Result<_>>()?;
    let (done, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
    let total: u64 = sources.iter().map(|(_, end)| end).sum();
    let mut found = thread::scope(|scope| {
        let (done, stopped) = (&done, &stopped);
        let run_one = move |generation, end| {
            let mut seen = 0;
            let mut note = |now: u64, _| {
                done.fetch_add(now.saturating_sub(seen), Ordering::Relaxed);
                seen = now;
                continue_unless(stopped.load(Ordering::Relaxed))
            };
            run(
                generation,
                end,
                Others::Noted(Targets::new()),
                &[],
                &mut note,
            )
        };
        let mut threads = Vec::new();
        for (generation, end) in &sources {
            let one = move || run_one(generation, *end);
            match thread::Builder::new().spawn_scoped(scope, one) {
                Ok(thread) => threads.push(thread),
                // Where no thread can be had, one file is read after the other.
                Err(_) => return sources.iter().map(|(g, end)| run_one(g, *end)).collect(),
            }
        }
        while threads.iter().any(|thread| !thread.is_finished()) {
            thread::park_timeout(MEMBERS_REPORT_EVERY);
            if progress(done.load(Ordering::Relaxed), total).is_break() {
                stopped.store(true, Ordering::Relaxed);
            }
        }
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(found) => found,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect::<Result<Vec<_>>>()
    })?;
    let others: Vec<_> = {
        let names = members.iter().map(|(name, _)| name.as_str());
        let known: Vec<_> = names.zip(found.iter().map(|(_, known)| known)).collect();
        let of_each = found.iter().map(|(_, one)| one.others_but(&known));
        of_each.collect()
    };
    let mut again = |_, _| progress(total, total);
    for (((checked, _), others), (generation, end)) in found.iter_mut().zip(others).zip(&sources) {
        if !others.is_empty() {
            let mut pairs = Pairs::new(generation, *end, &mut again);
            pairs.only_to(HashSet::new(), others);
            scan_whole(generation, &checked.gaps, *end, &mut pairs)?;
            checked.others = pairs.into_referrers();
        }
    }
    Ok(found.into_iter().map(|(checked, _)| checked).collect())
}

const fn continue_unless(stopped: bool) -> ControlFlow<()> {
    if stopped {
        ControlFlow::Break(())
    } else {
        ControlFlow::Continue(())
    }
}

/// The file, without an index.
fn generation_of(path: &Path) -> Result<(Arc<Generation>, u64)> {
    let error = |source| Error::io("reading", path, source);
    let file = OsDisk.open(path, Access::Read).map_err(error)?;
    let mut found = [0; MAGIC.len()];
    let read = file.read_at(&mut found, 0).map_err(error)?;
    if !is_magic(&found) {
        return Err(Error::NotADatabase {
            path: path.to_owned(),
            found: found.get(..read).unwrap_or_default().to_vec(),
        });
    }
    let len = file.len().map_err(error)?;
    let generation = Generation::new(file, path, Index::default());
    Ok((Arc::new(generation), len))
}

impl Store {
    /// Read everything, and find what is wrong.
    ///
    /// # Errors
    /// Where the file cannot be read, or `progress` asked to stop.
    pub fn check(&self, progress: Progress<'_>) -> Result<Checked> {
        let (generation, end) = self.generation_and_end();
        run_alone(&generation, end, &[], progress)
    }

    /// Which current record refers to which object, of this database or of another.
    ///
    /// # Errors
    /// Where the file cannot be read, or `progress` asked to stop.
    pub fn reference_pairs(&self, progress: Progress<'_>) -> Result<ReferencePairs> {
        let (generation, end) = self.generation_and_end();
        let mut pairs = Pairs::new(&generation, end, progress);
        let range = Range {
            end,
            ..Range::default()
        };
        scan::scan(&generation.file, &generation.path, range, &mut pairs)?;
        Ok(pairs.sorted())
    }

    /// Those of the targets in `pairs` (see [`ReferencePairs`]) that do not exist, sorted.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn missing_targets(&self, pairs: &[u8]) -> Result<Vec<Oid>> {
        let mut missing = Vec::new();
        let mut last = None;
        for pair in pairs.chunks_exact(16) {
            let target = pair.first_chunk().copied().map(Oid::from_bytes);
            let Some(target) = target.filter(|_| target != last) else {
                continue;
            };
            last = Some(target);
            if self.current_tid(target)?.is_none() {
                missing.push(target);
            }
        }
        Ok(missing)
    }
}

fn run(
    generation: &Arc<Generation>,
    end: u64,
    others: Others,
    ways_to: &[Oid],
    progress: Progress<'_>,
) -> Result<(Checked, Known)> {
    let mut checker = Checker::new(generation, end, others, progress);
    let mut range = Range {
        end,
        ..Range::default()
    };
    loop {
        let scanned = scan::scan(&generation.file, &generation.path, range, &mut checker)?;
        let Some(gap) = gap_behind(generation, &scanned, end)? else {
            break;
        };
        range.start = gap.end;
        range.after = scanned.last_tid;
        let unfinished = matches!(scanned.stop, Some(Stop::Voted(_)));
        checker.gap(gap, unfinished);
        if range.start >= end {
            break;
        }
    }
    checker.finish(ways_to)
}

/// What lies between the end of a scan and the next whole transaction.
fn gap_behind(generation: &Arc<Generation>, scanned: &Scanned, end: u64) -> Result<Option<Gap>> {
    let problem = match &scanned.stop {
        None => return Ok(None),
        Some(Stop::Voted(header)) => unfinished(generation, scanned.end, header),
        Some(Stop::Damaged { position, problem }) => format!("at {position}: {problem}"),
        Some(Stop::Torn(problem)) => problem.clone(),
    };
    let start = scanned.end.max(FIRST_TRANSACTION);
    let next = scan::whole_transaction_after(
        &generation.file,
        &generation.path,
        start + 1,
        scanned.last_tid,
    )?;
    Ok(Some(Gap {
        start,
        end: next.filter(|next| *next < end).unwrap_or(end),
        problem,
    }))
}

/// What is told of a transaction that was voted and not finished.
fn unfinished(generation: &Generation, position: u64, header: &TransactionHeader) -> String {
    let told = format!("transaction {} was voted and not finished", header.tid);
    let found = mark_of(&generation.file, &generation.path, position, header);
    match found.ok().flatten() {
        Some(Marked {
            mark,
            is_whole: true,
            ..
        }) if mark.own != 0 => format!(
            "{told}; {} decides whether it was, and is asked when this file is opened for writing \
             (see `perdure indoubt list`)",
            mark.decider()
        ),
        _ => told,
    }
}

/// About how many objects there are: as many as the index has, or as a file of this length may have.
fn objects_in(generation: &Generation, end: u64) -> u64 {
    match generation.index.len() {
        0 => end / RECORD_BYTES,
        known => known,
    }
}

/// The position that stands in place of a record's data.
fn pointer_of(bytes: &[u8]) -> u64 {
    bytes.try_into().map_or(0, u64::from_be_bytes)
}
