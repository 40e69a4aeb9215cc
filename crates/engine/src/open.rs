//! Opening a data file: locking, recovery, and the index.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use perdure_format::checksums::Mark;
use perdure_format::file::{FIRST_TRANSACTION, MAGIC, RecordHeader, is_magic};
use perdure_format::{Oid, Tid};

use crate::checksums::{self, Finished, Judgement, holder_line, stamp_line};
use crate::data_lock::{self, Locks};
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::in_doubt::{self, Decision};
use crate::index::Index;
use crate::rebuild::Entries;
use crate::saved_index::{self, with_suffix};
use crate::scan::{self, Range, Scanned, Stop, Visitor};
use crate::torn;

/// How a storage is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Begin with an empty database, even where there is one.
    pub create: bool,
    /// Open for reading only: no lock is taken and nothing is written.
    pub read_only: bool,
    /// See only transactions before this one.
    pub stop: Option<Tid>,
    /// The greatest length, in bytes, that the data file may grow to.
    pub quota_bytes: Option<u64>,
    /// Compare each transaction with its checksums before anything is read from it.
    pub verify_reads: bool,
    /// The greatest length, in bytes, of a record's data: no larger one is read or written.
    pub record_bytes_max: Option<u64>,
}

/// What was cut off the end of a file at open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// Where the file ends now.
    pub position: u64,
    /// How many bytes were cut off.
    pub len: u64,
    /// The file that keeps them.
    pub kept_in: PathBuf,
    /// Why they are no part of the database.
    pub reason: String,
}

/// An opened data file.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) generation: Generation,
    pub(crate) locks: Option<Locks>,
    pub(crate) end: u64,
    pub(crate) last_tid: Tid,
    pub(crate) max_oid: Oid,
    pub(crate) cut: Option<Cut>,
    pub(crate) index_is_saved: bool,
    /// Where the scan began that the index was made by, or added to.
    pub(crate) scanned_from: u64,
    /// The mark of the checksum file, where one belongs to the data file.
    pub(crate) mark: Option<Mark>,
    /// How far the checksums agree with the data file.
    pub(crate) checked: Finished,
}

/// How often a file is read anew that another process changes while it is read.
const ATTEMPTS_MAX: usize = 20;

/// Open or create the data file at `path`.
pub(crate) fn open(disk: &dyn Disk, path: &Path, options: &Options) -> Result<Opened> {
    if options.read_only {
        steadily(|| open_once(disk, path, options))
    } else {
        open_once(disk, path, options)
    }
}

/// Read a file that another process may be writing to.
///
/// A transaction that was on its way when its header was read may be finished, and followed by
/// others, when these are. That looks like damage, but not in the same place twice.
pub(crate) fn steadily<T>(mut read: impl FnMut() -> Result<T>) -> Result<T> {
    let mut seen = None;
    for _ in 0..ATTEMPTS_MAX {
        match read() {
            Err(Error::Corrupted { position, .. }) if seen != Some(position) => {
                seen = Some(position);
            }
            done => return done,
        }
    }
    read()
}

fn open_once(disk: &dyn Disk, path: &Path, options: &Options) -> Result<Opened> {
    let (lock, stamp) = if options.read_only {
        (None, read_stamp(disk, path))
    } else {
        let (lock, stamp) = take_lock(disk, path)?;
        (Some(lock), stamp)
    };
    let file = open_file(disk, path, options)?;
    let (locks, file) = match lock {
        None => (None, file),
        Some(lock_file) => {
            let (data, file) = data_lock::open_locked(disk, path)?;
            (Some(Locks { lock_file, data }), file)
        }
    };
    check_magic(&file, path, options.read_only)?;
    let asked = (!options.read_only).then_some(0);
    let mut opened = recover(disk, path, &file, stamp, asked)?;
    opened.locks = locks;
    if let Some(stop) = opened.stop.take() {
        opened.cut = handle_tail(disk, path, &opened, stop, options.read_only)?;
    }
    if !options.read_only {
        settle(disk, path, &mut opened)?;
    }
    if !options.read_only && !opened.index_is_saved {
        // The index only saves time: a disk that has no room for it is no reason not to open.
        let upto = (opened.end, opened.last_tid);
        if saved_index::save(disk, &opened.generation, upto, opened.max_oid).is_ok() {
            opened.index_is_saved = true;
            if let Some(base) = saved_index::reopen(disk, path, &opened.generation.file) {
                opened.generation.index.replace_base(base);
            }
        }
    }
    Ok(opened.into())
}

