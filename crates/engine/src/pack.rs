//! Packing: writing the part of a file that is still needed into a new file, while commits go on.
//!
//! See `docs/internals/pack.md`. In short: find each object's revision at the pack time; mark what
//! is reachable; copy what stays; catch up with what was committed meanwhile; under the commit
//! lock, copy the last rest and put the new file in place of the old one.

mod copy;
pub(crate) mod oids;
mod swap;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use perdure_format::file::{FIRST_TRANSACTION, Status};
use perdure_format::{Oid, Tid};

use crate::commit_lock::CommitGuard;
use crate::cursor::Transactions;
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::marking::{Later, Marking, Member, Moment};
use crate::store::Store;
use copy::Copier;

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
    /// Are records what they look like, two pickles? They are searched on all cores then, and
    /// `references` is not asked.
    fn is_plain(&self) -> bool {
        false
    }

    /// Add the objects that a record refers to.
    ///
    /// # Errors
    /// Where the record cannot be read.
    fn references(&mut self, data: &[u8], found: &mut Vec<Oid>) -> std::result::Result<(), String>;

    /// Hear that `done` of about `total` bytes or objects are done; may ask to stop.
    fn progress(&mut self, phase: PackPhase, done: u64, total: u64) -> ControlFlow<()>;
}

/// Does not hear of progress: who does might want to commit, and wait for itself.
struct Unreported<'a>(&'a mut dyn PackWatch);

