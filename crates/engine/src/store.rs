//! A storage: one data file, open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use perdure_format::{Oid, Tid};

use crate::aside::Aside;
use crate::checksums::Checksums;
use crate::commit_lock::CommitLock;
use crate::cursor::Transactions;
use crate::disk::{Disk, MemoryDisk, MemoryFile, OsDisk};
use crate::draft::Draft;
use crate::error::{Error, Result};
use crate::generation::{Found, Generation, Located, Patience, Search};
use crate::index::Index;
use crate::open::{self, Cut, Options};
use crate::publication::{Publication, Published};
use crate::saved_index;
use crate::sync::{self, ArcSwap, AtomicBool, AtomicU64, Loaded};
use crate::targets::Removals;

/// An open storage. All methods may be called from any thread.
#[derive(Debug)]
pub struct Store {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    options: Options,
    generation: ArcSwap<Generation>,
    /// Counts packs, twice each: odd while file and end are being replaced.
    packs: AtomicU64,
    /// Is a pack running?
    pub(crate) packing: AtomicBool,
    pub(crate) commit_lock: Arc<CommitLock>,
    pub(crate) publication: Publication,
    pub(crate) checksums: Checksums,
    /// Where the next transaction goes. Changed only under the commit lock.
    end: AtomicU64,
    /// The last finished transaction, visible or not. Changed only under the commit lock.
    last_tid: AtomicU64,
    /// The greatest id that a transaction was written with, finished or not: none is used twice.
    used_tid: AtomicU64,
    /// Up to where somebody looks at the past: later transactions get later ids. Changed only
    /// under the commit lock.
    reserved_tid: AtomicU64,
    /// Was a joint transaction finished here that another member decided, and its status not synced
    /// since?
    pub(crate) is_status_unsynced: AtomicBool,
    max_oid: AtomicU64,
    pub(crate) removals: Removals,
    cut: Option<Cut>,
    /// The process that opened it, the only one that writes.
    pub(crate) process: u32,
    /// How much of the file the saved index covers.
    index_saved_end: AtomicU64,
    closed: AtomicBool,
}

impl Store {
    /// Open or create a storage in a file.
    ///
    /// # Errors
    /// Where the file is no database, is damaged, is locked by another writer or cannot be read.
    pub fn open(path: &Path, options: Options) -> Result<Self> {
        Self::open_on(Arc::new(OsDisk), path, options)
    }

    /// A new storage in memory.
    ///
    /// # Errors
    /// None that a user would see: memory takes every write.
    pub fn in_memory(name: &str) -> Result<Self> {
        Self::open_on(
            Arc::new(MemoryDisk::default()),
            Path::new(name),
            Options::default(),
        )
    }

