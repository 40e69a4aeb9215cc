//! The two phases of a commit. See `docs/internals/commit.md` for the protocol's invariants.
//!
//! Each step consumes the one before: a [`Draft`] is locked and checked ([`Locked`]), written
//! ([`Voted`]) and finished ([`Finished`]). Dropping a step aborts it.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use perdure_format::file::{
    RECORD_HEADER_LEN, RecordHeader, STATUS_OFFSET, Status, TRAILER_LEN, TRANSACTION_HEADER_LEN,
    TransactionHeader,
};
use perdure_format::joint::JointMark;
use perdure_format::seal::{self, Seal};
use perdure_format::timestamp::next_tid;
use perdure_format::{Oid, Tid};

use crate::commit_lock::CommitGuard;
use crate::draft::{Basis, Content, Draft, DraftRecord};
use crate::error::{Error, Result};
use crate::headers::Headers;
use crate::publication::{Published, Ticket};
use crate::store::Store;

/// An object that another transaction changed since the draft's revision of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The number of the draft's record.
    pub record: usize,
    /// The object.
    pub oid: Oid,
    /// The object's current revision.
    pub committed: Tid,
    /// The revision that the draft's record was made from.
    pub seen: Tid,
}

/// A transaction that holds the commit lock and was checked for conflicts.
#[derive(Debug)]
pub struct Locked {
    store: Arc<Store>,
    pub(crate) draft: Draft,
    guard: CommitGuard,
    previous: Vec<u64>,
    conflicts: Vec<Conflict>,
    missing: Vec<Oid>,
}

/// Oid and position of a record, and whether its object is new.
pub(crate) type Written = (Oid, u64, bool);

/// A transaction that stands in the file, not finished yet.
#[derive(Debug)]
pub struct Voted {
    store: Arc<Store>,
    guard: Option<CommitGuard>,
    tid: Tid,
    status: Status,
    start: u64,
    end: u64,
    records: Vec<Written>,
    /// Is an object deleted?
    deletes: bool,
}

/// A finished transaction that is on its way to being durable and visible.
#[derive(Debug)]
pub struct Finished {
    store: Arc<Store>,
    ticket: Ticket,
    tid: Tid,
}

impl Store {
    /// Take the commit lock and check a draft for conflicts.
    ///
    /// Gives the draft back where another transaction held the lock for as long as `patience`.
    ///
    /// # Errors
    /// Where the storage takes no writes, an object to be deleted does not exist, or an object
    /// that the draft relies on has changed.
    pub fn lock(
        self: &Arc<Self>,
        draft: Draft,
        patience: Duration,
    ) -> Result<std::result::Result<Locked, Draft>> {
        self.check_writable()?;
        let Some(guard) = self.commit_lock.acquire(patience) else {
            return Ok(Err(draft));
        };
        self.check_writable()?;
        if draft
            .positions_of
            .is_some_and(|packs| packs != self.pack_count())
        {
            return Err(Error::PackedMeanwhile);
        }
        for &(oid, seen) in &draft.reads {
            let committed = self.newest_tid(oid)?.ok_or(Error::NoObject { oid })?;
            if committed != seen {
                return Err(Error::ReadConflict {
                    oid,
                    committed,
                    seen,
                });
            }
        }
        let mut locked = Locked {
            store: Arc::clone(self),
            previous: Vec::with_capacity(draft.records.len()),
            draft,
            guard,
            conflicts: Vec::new(),
            missing: Vec::new(),
        };
        locked.check()?;
        locked.missing = self.targets_gone(&locked.draft)?;
        Ok(Ok(locked))
    }
}

impl Locked {
    /// Find the previous record of each object, and the conflicts.
    fn check(&mut self) -> Result<()> {
        let generation = self.store.generation();
        let mut headers = Headers::new(&generation);
        for (number, record) in self.draft.records.iter().enumerate() {
            let previous = generation.position(record.oid)?;
            self.previous.push(previous.unwrap_or(0));
            if let Content::Data(len) = record.content() {
                generation.check_len(record.oid, len as u64)?;
            }
            let Basis::Revision(seen) = record.basis() else {
                continue;
            };
            let Some(position) = previous else {
                if record.content() == Content::Position(0) {
                    return Err(Error::NoObject { oid: record.oid });
                }
                continue;
            };
            let committed = match generation.recent.tid_at(position) {
                Some(tid) => tid,
                None => headers.at(position)?.tid,
            };
            if committed != seen {
                let oid = record.oid;
                self.conflicts.push(Conflict {
                    record: number,
                    oid,
                    committed,
                    seen,
                });
            }
        }
        Ok(())
    }

