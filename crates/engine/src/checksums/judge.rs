//! What the checksums say about the end of a data file.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use perdure_format::Tid;
use perdure_format::checksums::{Anchor, ENTRY_HEAD_LEN, Entry, FIRST_ENTRY, Mark, header_sum};
use perdure_format::file::{
    FIRST_TRANSACTION, RECORD_HEADER_LEN, RecordHeader, Status, TRAILER_LEN,
    TRANSACTION_HEADER_LEN, TransactionHeader,
};

use super::seals::{durable_behind, is_whole, seal_at, sums_at};
use super::{Finished, path_of};
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::scan::{self, Window};

/// How many bytes of old transactions an open compares with their checksums.
const QUICK_BYTES_MAX: u64 = 1 << 18;

/// What to do where the file was put back from a copy, or what is left of it is wanted.
pub(crate) fn without(data: &Path) -> String {
    format!(
        "if the file was put back from a copy, or to open it without what is lost, remove {} first",
        path_of(data).display()
    )
}

/// What is known of a data file's end.
#[derive(Debug)]
pub(crate) struct Judgement {
    /// The mark of a checksum file that belongs to the data file.
    pub(crate) mark: Option<Mark>,
    /// Everything before this was acknowledged: what is missing of it is lost.
    pub(crate) acknowledged: u64,
    /// Where the first transaction begins that was never wholly written, and how that shows.
    pub(crate) limit: Option<(u64, String)>,
    /// Is it certain that nobody but the session of the checksums wrote behind `acknowledged`?
    pub(crate) sole_writer: bool,
    /// How far data and entries agree.
    pub(crate) verified: Finished,
    /// Entries to be written behind the last one that is there: their transactions are whole, by
    /// their seals, and they were lost.
    pub(crate) missing: Vec<u8>,
    /// Where the entries behind the mark end that are there and right.
    pub(crate) kept: Vec<u64>,
}

impl Judgement {
    /// There are no checksums of this file.
    fn unknown() -> Self {
        Self {
            mark: None,
            acknowledged: 0,
            limit: None,
            sole_writer: false,
            verified: Finished::unknown(0, Tid::ZERO),
            missing: Vec::new(),
            kept: Vec::new(),
        }
    }

    /// A whole transaction, whose entry is there and ends at a place.
    fn push(&mut self, at: u64, header: &TransactionHeader, entry_end: u64) {
        let end = at + header.length + TRAILER_LEN;
        let written_end = self.verified.entries_end - self.missing.len() as u64;
        self.missing.clear();
        self.kept.push(entry_end);
        let anchors = &mut self.verified.anchors;
        anchors.retain(|anchor| anchor.entry < written_end);
        self.verified
            .push(at, end, header.tid, header.status, entry_end);
    }

    /// A whole transaction, whose entry was lost.
    fn push_missing(&mut self, header: &TransactionHeader, entry: &Entry) {
        let entry_end = self.verified.entries_end + entry.entry_len();
        self.missing.extend_from_slice(&entry.to_bytes());
        let (at, end) = (entry.position, entry.end());
        self.verified
            .push(at, end, header.tid, header.status, entry_end);
    }
}

impl Judgement {
    /// The data file was recovered and is on the device up to `end`: entries of what was cut off
    /// count no more.
    pub(crate) fn note_recovery(
        &mut self,
        disk: &dyn Disk,
        path: &Path,
        end: u64,
        last_tid: Tid,
    ) -> io::Result<()> {
        let Some(mark) = &mut self.mark else {
            return Ok(());
        };
        let recovered = Mark {
            sequence: mark.sequence + 1,
            session: 0,
            data_end: end,
            last_tid,
            entries_end: self.verified.entries_end,
            anchors: self.verified.anchors.clone(),
        };
        let sums = disk.open(&path_of(path), Access::Write)?;
        // The entries may not be on the device either; they have to be there before the mark.
        let written_end = recovered.entries_end - self.missing.len() as u64;
        rewrite(sums.as_ref(), mark.entries_end, written_end)?;
        void_others(sums.as_ref(), mark.entries_end, written_end, &self.kept)?;
        sums.write_at(&self.missing, written_end)?;
        sums.sync()?;
        sums.write_at(&recovered.to_bytes(), recovered.place())?;
        sums.sync()?;
        *mark = recovered;
        Ok(())
    }
}