    /// Open or create a storage on a given disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(disk: Arc<dyn Disk>, path: &Path, options: Options) -> Result<Self> {
        let opened = open::open(disk.as_ref(), path, &options)?;
        let (mut end, mut last_tid) = (opened.end, opened.last_tid);
        let generation = Arc::new(opened.generation.reading_as(&options, &disk));
        generation.verify_scanned(opened.scanned_from..end)?;
        let lock_file = opened.locks.as_ref().map(|it| Arc::clone(&it.lock_file));
        let checksums = Checksums::new(
            Arc::clone(&disk),
            path,
            lock_file,
            opened.mark,
            opened.checked,
        );
        if let Some(stop) = options.stop {
            (end, last_tid) = before(&generation, end, stop)?;
        }
        let saved_end = if opened.index_is_saved { opened.end } else { 0 };
        Ok(Self {
            process: disk.process(),
            disk,
            path: path.to_owned(),
            options,
            generation: ArcSwap::new(generation),
            packs: AtomicU64::new(0),
            packing: AtomicBool::new(false),
            commit_lock: Arc::new(CommitLock::new(opened.locks)),
            publication: Publication::starting_at(last_tid, end),
            checksums,
            end: AtomicU64::new(end),
            last_tid: AtomicU64::new(last_tid.0),
            used_tid: AtomicU64::new(last_tid.0),
            reserved_tid: AtomicU64::new(0),
            is_status_unsynced: AtomicBool::new(false),
            removals: Removals::since(last_tid),
            max_oid: AtomicU64::new(opened.max_oid.0),
            cut: opened.cut,
            index_saved_end: AtomicU64::new(saved_end),
            closed: AtomicBool::new(false),
        })
    }

    /// The data file's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What was cut off the file's end at open.
    #[must_use]
    pub fn cut(&self) -> Option<&Cut> {
        self.cut.as_ref()
    }

    /// Can nothing be committed here?
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.options.read_only
    }

    pub(crate) fn generation(&self) -> Arc<Generation> {
        self.generation.load_full()
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The file, and where its visible part ends.
    pub(crate) fn generation_and_end(&self) -> (Arc<Generation>, u64) {
        loop {
            let packs = self.packs.load(Ordering::Acquire);
            let generation = self.generation();
            let (_, end) = self.publication.visible_end();
            if packs.is_multiple_of(2) && packs == self.packs.load(Ordering::Acquire) {
                return (generation, end);
            }
            sync::yield_now();
        }
    }

    /// Which file positions belong to: another one after each pack.
    pub(crate) fn pack_count(&self) -> u64 {
        self.packs.load(Ordering::Acquire)
    }

    /// Read from another file from now on. Under the commit lock, with nothing on its way.
    pub(crate) fn replace_generation(&self, generation: Generation, end: u64) {
        let generation = generation.reading_as(&self.options, &self.disk);
        self.packs.fetch_add(1, Ordering::AcqRel);
        self.generation.store(Arc::new(generation));
        self.end.store(end, Ordering::Release);
        self.checksums.restart(end);
        self.is_status_unsynced.store(false, Ordering::Release);
        self.publication.rebase(end);
        self.index_saved_end.store(0, Ordering::Release);
        self.packs.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn quota_bytes(&self) -> Option<u64> {
        self.options.quota_bytes
    }

    fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            Err(Error::Closed)
        } else {
            Ok(())
        }
    }

    /// The data file that is read now. That a close has put nothing in its place is known only
    /// after it was taken.
    fn opened(&self) -> Result<Loaded<Generation>> {
        let generation = self.generation.load();
        self.check_open()?;
        Ok(generation)
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        self.check_process()?;
        self.check_certain()
    }

    /// Refuse where what is on the device is unknown: a transaction that nobody sees may be there.
    pub(crate) fn check_certain(&self) -> Result<()> {
        match self.publication.failure() {
            None => Ok(()),
            Some(reason) => Err(Error::Poisoned {
                path: self.path.clone(),
                reason,
            }),
        }
    }

    /// Wait until nothing is on its way, so that all that is there is visible; under the commit
    /// lock.
    ///
    /// # Errors
    /// As [`Store::check_certain`].
    pub(crate) fn settle(&self) -> Result<()> {
        self.publication.settle();
        self.check_certain()
    }

    // Reading.

    /// Wait until all transactions that are finished now are visible.
    ///
    /// Who met a conflict with one of them and tries again begins with a snapshot that has it.
    pub fn catch_up(&self) {
        self.publication.catch_up();
    }

    /// The last visible transaction, when all is visible that somebody who reads up to `snapshot`
    /// may have been told of.
    #[must_use]
    pub fn visible_for(&self, snapshot: Tid) -> Tid {
        if self.has_announced(snapshot) {
            self.await_announced(snapshot);
        }
        self.last_transaction()
    }

    /// Are others being told of a transaction that `snapshot` includes and that isn't visible yet?
    #[must_use]
    pub fn has_announced(&self, snapshot: Tid) -> bool {
        self.publication.has_announced(snapshot)
    }

    /// Wait until such a transaction is visible ([`Store::has_announced`]).
    ///
    /// Without that, a snapshot that was taken from what one was told could change under its
    /// reader.
    pub fn await_announced(&self, snapshot: Tid) {
        self.publication.await_announced(snapshot);
    }

    /// The last visible transaction: what a new snapshot reads up to.
    #[must_use]
    pub fn last_transaction(&self) -> Tid {
        self.publication.visible()
    }

    /// Read an object's revision at or before `snapshot` into `buffer`.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn load(
        &self,
        oid: Oid,
        snapshot: Tid,
        buffer: &mut Vec<u8>,
        patience: Patience,
    ) -> Result<Found> {
        self.opened()?.load(oid, snapshot, buffer, patience)
    }

    /// Read exactly one revision of an object into `buffer`.
    ///
    /// # Errors
    /// [`Error::NoRevision`] where there is no such revision; else as [`Store::load`].
    pub fn load_revision(&self, oid: Oid, tid: Tid, buffer: &mut Vec<u8>) -> Result<Found> {
        let found = self.load(
            oid,
            tid.min(self.last_transaction()),
            buffer,
            Patience::Wait,
        )?;
        match found {
            Found::Record(located) if located.tid == tid => Ok(found),
            Found::Deleted(deleted) if deleted == tid => Ok(found),
            _ => Err(Error::NoRevision { oid, tid }),
        }
    }

    /// The current visible revision of an object; none where it does not exist.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn current_tid(&self, oid: Oid) -> Result<Option<Tid>> {
        let mut buffer = Vec::new();
        Ok(
            match self.load(oid, self.last_transaction(), &mut buffer, Patience::Wait)? {
                Found::Record(located) => Some(located.tid),
                Found::Nothing | Found::Deleted(_) | Found::WouldWait => None,
            },
        )
    }

    /// The newest finished revision of an object, visible or not: what a vote is checked against.
    pub(crate) fn newest_tid(&self, oid: Oid) -> Result<Option<Tid>> {
        let generation = self.generation.load();
        match generation.position(oid)? {
            Some(position) => generation
                .header_at(position)
                .map(|header| Some(header.tid)),
            None => Ok(None),
        }
    }

    /// The position of an object's newest record, visible or not.
    ///
    /// # Errors
    /// Where the index cannot be read.
    pub fn position(&self, oid: Oid) -> Result<Option<u64>> {
        self.opened()?.position(oid)
    }

    /// The position of the record that `tid` wrote of an object, where it has the same data; for
    /// the draft to refer to.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn same_data(
        &self,
        draft: &mut Draft,
        oid: Oid,
        tid: Tid,
        data: Option<&[u8]>,
    ) -> Result<Option<u64>> {
        draft.rely_on_positions(self.pack_count())?;
        let generation = self.opened()?;
        let mut buffer = Vec::new();
        let search = generation.revision(oid, tid, &mut buffer, Patience::Wait)?;
        let Search::Revision(revision) = search else {
            return Ok(None);
        };
        if revision.header.tid != tid {
            return Ok(None);
        }
        let found = generation.data_of(&revision, &mut buffer, Patience::Wait)?;
        Ok(match (found, data) {
            (Found::Record(found), Some(data))
                if buffer.get(found.start..found.end) != Some(data) =>
            {
                None
            }
            (Found::Record(_), _) => Some(revision.position),
            _ => None,
        })
    }

    /// The first object at or after `oid` that exists at `snapshot`; its data are in `buffer`.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn object_at_or_after(
        &self,
        oid: Oid,
        snapshot: Tid,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<(Oid, Located)>> {
        let generation = self.opened()?;
        let mut from = Some(oid);
        while let Some(start) = from {
            let Some(entry) = generation.at_or_after(start)? else {
                return Ok(None);
            };
            let found = generation.load(entry.oid, snapshot, buffer, Patience::Wait)?;
            if let Found::Record(located) = found {
                return Ok(Some((entry.oid, located)));
            }
            from = entry.oid.0.checked_add(1).map(Oid);
        }
        Ok(None)
    }

    /// As [`Store::object_at_or_after`], and the object after that one.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn record_at_or_after(
        &self,
        oid: Oid,
        snapshot: Tid,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<(Oid, Located, Option<Oid>)>> {
        let Some((found, located)) = self.object_at_or_after(oid, snapshot, buffer)? else {
            return Ok(None);
        };
        let next = match found.0.checked_add(1) {
            Some(next) => self.object_at_or_after(Oid(next), snapshot, &mut Vec::new())?,
            None => None,
        };
        Ok(Some((found, located, next.map(|(oid, _)| oid))))
    }

    /// The last `count` visible transactions and what they changed, oldest first.
    ///
    /// # Errors
    /// Where the file cannot be read or is damaged.
    pub fn last_changes(&self, count: usize) -> Result<Vec<Published>> {
        let mut transactions = self.transactions()?;
        let last = self.last_transaction();
        let mut first = last;
        for _ in 0..count {
            let Some(transaction) = transactions.retreat()? else {
                break;
            };
            first = transaction.header.tid;
        }
        if count == 0 || last == Tid::ZERO {
            return Ok(Vec::new());
        }
        self.changes_in_file(Tid(first.0 - 1), last)
    }

    /// Walk over the visible transactions.
    ///
    /// # Errors
    /// Where the storage is closed.
    pub fn transactions(&self) -> Result<Transactions> {
        let (generation, end) = self.generation_and_end();
        self.check_open()?;
        Ok(Transactions::new(generation, end))
    }

    /// What became visible after a snapshot: the newest snapshot now, and the transactions since.
    ///
    /// # Errors
    /// Where the file has to be asked and cannot be read.
    pub fn changes_since(&self, snapshot: Tid) -> Result<(Tid, Vec<Published>)> {
        let (now, changes) = self.publication.since(snapshot);
        match changes {
            Some(changes) => Ok((now, changes)),
            None => self
                .changes_in_file(snapshot, now)
                .map(|changes| (now, changes)),
        }
    }

    /// For who stayed away so long that the log has forgotten.
    fn changes_in_file(&self, snapshot: Tid, now: Tid) -> Result<Vec<Published>> {
        let start = Tid(snapshot.0.saturating_add(1));
        let mut transactions = self.transactions()?.between(start, now)?;
        let mut changes = Vec::new();
        while let Some(transaction) = transactions.advance()? {
            let mut oids = Vec::new();
            let mut records = transactions.records_of(&transaction);
            while let Some(header) = records.advance_header()? {
                oids.push(header.oid);
            }
            changes.push(Published {
                tid: transaction.header.tid,
                oids: oids.into(),
            });
        }
        Ok(changes)
    }

    /// How many objects have a record.
    #[must_use]
    pub fn object_count(&self) -> u64 {
        self.generation.load().index.len()
    }

    /// The length of the visible part of the data file, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.publication.visible_end().1
    }

    // Oids.

    /// An oid that no object has.
    ///
    /// # Errors
    /// Where the storage takes no writes.
    pub fn new_oid(&self) -> Result<Oid> {
        self.check_writable()?;
        Ok(Oid(self.max_oid.fetch_add(1, Ordering::Relaxed) + 1))
    }

    /// The greatest oid ever given out.
    #[must_use]
    pub fn max_oid(&self) -> Oid {
        Oid(self.max_oid.load(Ordering::Relaxed))
    }

    /// Give out only greater oids from now on.
    pub fn raise_max_oid(&self, oid: Oid) {
        self.max_oid.fetch_max(oid.0, Ordering::Relaxed);
    }

    // What the commit steps need; under the commit lock.

    pub(crate) fn last_voted_tid(&self) -> Tid {
        Tid(self.last_tid.load(Ordering::Acquire))
    }

    /// The greatest id that no later transaction may have.
    pub(crate) fn used_tid(&self) -> Tid {
        Tid(self.used_tid.load(Ordering::Acquire))
            .max(Tid(self.reserved_tid.load(Ordering::Acquire)))
            .max(self.last_voted_tid())
    }

    /// Does every transaction that isn't finished have a later id than this, or get one?
    ///
    /// It is so once one was written with a later id, or this one was reserved: both happen under
    /// the commit lock.
    pub(crate) fn is_passed(&self, tid: Tid) -> bool {
        self.used_tid.load(Ordering::Acquire) > tid.0
            || self.reserved_tid.load(Ordering::Acquire) >= tid.0
    }

    /// Have all later transactions get later ids than this.
    pub(crate) fn reserve_past(&self, tid: Tid) {
        self.reserved_tid.fetch_max(tid.0, Ordering::AcqRel);
    }

    /// Note that a transaction is written with this id.
    pub(crate) fn use_tid(&self, tid: Tid) {
        self.used_tid.fetch_max(tid.0, Ordering::AcqRel);
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// Write behind the last transaction; what a failed write leaves there is cut off.
    pub(crate) fn write_tail(&self, bytes: &[u8], start: u64) -> Result<()> {
        self.write_part(bytes, start)
            .inspect_err(|_| self.cut_tail(start))
    }

    /// Write a part of a transaction, behind the last one.
    pub(crate) fn write_part(&self, bytes: &[u8], at: u64) -> Result<()> {
        let written = self.generation.load().file.write_at(bytes, at);
        written.map_err(|source| Error::io("writing", &self.path, source))
    }

    /// Let a draft put its records aside, on the disk of the data file, when they become many.
    pub fn lend_room(&self, draft: &mut Draft) {
        if !self.disk.is_volatile() {
            draft.lend(Aside::new(Arc::clone(&self.disk), &self.path));
        }
    }

    /// Forget what was written behind the last transaction.
    pub(crate) fn cut_tail(&self, start: u64) {
        if self.is_forked() {
            return;
        }
        // A failure leaves bytes that the next transaction overwrites, or the next open cuts off.
        let _ = self.generation.load().file.truncate(start);
    }

    /// Bring the status of a joint transaction to the device that another member decided.
    fn sync_status(&self) -> Result<()> {
        if !self.is_status_unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let file = Arc::clone(&self.generation.load().file);
        let synced = self.publication.sync(|| self.checksums.sync(&file));
        synced.map_err(|source| Error::io("syncing", &self.path, source))
    }

    pub(crate) fn write_status(&self, position: u64, status: u8, tid: Tid) -> Result<()> {
        self.check_process()?;
        self.generation
            .load()
            .file
            .write_at(&[status], position)
            .map_err(|source| {
                let reason = source.to_string();
                self.publication.fail(&reason);
                Error::OutcomeUnknown {
                    tid,
                    path: self.path.clone(),
                    reason,
                }
            })
    }

    /// Note where the next transaction goes and which one was the last.
    pub(crate) fn advance(&self, end: u64, tid: Tid, oids: &[Oid]) {
        self.end.store(end, Ordering::Release);
        self.last_tid.store(tid.0, Ordering::Release);
        if let Some(greatest) = oids.iter().max() {
            self.raise_max_oid(*greatest);
        }
    }

    // Closing.

    /// Save the index, so that the next open is fast.
    ///
    /// # Errors
    /// Where the index cannot be written; the storage is none the worse.
    pub fn save_index(&self) -> Result<()> {
        let (tid, end) = self.publication.visible_end();
        let settled = end == self.end() && self.publication.failure().is_none();
        if self.options.read_only
            || self.is_forked()
            || !settled
            || end == self.index_saved_end.load(Ordering::Acquire)
        {
            return Ok(());
        }
        // Where the saved index ends, nobody looks at a status any more.
        self.sync_status()?;
        let generation = self.generation();
        saved_index::save(self.disk.as_ref(), &generation, (end, tid), self.max_oid())?;
        self.index_saved_end.store(end, Ordering::Release);
        Ok(())
    }

    /// Wait for transactions on their way, save the index, free the lock.
    ///
    /// # Errors
    /// Where the index cannot be written; the storage is closed all the same.
    pub fn close(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        if self.is_forked() {
            // What is on its way is the other process's, and so are the files.
            self.closed.store(true, Ordering::Release);
            self.let_go_of_file();
            self.commit_lock.unlock_forked();
            return Ok(());
        }
        self.publication.settle();
        let saved = {
            let guard = self.commit_lock.acquire(CLOSE_PATIENCE);
            self.closed.store(true, Ordering::Release);
            // What finished while the lock was waited for.
            self.publication.settle();
            // A transaction that is still voted keeps the commit lock, and its end as it is.
            let settled = guard.is_some()
                && self.publication.failure().is_none()
                && self.sync_status().is_ok();
            let noted = self.checksums.close(settled);
            let noted = noted.map_err(|e| Error::io("closing the checksums of", &self.path, e));
            let saved = self.save_index().and(noted);
            if guard.is_some() {
                self.let_go_of_file();
            }
            saved
        };
        self.commit_lock.unlock_file();
        saved
    }

    /// Close the data file itself; readers that are under way have it still.
    fn let_go_of_file(&self) {
        let nothing = Arc::new(MemoryFile::default());
        let index = Index::of_nothing(self.object_count());
        let closed = Generation::new(nothing, &self.path, index);
        self.generation.store(Arc::new(closed));
    }
}

/// How long a close waits for a transaction that was voted and is not finished.
const CLOSE_PATIENCE: std::time::Duration = std::time::Duration::from_secs(1);

/// Where the last transaction before `stop` ends, and its id.
fn before(generation: &Arc<Generation>, end: u64, stop: Tid) -> Result<(u64, Tid)> {
    let all = Transactions::new(Arc::clone(generation), end);
    let last = Tid(stop.0.saturating_sub(1));
    let mut found = (perdure_format::file::FIRST_TRANSACTION, Tid::ZERO);
    let position = all.clone().between(stop, Tid::MAX)?.position();
    if let Some(transaction) = all.ending_at(position)? {
        found = (position, transaction.header.tid.min(last));
    }
    Ok(found)
}
