//! What every transaction looked like when it was written, kept beside the data file.
//!
//! The file tells, after a power loss, which of the last transactions are whole, and which must be
//! there because they were acknowledged. See `docs/internals/checksums.md`.

mod check;
mod judge;
mod packed;
mod seals;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, Weak};

use perdure_format::Tid;
use perdure_format::checksums::{ANCHORS_MAX, Anchor, Entry, FIRST_ENTRY, Mark, sums_of};
use perdure_format::file::Status;
use perdure_format::seal;

use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::saved_index::with_suffix;
use crate::sync::{Mutex, MutexGuard};

pub use check::{ChecksumReport, Damage};
pub(crate) use judge::{Judgement, is_of, judge, next_entry, problem_of, rewrite, without};
pub(crate) use packed::{KnownSums, PackedSums, SumsReader};
pub(crate) use seals::{Verdict, by_seal};

/// How many bytes of entries may be missing after a power loss, to be made again from the data.
const UNSYNCED_ENTRIES_MAX: u64 = 1 << 16;
/// How many bytes of data recovery may have to compare with seals.
const UNMARKED_BYTES_MAX: u64 = 1 << 22;

/// The checksum file's name: the data file's, and a suffix that stock ZODB does not use.
pub(crate) fn path_of(data: &Path) -> PathBuf {
    with_suffix(data, ".psums")
}

/// The first line of the lock file: the process that holds the lock, as stock ZODB writes it.
pub(crate) fn holder_line(pid: u32) -> String {
    format!(" {pid}\n")
}

/// What a session of perdure leaves in the lock file, and everybody else overwrites.
pub(crate) fn stamp_line(session: u64) -> String {
    format!("perdure {session:016x}\n")
}

/// The session that a lock file's text names.
pub(crate) fn session_of(text: &str) -> Option<u64> {
    let line = text.lines().nth(1)?.strip_prefix("perdure ")?;
    u64::from_str_radix(line, 16).ok()
}

/// How far the transactions of the data file are finished.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) data_end: u64,
    pub(crate) last_tid: Tid,
    pub(crate) entries_end: u64,
    pub(crate) anchors: Vec<Anchor>,
}

impl Finished {
    /// A data file of which no checksums are known.
    pub(crate) fn unknown(data_end: u64, last_tid: Tid) -> Self {
        Self {
            data_end,
            last_tid,
            entries_end: FIRST_ENTRY,
            anchors: Vec::new(),
        }
    }

    /// Another transaction is finished, whose entry ends at `entries_end`.
    fn push(&mut self, start: u64, end: u64, tid: Tid, status: Status, entries_end: u64) {
        let entry = std::mem::replace(&mut self.entries_end, entries_end);
        (self.data_end, self.last_tid) = (end, tid);
        // A pack would not change the status of a packed one: it tells nothing.
        if status == Status::Committed {
            if self.anchors.len() == ANCHORS_MAX {
                self.anchors.remove(0);
            }
            self.anchors.push(Anchor {
                position: start,
                tid,
                entry,
            });
        }
    }
}

/// Writes the checksums of one store.
#[derive(Debug)]
pub(crate) struct Checksums {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    /// Where the entries ended when the store was opened.
    entries_end: u64,
    /// Guards the checksum file. Taken after the commit lock, never before; a leaf.
    keeper: Option<Mutex<Keeper>>,
}

#[derive(Debug)]
struct Keeper {
    /// The lock file, as long as the store holds it.
    lock_file: Weak<dyn File>,
    /// The checksum file; none before this session's first vote.
    file: Option<Arc<dyn File>>,
    /// Is there a checksum file that belongs to the data file?
    belongs: bool,
    /// The last mark that was written or read.
    mark: Mark,
    finished: Finished,
    /// How far the data file is on the device.
    durable: u64,
    /// Was an entry written that has to be on the device with its transaction?
    must_sync: bool,
    /// The length of the entry behind the finished ones.
    voted_len: u64,
}