/// Compare the end of a data file with its checksums; `stamp` is the session that the lock names.
///
/// Checksums are never needed: whatever is wrong with them only means that nothing is known.
pub(crate) fn judge(
    disk: &dyn Disk,
    path: &Path,
    file: &Arc<dyn File>,
    stamp: Option<u64>,
) -> Result<Judgement> {
    if disk.is_volatile() {
        return Ok(Judgement::unknown());
    }
    let Ok(sums) = disk.open(&path_of(path), Access::Read) else {
        return Ok(Judgement::unknown());
    };
    let mut first = vec![0; usize::try_from(FIRST_ENTRY).unwrap_or(0)];
    let read = sums.read_at(&mut first, 0).unwrap_or(0);
    first.truncate(read);
    let Some(mut mark) = Mark::newest(&first) else {
        if let Some(found) = Mark::newer(&first) {
            let path = path_of(path);
            return Err(Error::Newer { path, found });
        }
        return Ok(Judgement::unknown());
    };
    // Where the device has the mark and not what was before it, the next entry follows what is
    // there. Entries begin at multiples of four.
    let sums_len = sums.len().unwrap_or(0) / 4 * 4;
    mark.entries_end = mark.entries_end.min(sums_len).max(FIRST_ENTRY);
    let mut entries = Entries::read(sums.as_ref(), &mark);
    if mark.session != 0 {
        let sealed = durable_behind(file.as_ref(), mark.data_end, mark.session);
        let sealed = sealed.map_err(|source| Error::io("reading", path, source))?;
        entries.durable = entries.durable.max(sealed);
    }
    let judge = Judge {
        sums: sums.as_ref(),
        file,
        path,
        sole_writer: mark.session != 0 && stamp == Some(mark.session),
        mark,
        entries,
    };
    judge.judge()
}

/// The entries behind a mark.
#[derive(Debug, Default)]
struct Entries {
    /// By position in the data file, with the place behind the entry.
    all: BTreeMap<u64, (Entry, u64)>,
    /// What was on the device at the last of them.
    durable: u64,
}

impl Entries {
    fn read(sums: &dyn File, mark: &Mark) -> Self {
        let mut entries = Self {
            durable: mark.data_end,
            ..Self::default()
        };
        let (mut at, mut last) = (mark.entries_end, (mark.data_end, mark.last_tid));
        while let Some((entry, after)) = next_entry(sums, at, u64::MAX).ok().flatten() {
            let follows = entry.position >= last.0 && entry.tid > last.1;
            at = after;
            if entry.session != mark.session || !follows {
                // Left from a transaction that was cut off or aborted.
                continue;
            }
            last = (entry.end(), entry.tid);
            entries.durable = entries.durable.max(entry.durable);
            entries.all.insert(entry.position, (entry, at));
        }
        entries
    }
}

/// The entry at a place of the checksum file; none where there is none.
pub(super) fn entry_at(sums: &dyn File, at: u64) -> io::Result<Option<Entry>> {
    let mut bytes = vec![0; ENTRY_HEAD_LEN];
    let read = sums.read_at(&mut bytes, at)?;
    let Some(len) = bytes.get(..read).and_then(Entry::len_of) else {
        return Ok(None);
    };
    if at.saturating_add(len as u64) > sums.len()? {
        return Ok(None);
    }
    bytes.resize(len, 0);
    let read = sums.read_at(&mut bytes, at)?;
    Ok(bytes.get(..read).and_then(Entry::parse))
}

