//! Packing: writing the part of a file that is still needed into a new file, while commits go on.
//!
//! See `docs/internals/pack.md`. In short: find each object's revision at the pack time; mark what
//! is reachable; copy what stays; catch up with what was committed meanwhile; under the commit
//! lock, copy the last rest and put the new file in place of the old one.

mod copy;
mod mark;
pub(crate) mod oids;
mod swap;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use perdure_format::file::{FIRST_TRANSACTION, Status};
use perdure_format::{Oid, Tid};

use crate::cursor::Transactions;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::store::Store;
use copy::Copier;
use mark::{Marks, PackTime};

/// How often the marking is done again because garbage came back to life meanwhile.
const ATTEMPTS_MAX: usize = 3;
/// The commit lock is taken when less than this is left to copy.
const REST_BYTES_MAX: u64 = 1 << 16;

/// What to pack, and how.
#[derive(Clone, Copy, Debug)]
pub struct PackOptions {
    /// Revisions that were not current at this transaction's time are dropped.
    pub until: Tid,
    /// Drop objects that nothing reachable refers to, too.
    pub collect_garbage: bool,
    /// Keep the file as it was, with the suffix `.old`.
    pub keep_old: bool,
}

/// What a pack is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackPhase {
    /// Finding the revisions of the pack time.
    Scan,
    /// Following references.
    Mark,
    /// Copying what stays.
    Copy,
}

/// Finds the references of records, and hears how far the pack is.
pub trait PackWatch {
    /// Add the objects that a record refers to.
    ///
    /// # Errors
    /// Where the record cannot be read.
    fn references(&mut self, data: &[u8], found: &mut Vec<Oid>) -> std::result::Result<(), String>;

    /// Hear that `done` of about `total` bytes or objects are done; may ask to stop.
    fn progress(&mut self, phase: PackPhase, done: u64, total: u64) -> ControlFlow<()>;
}

/// What a pack did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The length of the file before, in bytes.
    pub bytes_before: u64,
    /// The length of the file now, in bytes.
    pub bytes_after: u64,
    /// How many objects were there before.
    pub objects_before: u64,
    /// How many objects are there now.
    pub objects_after: u64,
}

/// Lets one pack at a time run.
struct Turn<'a>(&'a AtomicBool);

impl<'a> Turn<'a> {
    fn take(packing: &'a AtomicBool) -> Result<Self> {
        if packing.swap(true, Ordering::AcqRel) {
            return Err(Error::Pack {
                reason: "another pack of it is running".to_owned(),
            });
        }
        Ok(Self(packing))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// How an attempt ended.
enum Attempt {
    Done(Packed),
    /// Everything is still needed.
    Nothing,
    /// Something that was taken for garbage is referred to again.
    Revived,
}

impl Store {
    /// Drop old revisions, and garbage, from the file.
    ///
    /// None where there is nothing to do: no transaction up to the pack time was committed since
    /// the last pack, or all of them are still needed.
    ///
    /// # Errors
    /// Where the storage takes no writes, another pack is running, it was packed to a later time
    /// already, the file cannot be read or written, or the watch asked to stop; the database is
    /// then as it was.
    pub fn pack(
        self: &Arc<Self>,
        options: PackOptions,
        watch: &mut dyn PackWatch,
    ) -> Result<Option<Packed>> {
        self.check_writable()?;
        let _turn = Turn::take(&self.packing)?;
        for _ in 0..ATTEMPTS_MAX {
            let (generation, end) = self.generation_and_end();
            let Some(time) = pack_time(&generation, end, options.until)? else {
                return Ok(None);
            };
            match self.attempt(&generation, time, end, options, watch)? {
                Attempt::Done(packed) => return Ok(Some(packed)),
                Attempt::Nothing => return Ok(None),
                Attempt::Revived => {}
            }
        }
        let reason = "objects that were garbage were referred to again while it was running; try \
                      again when less is committed";
        Err(Error::Pack {
            reason: reason.to_owned(),
        })
    }

    fn attempt(
        self: &Arc<Self>,
        generation: &Arc<Generation>,
        time: u64,
        end: u64,
        options: PackOptions,
        watch: &mut dyn PackWatch,
    ) -> Result<Attempt> {
        let current = PackTime::find(generation, time, watch)?;
        let marks = if options.collect_garbage && current.has_root() {
            Some(Marks::follow(generation, &current, time..end, watch)?)
        } else {
            None
        };
        let mut copier = Copier::create(self, generation, end)?;
        let result =
            self.copy_and_swap(&mut copier, &current, marks.as_ref(), time, options, watch);
        if !matches!(result, Ok(Attempt::Done(_))) {
            copier.discard();
        }
        result
    }

    fn copy_and_swap(
        self: &Arc<Self>,
        copier: &mut Copier,
        current: &PackTime,
        marks: Option<&Marks>,
        time: u64,
        options: PackOptions,
        watch: &mut dyn PackWatch,
    ) -> Result<Attempt> {
        copier.copy_packed(current, marks, time, watch)?;
        if copier.end() == time {
            return Ok(Attempt::Nothing);
        }
        loop {
            let (_, end) = self.generation_and_end();
            if !copier.copy_later(end, marks.is_some(), watch)? {
                return Ok(Attempt::Revived);
            }
            copier.sync()?;
            if self.generation_and_end().1 - end < REST_BYTES_MAX {
                break;
            }
        }
        let guard = self.take_commit_lock();
        self.publication.settle();
        self.check_writable()?;
        let (_, end) = self.generation_and_end();
        if !copier.copy_later(end, marks.is_some(), watch)? {
            return Ok(Attempt::Revived);
        }
        copier.sync()?;
        let packed = self.swap(copier.packed_file(self.path()), options.keep_old)?;
        drop(guard);
        // The index only saves time.
        let _ = self.save_index();
        Ok(Attempt::Done(packed))
    }
}

/// The position of the first transaction after the pack time; none where nothing changed since
/// the last pack.
fn pack_time(generation: &Arc<Generation>, end: u64, until: Tid) -> Result<Option<u64>> {
    let all = Transactions::new(Arc::clone(generation), end);
    let after = Tid(until.0.saturating_add(1));
    let position = all.clone().between(after, Tid::MAX)?.position();
    if position <= FIRST_TRANSACTION {
        return Ok(None);
    }
    let last = all.ending_at(position)?;
    if last.is_some_and(|last| last.header.status != Status::Packed) {
        return Ok(Some(position));
    }
    match all.clone().between(after, Tid::MAX)?.advance()? {
        Some(next) if next.header.status == Status::Packed => Err(Error::PackedLater { until }),
        _ => Ok(None),
    }
}

/// Tell the watch, and stop if it asks to.
fn report(watch: &mut dyn PackWatch, phase: PackPhase, done: u64, total: u64) -> Result<()> {
    match watch.progress(phase, done, total) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::PackStopped),
    }
}