/// Index what is whole of a file, with the joint transactions that were committed.
///
/// `asked` is how many members wait for this one's answer; none where no one is to be asked.
fn recover(
    disk: &dyn Disk,
    path: &Path,
    file: &Arc<dyn File>,
    stamp: Option<u64>,
    asked: Option<usize>,
) -> Result<Indexed> {
    loop {
        let judgement = checksums::judge(disk, path, file, stamp)?;
        let indexed = index_of(disk, path, Arc::clone(file), judgement)?;
        let is_settled = match asked {
            Some(asked) => !settle_joint(disk, path, &indexed, asked)?,
            None => true,
        };
        if is_settled {
            return without_torn(disk, path, indexed);
        }
    }
}

/// Where the transactions end that an open of this file would find, which are on the device then.
///
/// Nothing is cut off, and nobody need have the file locked.
pub(crate) fn durable_end(
    disk: &dyn Disk,
    path: &Path,
    file: &Arc<dyn File>,
    asked: usize,
) -> Result<u64> {
    check_magic(file, path, true)?;
    let mut indexed = recover(disk, path, file, read_stamp(disk, path), Some(asked))?;
    if let Some(stop) = indexed.stop.take() {
        refuse_damage(path, &indexed, stop)?;
    }
    write_again(&indexed).map_err(|source| Error::io("syncing", path, source))?;
    Ok(indexed.end)
}

/// Take the lock that stock ZODB takes too.
///
/// Gives the session that left its stamp there, too; the stamp stays until a commit replaces it.
pub(crate) fn take_lock(disk: &dyn Disk, path: &Path) -> Result<(Arc<dyn File>, Option<u64>)> {
    let lock_path = with_suffix(path, ".lock");
    let error = |source| Error::io("locking", &lock_path, source);
    let file = match disk.open(&lock_path, Access::Write) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => {
            match disk.open(&lock_path, Access::Create) {
                Err(raced) if raced.kind() == io::ErrorKind::AlreadyExists => {
                    disk.open(&lock_path, Access::Write)
                }
                other => other,
            }
        }
        other => other,
    }
    .map_err(error)?;
    if !file.try_lock().map_err(error)? {
        let text = text_of(file.as_ref());
        let holder = text.split_whitespace().next();
        let holder = holder.and_then(|text| text.parse().ok());
        return Err(Error::Locked {
            path: path.to_owned(),
            holder,
        });
    }
    let stamp = checksums::session_of(&text_of(file.as_ref()));
    let mut text = holder_line(std::process::id());
    text.extend(stamp.map(stamp_line));
    file.write_at(text.as_bytes(), 0)
        .and_then(|()| file.truncate(text.len() as u64))
        .map_err(error)?;
    Ok((file, stamp))
}

/// The text of a lock file, as far as it is any.
fn text_of(file: &dyn File) -> String {
    let mut bytes = [0; 64];
    let read = file.read_at(&mut bytes, 0).unwrap_or(0);
    String::from_utf8_lossy(bytes.get(..read).unwrap_or_default()).into_owned()
}

/// The session that left its stamp in the lock file.
fn read_stamp(disk: &dyn Disk, path: &Path) -> Option<u64> {
    let file = disk.open(&with_suffix(path, ".lock"), Access::Read).ok()?;
    checksums::session_of(&text_of(file.as_ref()))
}

fn open_file(disk: &dyn Disk, path: &Path, options: &Options) -> Result<Arc<dyn File>> {
    let error = |source| Error::io("opening", path, source);
    let access = if options.read_only {
        Access::Read
    } else {
        Access::Write
    };
    if options.create && !options.read_only {
        return create_file(disk, path).map_err(error);
    }
    match disk.open(path, access) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound && !options.read_only => {
            create_file(disk, path).map_err(error)
        }
        other => other.map_err(error),
    }
}