/// Write part of a file again as it is, so that the next sync brings it to the device.
pub(crate) fn rewrite(file: &dyn File, start: u64, end: u64) -> io::Result<()> {
    const PART_LEN: u64 = 1 << 20;
    let mut at = start;
    while at < end {
        let len = PART_LEN.min(end - at);
        let mut part = vec![0; usize::try_from(len).unwrap_or(0)];
        let read = file.read_at(&mut part, at)?;
        part.truncate(read);
        if read == 0 {
            break;
        }
        file.write_at(&part, at)?;
        at += read as u64;
    }
    Ok(())
}

/// The next whole entry at or after a place and before `end`, and the place behind it.
///
/// A damaged entry is passed over: nothing is known of its transaction.
pub(crate) fn next_entry(
    sums: &dyn File,
    place: u64,
    end: u64,
) -> io::Result<Option<(Entry, u64)>> {
    let end = end.min(sums.len()?);
    let mut at = place;
    while at < end {
        if let Some(entry) = entry_at(sums, at)? {
            let after = at + entry.entry_len();
            return Ok(Some((entry, after)));
        }
        // Entries begin at multiples of four.
        at += 4;
    }
    Ok(None)
}

/// Make entries unreadable that are not kept: a lost one was to take the place of each.
fn void_others(sums: &dyn File, start: u64, end: u64, kept: &[u64]) -> io::Result<()> {
    let mut at = start;
    while let Some((entry, after)) = next_entry(sums, at, end)? {
        if kept.binary_search(&after).is_err() {
            sums.write_at(&[0; 4], after - entry.entry_len())?;
        }
        at = after;
    }
    Ok(())
}

struct Judge<'a> {
    sums: &'a dyn File,
    file: &'a Arc<dyn File>,
    path: &'a Path,
    mark: Mark,
    sole_writer: bool,
    entries: Entries,
}