impl Checksums {
    /// Checksums of a data file that is locked by `lock_file`; none without.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        data: &Path,
        lock_file: Option<Arc<dyn File>>,
        mark: Option<Mark>,
        finished: Finished,
    ) -> Self {
        let lock_file = lock_file.filter(|_| !disk.is_volatile());
        let entries_end = mark.as_ref().map_or(FIRST_ENTRY, |_| finished.entries_end);
        let keeper = lock_file.map(|lock_file| {
            Mutex::new(Keeper {
                lock_file: Arc::downgrade(&lock_file),
                file: None,
                belongs: mark.is_some(),
                mark: mark.unwrap_or_default(),
                durable: finished.data_end,
                must_sync: false,
                finished,
                voted_len: 0,
            })
        });
        Self {
            disk,
            path: path_of(data),
            entries_end,
            keeper,
        }
    }

    /// Where the entries of finished transactions end.
    pub(crate) fn entries_end(&self) -> u64 {
        self.keeper()
            .map_or(self.entries_end, |keeper| keeper.finished.entries_end)
    }

    /// Are there none, since nothing that is written here outlives the process?
    pub(crate) fn is_none(&self) -> bool {
        self.keeper.is_none()
    }

    fn keeper(&self) -> Option<MutexGuard<'_, Keeper>> {
        let keeper = self.keeper.as_ref()?;
        Some(keeper.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn error(&self, source: io::Error) -> Error {
        Error::io("writing", &self.path, source)
    }

    /// Add a seal, and the mark of a joint commit before it, to the extension of a transaction
    /// that is about to be written at `start`, where there is room; whether there was.
    pub(crate) fn seal(&self, extension: &mut Vec<u8>, mark: &[u8], start: u64) -> Result<bool> {
        // One that came from another transaction says nothing of this one.
        extension.truncate(seal::unsealed(extension).len());
        let Some(mut keeper) = self.keeper() else {
            return Ok(false);
        };
        self.file_of(&mut keeper)?;
        Ok(seal::add(
            extension,
            mark,
            keeper.mark.session,
            start,
            keeper.durable,
        ))
    }

    fn file_of(&self, keeper: &mut Keeper) -> Result<Arc<dyn File>> {
        match &keeper.file {
            Some(file) => Ok(Arc::clone(file)),
            None => self.begin(keeper).map_err(|e| self.error(e)),
        }
    }

    /// Write the checksums of a transaction that is about to be written at `start`.
    pub(crate) fn vote(
        &self,
        transaction: &[u8],
        start: u64,
        tid: Tid,
        is_sealed: bool,
    ) -> Result<()> {
        if self.is_none() {
            return Ok(());
        }
        let sums = sums_of(transaction).unwrap_or_default();
        let place = start..start + transaction.len() as u64;
        self.vote_sums(sums, place, tid, is_sealed)
    }

    /// Write the checksums of the transaction that stands, or is about to stand, at `place`: that
    /// of its header, and those of its records.
    pub(crate) fn vote_sums(
        &self,
        (header_sum, record_sums): (u32, Vec<u32>),
        place: Range<u64>,
        tid: Tid,
        is_sealed: bool,
    ) -> Result<()> {
        let Some(mut keeper) = self.keeper() else {
            return Ok(());
        };
        let file = self.file_of(&mut keeper)?;
        let entry = Entry {
            session: keeper.mark.session,
            position: place.start,
            len: place.end - place.start,
            tid,
            durable: keeper.durable,
            header_sum,
            record_sums,
        };
        keeper.voted_len = entry.entry_len();
        keeper.must_sync |= !is_sealed;
        file.write_at(&entry.to_bytes(), keeper.finished.entries_end)
            .map_err(|source| self.error(source))
    }

    /// The transaction is finished: its entry counts.
    pub(crate) fn finish(&self, start: u64, end: u64, tid: Tid, status: Status) {
        if let Some(mut keeper) = self.keeper() {
            let entries_end = keeper.finished.entries_end + keeper.voted_len;
            keeper.finished.push(start, end, tid, status, entries_end);
        }
    }

    /// Bring data to the device, and the checksums where seals do not do or enough came together;
    /// then note how far they are there.
    pub(crate) fn sync(&self, data: &Arc<dyn File>) -> io::Result<()> {
        let Some(mut keeper) = self.keeper() else {
            return data.sync();
        };
        let data_end = keeper.finished.data_end;
        let checkpoint = keeper.checkpoint();
        drop(keeper);
        match &checkpoint {
            None => data.sync()?,
            Some((file, _)) => self.disk.sync_together(&[data.as_ref(), file.as_ref()])?,
        }
        let Some(mut keeper) = self.keeper() else {
            return Ok(());
        };
        keeper.durable = keeper.durable.max(data_end);
        if let Some((file, finished)) = checkpoint
            && finished.data_end >= keeper.mark.data_end
        {
            let session = keeper.mark.session;
            // It comes to the device with a later sync; until then, the entries tell as much.
            let _ = keeper.put_mark(file.as_ref(), &finished, session);
        }
        Ok(())
    }

    /// Let go of the files. Where everything is on the device, note that nobody is writing.
    pub(crate) fn close(&self, settled: bool) -> io::Result<()> {
        let Some(mut keeper) = self.keeper() else {
            return Ok(());
        };
        let Some(file) = keeper.file.take().filter(|_| settled) else {
            return Ok(());
        };
        let finished = keeper.finished.clone();
        // The entries first: a mark vouches for them.
        if finished.entries_end > keeper.mark.entries_end {
            file.sync()?;
        }
        keeper.put_mark(file.as_ref(), &finished, 0)?;
        file.sync()
    }

    /// Remove the file: another data file is about to take the place of the one that it describes.
    pub(crate) fn forget(&self) -> io::Result<()> {
        let Some(mut keeper) = self.keeper() else {
            return Ok(());
        };
        keeper.file = None;
        keeper.belongs = false;
        keeper.must_sync = false;
        keeper.finished.entries_end = FIRST_ENTRY;
        match self.disk.remove(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    /// Another data file is in place.
    pub(crate) fn restart(&self, data_end: u64) {
        if let Some(mut keeper) = self.keeper() {
            keeper.finished = Finished::unknown(data_end, keeper.finished.last_tid);
            keeper.durable = data_end;
        }
    }

    /// Say on the device that this session is writing, before it writes anything.
    fn begin(&self, keeper: &mut Keeper) -> io::Result<Arc<dyn File>> {
        let session = keeper.next_session();
        let finished = keeper.finished.clone();
        let file = if keeper.belongs {
            let file = self.disk.open(&self.path, Access::Write)?;
            keeper.put_mark(file.as_ref(), &finished, session)?;
            file.sync()?;
            file
        } else {
            self.create(keeper, &finished, session)?
        };
        let text = holder_line(std::process::id()) + &stamp_line(session);
        let lock_file = keeper.lock_file.upgrade();
        let lock_file = lock_file.ok_or_else(|| io::Error::other("the store is closed"))?;
        lock_file.write_at(text.as_bytes(), 0)?;
        lock_file.truncate(text.len() as u64)?;
        lock_file.sync()?;
        self.disk.sync_directory_of(&self.path)?;
        keeper.file = Some(Arc::clone(&file));
        keeper.belongs = true;
        Ok(file)
    }

    fn create(
        &self,
        keeper: &mut Keeper,
        finished: &Finished,
        session: u64,
    ) -> io::Result<Arc<dyn File>> {
        let temporary = with_suffix(&self.path, "_tmp");
        if self.disk.exists(&temporary)? {
            self.disk.remove(&temporary)?;
        }
        let file = self.disk.open(&temporary, Access::Create)?;
        keeper.put_mark(file.as_ref(), finished, session)?;
        file.sync()?;
        self.disk.rename(&temporary, &self.path)?;
        Ok(file)
    }
}

impl Keeper {
    /// The checksum file and how far it is written, where it is to be synced with the data.
    fn checkpoint(&mut self) -> Option<(Arc<dyn File>, Finished)> {
        let file = self.file.as_ref()?;
        let entries = self
            .finished
            .entries_end
            .saturating_sub(self.mark.entries_end);
        let bytes = self.finished.data_end.saturating_sub(self.mark.data_end);
        let is_due = entries > UNSYNCED_ENTRIES_MAX || bytes > UNMARKED_BYTES_MAX;
        (std::mem::take(&mut self.must_sync) || is_due)
            .then(|| (Arc::clone(file), self.finished.clone()))
    }

    /// An id that no session had before that left a mark or a stamp.
    fn next_session(&self) -> u64 {
        let mix = |bits: u64| (bits ^ (bits >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let before = [
            self.mark.session,
            self.mark.sequence,
            self.finished.last_tid.0,
        ];
        let session = before.into_iter().fold(1, |mixed, part| mix(mixed ^ part));
        session.max(1)
    }

    /// Write a mark that says how far everything is on the device.
    fn put_mark(&mut self, file: &dyn File, durable: &Finished, session: u64) -> io::Result<()> {
        let mark = Mark {
            sequence: self.mark.sequence + 1,
            session,
            data_end: durable.data_end,
            last_tid: durable.last_tid,
            entries_end: durable.entries_end,
            anchors: durable.anchors.clone(),
        };
        file.write_at(&mark.to_bytes(), mark.place())?;
        self.mark = mark;
        Ok(())
    }
}