    /// The storage.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// How many records would be written.
    #[must_use]
    pub fn len(&self) -> usize {
        self.draft.len()
    }

    /// Would nothing be written?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.draft.is_empty()
    }

    /// The conflicts that are not resolved yet.
    #[must_use]
    pub fn conflicts(&self) -> &[Conflict] {
        &self.conflicts
    }

    /// The objects that the transaction refers to and that don't exist, in order.
    #[must_use]
    pub fn missing(&self) -> &[Oid] {
        &self.missing
    }

    /// The data of the draft's record with this number.
    ///
    /// # Errors
    /// As [`Draft::data`].
    pub fn data(&self, record: usize) -> Result<Option<Cow<'_, [u8]>>> {
        self.draft.data(record)
    }

    /// The data of the newest revision of a record's object, whether others can see it or not.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn committed_data(&self, record: usize) -> Result<Option<Vec<u8>>> {
        match self.previous.get(record) {
            None | Some(0) => Ok(None),
            Some(&position) => {
                let generation = self.store.generation();
                Ok(generation.data_at(position, &mut Vec::new())?.0)
            }
        }
    }

    /// Settle a conflict by other data, made from both revisions.
    ///
    /// # Errors
    /// Where records were put aside and cannot be read or written: the transaction is to be
    /// aborted.
    pub fn resolve(&mut self, record: usize, data: &[u8]) -> Result<()> {
        self.draft.replace(record, data)?;
        self.conflicts.retain(|conflict| conflict.record != record);
        Ok(())
    }

    /// The least id that the transaction can have at `now` (seconds since the epoch).
    #[must_use]
    pub fn least_tid(&self, now: f64) -> Tid {
        self.draft
            .tid
            .unwrap_or_else(|| next_tid(now, self.store.used_tid()))
    }

    /// Write the transaction, not finished, with an id that is not less than
    /// [`Locked::least_tid`]. All conflicts have to be settled.
    ///
    /// # Errors
    /// Where the file cannot be written; the file and the storage are then as before.
    pub fn write(self, tid: Tid) -> Result<Voted> {
        self.write_with(tid, None)
    }

    /// Write the transaction with the mark of a joint commit in it.
    ///
    /// # Errors
    /// As [`Locked::write`], and where the mark makes the extension too long.
    pub(crate) fn prepare(self, tid: Tid, mark: &JointMark) -> Result<Voted> {
        self.write_with(tid, Some(mark))
    }

    fn write_with(mut self, tid: Tid, mark: Option<&JointMark>) -> Result<Voted> {
        debug_assert!(
            self.conflicts.is_empty(),
            "a transaction with conflicts is written"
        );
        let last = self.store.last_voted_tid();
        if tid <= last {
            return Err(Error::TidNotLater { tid, last });
        }
        let start = self.store.end();
        self.draft.metadata.check()?;
        let is_sealed = self.seal(mark, start)?;
        let (header, end) = self.header(tid, start);
        if let Some(quota) = self.store.quota_bytes()
            && end > quota
        {
            return Err(Error::QuotaExceeded { needed: end, quota });
        }
        let records = if self.draft.aside_len() == 0 {
            self.write_whole(&header, start, is_sealed)?
        } else {
            self.write_parts(&header, start, is_sealed)?
        };
        Ok(Voted {
            store: self.store,
            guard: Some(self.guard),
            tid,
            status: self.draft.status,
            start,
            end,
            records,
            deletes: self.draft.deletes(),
        })
    }

    /// Seal the transaction, with the mark of a joint commit; whether it is.
    fn seal(&mut self, mark: Option<&JointMark>, start: u64) -> Result<bool> {
        let extension = &mut self.draft.metadata.extension;
        let checksums = &self.store.checksums;
        let Some(mark) = mark.filter(|_| !checksums.is_none()) else {
            // A copy is written as it was, byte for byte.
            return Ok(self.draft.tid.is_none() && checksums.seal(extension, &[], start)?);
        };
        let mark = mark.to_bytes();
        if let Some(mark) = &mark
            && checksums.seal(extension, mark, start)?
        {
            return Ok(true);
        }
        // Without its mark, nobody could tell what becomes of it after a crash.
        Err(Error::MetadataTooLong {
            field: "extension, with the paths of the members,",
            len: extension.len() + mark.map_or(usize::from(u16::MAX), |mark| mark.len()),
        })
    }

    /// Is there a seal for this place? One that was copied is put right: a layer may have changed
    /// the records.
    pub(crate) fn has_seal(&self, start: u64) -> bool {
        Seal::of(&self.draft.metadata.extension).is_some_and(|seal| seal.position == start)
    }

    /// Write the transaction at once; the place of each record.
    fn write_whole(
        &mut self,
        header: &TransactionHeader,
        start: u64,
        is_sealed: bool,
    ) -> Result<Vec<Written>> {
        let mut body = std::mem::take(&mut self.draft.body);
        let numbers = 0..self.draft.records.len();
        let records = self.fill_in(header, start, numbers, &mut body);
        let mut bytes = self.whole(header, body);
        debug_assert_eq!(
            bytes.len() as u64,
            header.length + TRAILER_LEN,
            "the transaction's length is wrong"
        );
        if self.has_seal(start) {
            let header_len = usize::try_from(header.len()).unwrap_or(0);
            seal::close(&mut bytes, header_len);
        }
        let checksums = &self.store.checksums;
        checksums.vote(&bytes, start, header.tid, is_sealed)?;
        self.store.use_tid(header.tid);
        self.store.write_tail(&bytes, start)?;
        Ok(records)
    }

    /// The bytes of the transaction, in the buffer of the draft's body: a large transaction is in
    /// memory once.
    fn whole(&self, header: &TransactionHeader, body: Vec<u8>) -> Vec<u8> {
        let mut bytes = body;
        let front = self.front(header);
        bytes.reserve_exact(front.len() + header.length.to_be_bytes().len());
        bytes.splice(..0, front);
        bytes.extend_from_slice(&header.length.to_be_bytes());
        bytes
    }

    /// The transaction's header with its strings.
    pub(crate) fn front(&self, header: &TransactionHeader) -> Vec<u8> {
        let metadata = &self.draft.metadata;
        let mut front = Vec::with_capacity(usize::try_from(header.len()).unwrap_or(0));
        front.extend_from_slice(&header.to_bytes());
        for field in [&metadata.user, &metadata.description, &metadata.extension] {
            front.extend_from_slice(field);
        }
        front
    }

    /// The transaction's header, and where it ends.
    fn header(&self, tid: Tid, start: u64) -> (TransactionHeader, u64) {
        let len = |bytes: &Vec<u8>| u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        let metadata = &self.draft.metadata;
        let mut header = TransactionHeader {
            tid,
            length: 0,
            status: Status::Voted,
            user_len: len(&metadata.user),
            description_len: len(&metadata.description),
            extension_len: len(&metadata.extension),
        };
        header.length = header.len() + self.draft.body_len();
        (header, start + header.length + TRAILER_LEN)
    }

    /// Fill in the headers of the records with these numbers, which are what is in `part`.
    pub(crate) fn fill_in(
        &self,
        header: &TransactionHeader,
        start: u64,
        numbers: Range<usize>,
        part: &mut [u8],
    ) -> Vec<Written> {
        let mut written = Vec::with_capacity(numbers.len());
        let records = self.draft.records.get(numbers.clone()).unwrap_or_default();
        let previous = self.previous.get(numbers).unwrap_or_default();
        let first = records.first().map_or(0, DraftRecord::start);
        for (record, &previous) in records.iter().zip(previous) {
            let own = RecordHeader {
                oid: record.oid,
                tid: header.tid,
                previous,
                transaction: start,
                data_len: match record.content() {
                    Content::Data(len) => len as u64,
                    Content::Position(_) => 0,
                },
            };
            let place = usize::try_from(record.start() - first).unwrap_or(usize::MAX);
            let place = place..place.saturating_add(RECORD_HEADER_LEN);
            if let Some(slot) = part.get_mut(place) {
                slot.copy_from_slice(&own.to_bytes());
            }
            let position = start + header.len() + record.start();
            written.push((record.oid, position, previous == 0));
        }
        written
    }
}