impl PackWatch for Unreported<'_> {
    fn is_plain(&self) -> bool {
        self.0.is_plain()
    }

    fn references(&mut self, data: &[u8], found: &mut Vec<Oid>) -> std::result::Result<(), String> {
        self.0.references(data, found)
    }

    fn progress(&mut self, _phase: PackPhase, _done: u64, _total: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
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

/// Lets one pack, or garbage collection, of a store at a time run.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Store>);

impl Turn {
    pub(crate) fn take(store: &Arc<Store>) -> Result<Self> {
        if store.packing.swap(true, Ordering::AcqRel) {
            let path = store.path().display();
            return Err(Error::Pack {
                reason: format!("another pack, or a garbage collection, of {path} is running"),
            });
        }
        Ok(Self(Arc::clone(store)))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.packing.store(false, Ordering::Release);
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
    /// `members` are the databases of the collection that this one belongs to, itself included,
    /// in the order in which joint transactions lock them: what is reachable through any of them
    /// is no garbage. Without any, references to other databases are ignored.
    ///
    /// None where there is nothing to do: no transaction up to the pack time was committed since
    /// the last pack, or all of them are still needed.
    ///
    /// # Errors
    /// Where the storage takes no writes, another pack is running, it was packed to a later time
    /// already, a database that is referred to is none of the members, garbage is collected and
    /// what is on a member's device is unknown, a file cannot be read or written, or the watch
    /// asked to stop; the database is then as it was.
    pub fn pack(
        self: &Arc<Self>,
        options: PackOptions,
        members: &[Member],
        watch: &mut dyn PackWatch,
    ) -> Result<Option<Packed>> {
        self.check_writable()?;
        let _turn = Turn::take(self)?;
        for _ in 0..ATTEMPTS_MAX {
            // Read first: what comes behind `end` is later than this.
            let last = self.last_transaction();
            let (generation, end) = self.generation_and_end();
            let Some(time) = pack_time(&generation, end, options.until)? else {
                return Ok(None);
            };
            let moment = Moment {
                generation,
                end: time,
                after: options.until.min(last).successor(),
            };
            match self.attempt(moment, options, members, watch)? {
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
        moment: Moment,
        options: PackOptions,
        members: &[Member],
        watch: &mut dyn PackWatch,
    ) -> Result<Attempt> {
        let (generation, time) = (Arc::clone(&moment.generation), moment.end);
        let marking = self.marking(moment, options, members, watch)?;
        let mut copier = Copier::create(self, &generation)?;
        let mut attempt = Packing {
            store: self,
            lock_order: self.lock_order(members),
            marking,
            time,
            keep_old: options.keep_old,
        };
        let result = attempt.copy_and_swap(&mut copier, watch);
        if !matches!(result, Ok(Attempt::Done(_))) {
            copier.discard();
            self.checksums.discard_packed();
        }
        result
    }

    /// The stores whose transactions may refer to this one, in the order in which they are locked.
    fn lock_order(self: &Arc<Self>, members: &[Member]) -> Vec<Arc<Self>> {
        if members.is_empty() {
            return vec![Arc::clone(self)];
        }
        let stores = members.iter().map(|member| &member.store);
        stores.cloned().collect()
    }

    /// Find what was current at the pack time, this store's objects first, and what is reachable.
    fn marking(
        self: &Arc<Self>,
        moment: Moment,
        options: PackOptions,
        members: &[Member],
        watch: &mut dyn PackWatch,
    ) -> Result<PackMarking> {
        let own = members
            .iter()
            .find(|member| Arc::ptr_eq(&member.store, self));
        let own = own.cloned().unwrap_or_else(|| Member {
            name: Vec::new(),
            store: Arc::clone(self),
            decoder: None,
        });
        let mut all = vec![(own, moment)];
        if options.collect_garbage {
            for member in members {
                if !Arc::ptr_eq(&member.store, self) {
                    refuse_doubt(member.store.check_certain())?;
                    let after = options.until.successor();
                    all.push((member.clone(), Moment::before(&member.store, after)?));
                }
            }
        }
        let mut marking = Marking::new(all, !members.is_empty(), Later::Referred, watch)?;
        let has_root = marking
            .objects(OWN)
            .is_some_and(|it| it.position(Oid::ZERO).is_some());
        let collects = options.collect_garbage && has_root;
        if collects {
            marking.follow_all(watch)?;
        }
        Ok(PackMarking { marking, collects })
    }
}

/// The number of the store that is packed among those that are searched.
const OWN: usize = 0;

/// What is known of the objects of the store that is packed.
struct PackMarking {
    marking: Marking,
    /// Is what is not marked garbage?
    collects: bool,
}

impl PackMarking {
    /// Is the record at a position the object's revision of the pack time, and reachable?
    fn is_kept(&self, oid: Oid, position: u64) -> bool {
        let objects = self.marking.objects(OWN);
        objects.is_some_and(|objects| {
            objects.position(oid) == Some(position) && (!self.collects || objects.is_marked(oid))
        })
    }

    /// Mark what was written meanwhile; whether something was left out that is needed.
    fn is_revived(&mut self, watch: &mut dyn PackWatch) -> Result<bool> {
        if !self.collects {
            return Ok(false);
        }
        let before = self.marking.marked(OWN);
        self.marking.catch_up(watch)?;
        Ok(self.marking.marked(OWN) > before)
    }
}

/// A pack whose garbage is known.
struct Packing<'a> {
    store: &'a Arc<Store>,
    lock_order: Vec<Arc<Store>>,
    marking: PackMarking,
    /// The position of the first transaction after the pack time.
    time: u64,
    keep_old: bool,
}

impl Packing<'_> {
    fn copy_and_swap(&mut self, copier: &mut Copier, watch: &mut dyn PackWatch) -> Result<Attempt> {
        copier.copy_packed(&self.marking, self.time, watch)?;
        if copier.end() == self.time {
            return Ok(Attempt::Nothing);
        }
        loop {
            let (_, end) = self.store.generation_and_end();
            if self.marking.is_revived(watch)? {
                return Ok(Attempt::Revived);
            }
            copier.copy_later(end, watch)?;
            copier.sync()?;
            if self.store.generation_and_end().1 - end < REST_BYTES_MAX {
                break;
            }
        }
        self.swap(copier, watch)
    }

    /// Copy the last rest and put the new file in place; nothing is committed meanwhile.
    fn swap(&mut self, copier: &mut Copier, watch: &mut dyn PackWatch) -> Result<Attempt> {
        let store = self.store;
        let watch = &mut Unreported(watch);
        let guards = self.take_commit_locks()?;
        store.check_writable()?;
        let (_, end) = store.generation_and_end();
        if self.marking.is_revived(watch)? {
            return Ok(Attempt::Revived);
        }
        copier.copy_later(end, watch)?;
        if let Some(sums) = copier.sums() {
            let marked = store.checksums.mark_packed(sums);
            marked.map_err(|source| Error::io("writing", store.path(), source))?;
        }
        copier.sync()?;
        if self.marking.collects {
            store.removals.note_collection();
        }
        let packed = store.swap(copier.packed_file(store.path()), self.keep_old)?;
        drop(guards);
        store.save_packed_index();
        Ok(Attempt::Done(packed))
    }

    /// Keep everybody from committing: to the store, and to those that may refer to it, of which all
    /// is known then.
    fn take_commit_locks(&self) -> Result<Vec<CommitGuard>> {
        let own = std::slice::from_ref(self.store);
        let stores = if self.marking.collects {
            &self.lock_order
        } else {
            own
        };
        let guards = stores.iter().map(|store| store.take_commit_lock());
        let guards = guards.collect();
        for store in stores {
            refuse_doubt(store.settle())?;
        }
        Ok(guards)
    }
}

/// Refuse to pack where a transaction that nobody sees may be in a store: what it refers to would
/// be garbage.
fn refuse_doubt(outcome: Result<()>) -> Result<()> {
    outcome.map_err(|error| Error::Pack {
        reason: error.to_string(),
    })
}

/// The position of the first transaction after the pack time; none where nothing changed since
/// the last pack.
fn pack_time(generation: &Arc<Generation>, end: u64, until: Tid) -> Result<Option<u64>> {
    let all = Transactions::new(Arc::clone(generation), end);
    let after = until.successor();
    let position = all.clone().between(after, Tid::MAX)?.position();
    let last = if position > FIRST_TRANSACTION {
        all.ending_at(position)?
    } else {
        None
    };
    if last.is_some_and(|last| last.header.status != Status::Packed) {
        return Ok(Some(position));
    }
    match all.between(after, Tid::MAX)?.advance()? {
        Some(next) if next.header.status == Status::Packed => Err(Error::PackedLater { until }),
        _ => Ok(None),
    }
}

/// Tell the watch, and stop if it asks to.
pub(crate) fn report(
    watch: &mut dyn PackWatch,
    phase: PackPhase,
    done: u64,
    total: u64,
) -> Result<()> {
    match watch.progress(phase, done, total) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(Error::PackStopped),
    }
}