/// Make an empty data file, whose name appears when it is whole on the device.
fn create_file(disk: &dyn Disk, path: &Path) -> io::Result<Arc<dyn File>> {
    let temporary = with_suffix(path, ".pnew");
    let checksums = checksums::path_of(path);
    for leftover in [&temporary, &checksums] {
        if disk.exists(leftover)? {
            disk.remove(leftover)?;
        }
    }
    let file = disk.open(&temporary, Access::Create)?;
    file.write_at(&MAGIC, 0)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_directory_of(path)?;
    Ok(file)
}

/// Refuse what is no data file; begin one where the file is empty.
fn check_magic(file: &Arc<dyn File>, path: &Path, read_only: bool) -> Result<()> {
    let mut found = [0; MAGIC.len()];
    let read = file
        .read_at(&mut found, 0)
        .map_err(|e| Error::io("reading", path, e))?;
    let found = found.get(..read).unwrap_or_default();
    if is_magic(found) {
        return Ok(());
    }
    let len = file.len().map_err(|e| Error::io("reading", path, e))?;
    // Zeros are what a power loss leaves where the magic was written and not synced.
    if len <= FIRST_TRANSACTION && found.iter().all(|byte| *byte == 0) {
        if read_only {
            return Ok(());
        }
        return file
            .write_at(&MAGIC, 0)
            .and_then(|()| file.sync())
            .map_err(|source| Error::io("writing", path, source));
    }
    Err(Error::NotADatabase {
        path: path.to_owned(),
        found: found.to_vec(),
    })
}

/// An indexed file whose tail has not been judged yet.
struct Indexed {
    generation: Generation,
    locks: Option<Locks>,
    end: u64,
    /// Where the last transaction behind the saved index begins.
    last_start: Option<u64>,
    last_tid: Tid,
    max_oid: Oid,
    cut: Option<Cut>,
    index_is_saved: bool,
    scanned_from: u64,
    stop: Option<Stop>,
    judgement: Judgement,
}

impl From<Indexed> for Opened {
    fn from(indexed: Indexed) -> Self {
        Self {
            generation: indexed.generation,
            locks: indexed.locks,
            end: indexed.end,
            last_tid: indexed.last_tid,
            max_oid: indexed.max_oid,
            cut: indexed.cut,
            index_is_saved: indexed.index_is_saved,
            scanned_from: indexed.scanned_from,
            checked: Finished {
                data_end: indexed.end,
                last_tid: indexed.last_tid,
                ..indexed.judgement.verified
            },
            mark: indexed.judgement.mark,
        }
    }
}

/// Adds what a scan finds behind a saved index to it.
struct Newer<'a> {
    index: &'a Index,
    found: Vec<(Oid, u64)>,
    max_oid: Oid,
}

impl Visitor for Newer<'_> {
    fn record(&mut self, position: u64, header: &RecordHeader) {
        self.found.push((header.oid, position));
    }

    fn transaction(&mut self, _at: u64, _header: &perdure_format::file::TransactionHeader) {
        for (oid, position) in self.found.drain(..) {
            let is_new = matches!(self.index.get(oid), Ok(None));
            self.index.insert(oid, position, is_new);
            self.max_oid = self.max_oid.max(oid);
        }
    }

    fn discard(&mut self) {
        self.found.clear();
    }
}

/// Use the saved index and scan what is behind it; without one, scan the file.
fn index_of(
    disk: &dyn Disk,
    path: &Path,
    file: Arc<dyn File>,
    judgement: Judgement,
) -> Result<Indexed> {
    let limit = judgement.limit.as_ref().map_or(u64::MAX, |(at, _)| *at);
    let (index, scanned, max_oid, index_is_saved): (Index, Scanned, Oid, bool);
    let saved = saved_index::load(disk, path, file.as_ref());
    let saved = saved.filter(|base| base.header().end <= limit);
    let scanned_from = saved
        .as_ref()
        .map_or(FIRST_TRANSACTION, |base| base.header().end);
    if let Some(base) = saved {
        let header = *base.header();
        index = Index::over(base);
        let mut newer = Newer {
            index: &index,
            found: Vec::new(),
            max_oid: header.max_oid,
        };
        let range = Range {
            start: header.end,
            end: limit,
            after: header.last_tid,
        };
        scanned = scan::scan(&file, path, range, &mut newer)?;
        max_oid = newer.max_oid;
        index_is_saved = scanned.last_start.is_none();
    } else {
        let mut entries = Entries::default();
        let range = Range {
            end: limit,
            ..Range::default()
        };
        scanned = scan::scan(&file, path, range, &mut entries)?;
        entries.current();
        max_oid = entries.max_oid();
        index = Index::of(entries.into_found());
        index_is_saved = scanned.last_start.is_none();
    }
    let stop = match (scanned.stop, &judgement.limit) {
        (None, Some((_, problem))) => Some(Stop::Torn(problem.clone())),
        (stop, _) => stop,
    };
    Ok(Indexed {
        generation: Generation::new(file, path, index),
        locks: None,
        end: scanned.end,
        last_start: scanned.last_start,
        last_tid: scanned.last_tid,
        max_oid,
        cut: None,
        index_is_saved,
        scanned_from,
        stop,
        judgement,
    })
}