impl Voted {
    /// The transaction's id.
    #[must_use]
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// Wait until the transaction, not finished, is on the device.
    ///
    /// # Errors
    /// Where the sync failed: the storage takes no more writes.
    pub(crate) fn sync(&self) -> Result<()> {
        let generation = self.store.generation();
        let sync = || self.store.checksums.sync(&generation.file);
        let synced = self.store.publication.sync(sync);
        synced.map_err(|source| Error::io("syncing", &generation.path, source))
    }

    /// The error for a thread that did not come back from a sync.
    pub(crate) fn sync_panicked(&self) -> Error {
        let source = std::io::Error::other("the thread that synced it panicked");
        Error::io("syncing", self.store.path(), source)
    }

    /// Leave the transaction as it stands: recovery will tell what becomes of it.
    pub(crate) fn leave_in_doubt(mut self, reason: &str) {
        self.store.publication.fail(reason);
        self.guard = None;
    }

    /// Commit: write the status, let the next transaction vote.
    ///
    /// With `held`, the transaction becomes visible only after [`Finished::release`].
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] where the status cannot be written.
    pub fn finish(mut self, held: bool) -> Result<Finished> {
        let store = Arc::clone(&self.store);
        let status = self.status.to_byte();
        if let Err(error) = store.write_status(self.start + STATUS_OFFSET, status, self.tid) {
            // Cutting it off could undo in one member what is done in others.
            self.guard = None;
            return Err(error);
        }
        let generation = store.generation();
        let mut oids = Vec::with_capacity(self.records.len());
        for &(oid, position, is_new) in &self.records {
            generation.index.insert(oid, position, is_new);
            oids.push(oid);
        }
        let positions = self.records.iter().map(|&(_, position, _)| position);
        generation.recent.note(positions, self.tid);
        if self.deletes {
            store.removals.note_deletion(self.tid);
        }
        store.advance(self.end, self.tid, &oids);
        let (start, end) = (self.start, self.end);
        store.checksums.finish(start, end, self.tid, self.status);
        let published = Published {
            tid: self.tid,
            oids: oids.into(),
        };
        let ticket = store.publication.enter(published, self.end, held);
        // Nothing is left to undo: dropping the guard lets the next one vote.
        self.guard = None;
        Ok(Finished {
            ticket,
            tid: self.tid,
            store,
        })
    }
}