impl Judge<'_> {
    fn judge(self) -> Result<Judgement> {
        let mut window = Window::new(self.file, self.path);
        let (acknowledged, last_tid) = self.acknowledged();
        if !self.ends_with(&mut window, acknowledged, last_tid)? {
            return if self.is_known_again(&mut window)? {
                Err(self.lost(acknowledged))
            } else {
                // Packed by somebody else, or another file: the checksums are of something else.
                Ok(Judgement::unknown())
            };
        }
        let mut judgement = Judgement {
            acknowledged,
            limit: None,
            sole_writer: self.sole_writer,
            verified: Finished {
                data_end: self.mark.data_end,
                last_tid: self.mark.last_tid,
                entries_end: self.mark.entries_end,
                anchors: self.mark.anchors.clone(),
            },
            mark: Some(self.mark.clone()),
            missing: Vec::new(),
            kept: Vec::new(),
        };
        self.verify_last(&mut window)?;
        self.verify(&mut window, &mut judgement)?;
        Ok(judgement)
    }

    /// The end of the last transaction that was on the device for certain, and its id if known.
    fn acknowledged(&self) -> (u64, Option<Tid>) {
        if self.entries.durable == self.mark.data_end {
            return (self.mark.data_end, Some(self.mark.last_tid));
        }
        let mut known = self.entries.all.values();
        let last = known.find(|(entry, _)| entry.end() == self.entries.durable);
        (self.entries.durable, last.map(|(entry, _)| entry.tid))
    }

    fn read<const N: usize>(&self, at: u64) -> Result<Option<[u8; N]>> {
        let mut bytes = [0; N];
        let read = self.file.read_at(&mut bytes, at);
        let read = read.map_err(|source| Error::io("reading", self.path, source))?;
        Ok((read == N).then_some(bytes))
    }

    /// Does a transaction, of this id where it is known, end here?
    ///
    /// An entry may tell the id of an aborted transaction, of which another one took the place; a
    /// seal tells that this session wrote what is there.
    fn ends_with(&self, window: &mut Window<'_>, end: u64, tid: Option<Tid>) -> Result<bool> {
        if end <= FIRST_TRANSACTION {
            return Ok(true);
        }
        let Some(trailer) = end.checked_sub(TRAILER_LEN) else {
            return Ok(false);
        };
        let Some(length) = self.read(trailer)? else {
            return Ok(false);
        };
        let Some(start) = trailer.checked_sub(u64::from_be_bytes(length)) else {
            return Ok(false);
        };
        let Ok(header) = TransactionHeader::parse(window.at(start, TRANSACTION_HEADER_LEN)?) else {
            return Ok(false);
        };
        let is_it = tid.is_none_or(|tid| header.tid == tid);
        Ok(is_it || seal_at(window, start, &header, self.mark.session)?.is_some())
    }

    /// Is it the file that the checksums describe, though its end is another one?
    ///
    /// An unpacked transaction at its old place tells: nothing before it was removed.
    fn is_known_again(&self, window: &mut Window<'_>) -> Result<bool> {
        let newer = self.entries.all.values().map(|(entry, _)| Anchor {
            position: entry.position,
            tid: entry.tid,
            entry: 0,
        });
        for anchor in self.mark.anchors.iter().copied().chain(newer) {
            let bytes = window.at(anchor.position, TRANSACTION_HEADER_LEN)?;
            let found = TransactionHeader::parse(bytes);
            if found.is_ok_and(|it| it.tid == anchor.tid && it.status == Status::Committed) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn lost(&self, acknowledged: u64) -> Error {
        Error::Corrupted {
            path: self.path.to_owned(),
            position: acknowledged,
            problem: format!(
                "a transaction was acknowledged that should end here; {}",
                without(self.path)
            ),
        }
    }

    /// Look at the last transactions before the mark, newest first, as far as that is quick.
    fn verify_last(&self, window: &mut Window<'_>) -> Result<()> {
        let mut bytes = 0;
        for anchor in self.mark.anchors.iter().rev() {
            let Some(entry) = entry_at(self.sums, anchor.entry).ok().flatten() else {
                continue;
            };
            bytes += entry.len;
            let other = (entry.tid, entry.position) != (anchor.tid, anchor.position);
            if other || bytes > QUICK_BYTES_MAX {
                continue;
            }
            let header = self.whole(window, anchor.position)?;
            let problem = match header {
                Some(header) => problem_of(window, anchor.position, &header, &entry)?,
                None => Some("should begin here".to_owned()),
            };
            if let Some(problem) = problem {
                return Err(Error::Corrupted {
                    path: self.path.to_owned(),
                    position: anchor.position,
                    problem: format!(
                        "transaction {} {problem}; it was acknowledged; {}",
                        entry.tid,
                        without(self.path)
                    ),
                });
            }
        }
        Ok(())
    }

    /// Go through the transactions behind the mark.
    fn verify(&self, window: &mut Window<'_>, judgement: &mut Judgement) -> Result<()> {
        let mut at = self.mark.data_end.max(FIRST_TRANSACTION);
        while let Some(header) = self.whole(window, at)? {
            let end = at + header.length + TRAILER_LEN;
            if let Some(seal) = seal_at(window, at, &header, self.mark.session)? {
                if !is_whole(window, at, &header, &seal)? {
                    let problem = "was never wholly written: its seal is broken";
                    return self.torn(judgement, at, &header, problem);
                }
                self.sealed(window, judgement, at, &header)?;
                at = end;
                continue;
            }
            match self.entries.all.get(&at) {
                // Another id or length: a transaction of somebody else, where one of ours was cut off.
                Some((entry, place)) if self.sole_writer || is_of(entry, &header) => {
                    if let Some(problem) = problem_of(window, at, &header, entry)? {
                        return self.torn(judgement, at, &header, &problem);
                    }
                    judgement.push(at, &header, *place);
                }
                _ if self.sole_writer && at >= judgement.acknowledged => {
                    let problem = "was never wholly written: its checksums are missing";
                    return self.torn(judgement, at, &header, problem);
                }
                _ => {}
            }
            at = end;
        }
        Ok(())
    }

    /// Take a sealed transaction for whole, with its entry, which may have been lost.
    fn sealed(
        &self,
        window: &mut Window<'_>,
        judgement: &mut Judgement,
        at: u64,
        header: &TransactionHeader,
    ) -> Result<()> {
        let Some((header_sum, record_sums)) = sums_at(window, at, header)? else {
            return Ok(());
        };
        // What stands in the place of a lost entry may be that of an aborted transaction.
        if let Some((entry, place)) = self.entries.all.get(&at)
            && is_of(entry, header)
            && (entry.header_sum, &entry.record_sums) == (header_sum, &record_sums)
        {
            judgement.push(at, header, *place);
            return Ok(());
        }
        let entry = Entry {
            session: self.mark.session,
            position: at,
            len: header.length + TRAILER_LEN,
            tid: header.tid,
            durable: self.mark.data_end,
            header_sum,
            record_sums,
        };
        judgement.push_missing(header, &entry);
        Ok(())
    }

    /// The header of the transaction at a position; none where there is no finished one.
    fn whole(&self, window: &mut Window<'_>, at: u64) -> Result<Option<TransactionHeader>> {
        let bytes = window.at(at, TRANSACTION_HEADER_LEN)?;
        let header = TransactionHeader::parse(bytes).ok();
        let Some(header) = header.filter(|header| header.status != Status::Voted) else {
            return Ok(None);
        };
        let Some(trailer) = at.checked_add(header.length) else {
            return Ok(None);
        };
        Ok((self.read(trailer)? == Some(header.length.to_be_bytes())).then_some(header))
    }

    /// A transaction is not what was written: it was not written yet, or it is damaged.
    fn torn(
        &self,
        judgement: &mut Judgement,
        at: u64,
        header: &TransactionHeader,
        problem: &str,
    ) -> Result<()> {
        let problem = format!("transaction {} {problem}", header.tid);
        let damaged = |problem| Error::Corrupted {
            path: self.path.to_owned(),
            position: at,
            problem,
        };
        if at < judgement.acknowledged {
            let problem = format!("{problem}; it was acknowledged; {}", without(self.path));
            return Err(damaged(problem));
        }
        if !self.sole_writer {
            // Somebody else may have gone on behind it.
            let next = scan::whole_transaction_after(self.file, self.path, at + 1, header.tid)?;
            if let Some(next) = next.filter(|next| !self.entries.all.contains_key(next)) {
                let problem = format!("{problem}; whole transactions follow at {next}");
                return Err(damaged(problem));
            }
        }
        judgement.limit = Some((at, problem));
        Ok(())
    }
}

/// Was the entry written for this transaction?
pub(crate) fn is_of(entry: &Entry, header: &TransactionHeader) -> bool {
    entry.tid == header.tid && entry.len == header.length.saturating_add(TRAILER_LEN)
}

/// How a transaction differs from what was written; none where it does not.
pub(crate) fn problem_of(
    window: &mut Window<'_>,
    position: u64,
    header: &TransactionHeader,
    entry: &Entry,
) -> Result<Option<String>> {
    let differs = |what: &str| {
        Ok(Some(format!(
            "has another checksum than was written ({what})"
        )))
    };
    if !is_of(entry, header) {
        return differs("id or length");
    }
    let len = usize::try_from(header.len()).unwrap_or(usize::MAX);
    if header_sum(window.at(position, len)?) != entry.header_sum {
        return differs("header");
    }
    let end = position + header.length;
    let mut at = position + header.len();
    for sum in &entry.record_sums {
        let Ok(record) = RecordHeader::parse(window.at(at, RECORD_HEADER_LEN)?) else {
            return differs(&format!("record at {at}"));
        };
        let len = record.record_len();
        let len = usize::try_from(len)
            .ok()
            .filter(|_| len <= end.saturating_sub(at));
        let bytes = len.map(|len| window.at(at, len)).transpose()?;
        if bytes.map(crc32c::crc32c) != Some(*sum) {
            return differs(&format!("record at {at}"));
        }
        at += record.record_len();
    }
    if at == end {
        Ok(None)
    } else {
        differs("number of records")
    }
}