/// Leave out a last transaction that is not all there, where no checksums tell.
fn without_torn(disk: &dyn Disk, path: &Path, indexed: Indexed) -> Result<Indexed> {
    let known_end = indexed.judgement.verified.data_end;
    let last_start = indexed.last_start.filter(|start| *start >= known_end);
    let Some(start) = last_start.filter(|_| indexed.stop.is_none()) else {
        return Ok(indexed);
    };
    let file = Arc::clone(&indexed.generation.file);
    let Some(position) = torn::zeroed_at(&file, path, start, indexed.end)? else {
        return Ok(indexed);
    };
    let problem = format!(
        "transaction {} has zeros in place of data at {position}",
        indexed.last_tid
    );
    let judgement = Judgement {
        limit: Some((start, problem)),
        ..indexed.judgement
    };
    index_of(disk, path, file, judgement)
}

/// Judge a joint transaction that is not finished by what its deciding member says.
///
/// True where it was finished here now: it has to be indexed, and others may follow it.
fn settle_joint(disk: &dyn Disk, path: &Path, indexed: &Indexed, asked: usize) -> Result<bool> {
    let Some(Stop::Voted(header)) = &indexed.stop else {
        return Ok(false);
    };
    let file = &indexed.generation.file;
    let Some(marked) = in_doubt::mark_of(file, path, indexed.end, header)? else {
        return Ok(false);
    };
    let session = indexed.judgement.mark.as_ref().map(|mark| mark.session);
    if !marked.is_whole && marked.session != session {
        // The torn tail of a copy.
        return Ok(false);
    }
    let (tid, mark) = (header.tid, &marked.mark);
    match in_doubt::ask(disk, path, tid, mark, asked)? {
        Decision::Aborted => Ok(false),
        Decision::Unknown(reason) => Err(in_doubt::undecided(path, tid, mark, reason)),
        Decision::Committed if marked.is_whole => {
            in_doubt::finish(file.as_ref(), path, indexed.end)?;
            Ok(true)
        }
        // It was whole on the device before the other member decided.
        Decision::Committed => Err(Error::Corrupted {
            path: path.to_owned(),
            position: indexed.end,
            problem: format!(
                "transaction {tid} is damaged, which was committed jointly with {}",
                mark.decider()
            ),
        }),
    }
}

/// Cut off a tail that was never committed, keeping it; refuse damage before the end.
fn handle_tail(
    disk: &dyn Disk,
    path: &Path,
    indexed: &Indexed,
    stop: Stop,
    read_only: bool,
) -> Result<Option<Cut>> {
    let file = &indexed.generation.file;
    let len = file
        .len()
        .map_err(|source| Error::io("reading", path, source))?;
    let reason = refuse_damage(path, indexed, stop)?;
    if read_only {
        return Ok(None);
    }
    let kept_in = cut_off(disk, path, file.as_ref(), indexed.end, len)?;
    Ok(Some(Cut {
        position: indexed.end,
        len: len - indexed.end,
        kept_in,
        reason,
    }))
}