impl Drop for Voted {
    fn drop(&mut self) {
        if self.guard.is_some() {
            self.store.cut_tail(self.start);
        }
    }
}

impl Finished {
    /// The transaction's id.
    #[must_use]
    pub fn tid(&self) -> Tid {
        self.tid
    }

    /// Wait until the transaction is on the device.
    ///
    /// # Errors
    /// [`Error::OutcomeUnknown`] where the sync failed.
    pub fn wait_durable(&self) -> Result<()> {
        let file = Arc::clone(&self.store.generation().file);
        self.store
            .publication
            .wait_durable(self.ticket, || self.store.checksums.sync(&file))
            .map_err(|reason| Error::OutcomeUnknown {
                tid: self.tid,
                path: self.store.path().to_owned(),
                reason,
            })
    }

    /// Take the transaction for durable: it was synced, with all before it, at the vote.
    ///
    /// Should its status be lost, its mark tells whom to ask.
    pub(crate) fn trust_vote(self) -> Result<Self> {
        self.store.is_status_unsynced.store(true, Ordering::Release);
        self.store
            .publication
            .mark_durable(self.ticket)
            .map_err(|reason| Error::OutcomeUnknown {
                tid: self.tid,
                path: self.store.path().to_owned(),
                reason,
            })?;
        Ok(self)
    }

    /// Never show the transaction: another member's part of it can't be shown.
    pub(crate) fn leave_unseen(self, reason: &str) {
        self.store.publication.fail(reason);
    }

    /// Wait until everything before the transaction is visible.
    pub fn wait_turn(&self) {
        self.store.publication.wait_turn(self.ticket);
    }

    /// Wait until everything before the transaction is visible, and others may be told of it.
    ///
    /// Until [`Finished::release`], other threads that read as of it wait.
    pub fn announce(&self) {
        self.store.publication.announce(self.ticket, self.tid);
    }

    /// Let the transaction become visible, and wait until it is.
    pub fn release(&self) {
        self.store.publication.release(self.ticket);
    }
}

/// Is this the header of a transaction's first bytes?
const _: () = assert!(
    STATUS_OFFSET < TRANSACTION_HEADER_LEN as u64,
    "the status is in the header"
);