/// Why the file's tail was never part of the database; an error where it was.
fn refuse_damage(path: &Path, indexed: &Indexed, stop: Stop) -> Result<String> {
    let file = &indexed.generation.file;
    let judgement = &indexed.judgement;
    let (position, after, last, reason) = match stop {
        Stop::Torn(problem) => return Ok(problem),
        Stop::Voted(header) => (
            indexed.end,
            indexed.end + header.length + perdure_format::file::TRAILER_LEN,
            header.tid,
            format!("transaction {} was voted and never finished", header.tid),
        ),
        Stop::Damaged { position, problem } => {
            let after = indexed.end.max(FIRST_TRANSACTION) + 1;
            (position, after, indexed.last_tid, problem)
        }
    };
    if indexed.end < judgement.acknowledged {
        return Err(Error::Corrupted {
            path: path.to_owned(),
            position,
            problem: format!(
                "{reason}; everything up to {} was acknowledged; {}",
                judgement.acknowledged,
                checksums::without(path)
            ),
        });
    }
    if !judgement.sole_writer {
        refuse_if_followed(file, path, after, last, position, || reason.clone())?;
    }
    Ok(reason)
}

/// Bring what recovery decided to the device, before anybody sees it.
///
/// What the process finds in the file may not be there: a process that was killed did not sync it,
/// or a sync failed, after which only what is written again is written at all.
fn settle(disk: &dyn Disk, path: &Path, indexed: &mut Indexed) -> Result<()> {
    let acknowledged = indexed.judgement.acknowledged;
    let mark = indexed.judgement.mark.as_ref();
    let was_closed = mark.is_none_or(|mark| mark.session == 0);
    if (indexed.end == acknowledged && was_closed) || disk.is_volatile() {
        return Ok(());
    }
    write_again(indexed)
        .and_then(|()| {
            let (end, last_tid) = (indexed.end, indexed.last_tid);
            indexed.judgement.note_recovery(disk, path, end, last_tid)
        })
        .map_err(|source| Error::io("syncing", path, source))
}

/// Write what may not be on the device again, as it is, and sync it.
fn write_again(indexed: &Indexed) -> io::Result<()> {
    let file = indexed.generation.file.as_ref();
    if indexed.judgement.sole_writer {
        checksums::rewrite(file, indexed.judgement.acknowledged, indexed.end)?;
    }
    file.sync()
}

/// What stands before whole transactions is damage, not a tail: cutting there would lose them.
fn refuse_if_followed(
    file: &Arc<dyn File>,
    path: &Path,
    start: u64,
    last: Tid,
    position: u64,
    problem: impl Fn() -> String,
) -> Result<()> {
    match scan::whole_transaction_after(file, path, start, last)? {
        None => Ok(()),
        Some(next) => Err(Error::Corrupted {
            path: path.to_owned(),
            position,
            problem: format!("{}; whole transactions follow at {next}", problem()),
        }),
    }
}

/// Move the part of a file from `start` on into a `.trN`, which is named.
pub(crate) fn cut_off(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn File,
    start: u64,
    end: u64,
) -> Result<PathBuf> {
    let kept_in = keep_tail(disk, path, file, start, end)?;
    file.truncate(start)
        .and_then(|()| file.sync())
        .map_err(|source| Error::io("cutting off the tail of", path, source))?;
    Ok(kept_in)
}

/// Copy the tail into the first `.trN` that is free.
fn keep_tail(
    disk: &dyn Disk,
    path: &Path,
    file: &dyn File,
    start: u64,
    end: u64,
) -> Result<PathBuf> {
    const PART_LEN: u64 = 1 << 20;
    for number in 0.. {
        let target = with_suffix(path, &format!(".tr{number}"));
        let copy = match disk.open(&target, Access::Create) {
            Err(taken) if taken.kind() == io::ErrorKind::AlreadyExists => continue,
            other => other.map_err(|source| Error::io("writing", &target, source))?,
        };
        let mut done = start;
        let mut copy_all = || {
            while done < end {
                let len = PART_LEN.min(end - done);
                let mut part = vec![0; usize::try_from(len).unwrap_or(0)];
                let read = file.read_at(&mut part, done)?;
                part.truncate(read);
                if read == 0 {
                    break;
                }
                copy.write_at(&part, done - start)?;
                done += read as u64;
            }
            copy.sync()?;
            disk.sync_directory_of(&target)
        };
        copy_all().map_err(|source| Error::io("keeping a tail in", &target, source))?;
        return Ok(target);
    }
    Err(Error::io(
        "keeping the tail of",
        path,
        io::ErrorKind::AlreadyExists.into(),
    ))
}
