//! What is still as it was written in a damaged data file.
//!
//! The structure says which transactions are whole; the checksums say which of their records are
//! what was written, and find such records where the structure is damaged, too.

use std::path::Path;

use perdure_format::checksums::{Entry, FIRST_ENTRY, Mark, header_sum};
use perdure_format::file::{
    FIRST_TRANSACTION, RECORD_HEADER_LEN, RecordHeader, Status, TRAILER_LEN,
    TRANSACTION_HEADER_LEN, TransactionHeader,
};
use perdure_format::seal::unsealed;
use perdure_format::{Oid, Tid};

use crate::check::{Gap, Progress};
use crate::checksums::{self, KnownSums, SumsReader, Verdict};
use crate::disk::{Access, Disk, OsDisk};
use crate::error::{Error, Result};
use crate::scan::Window;

/// How many transactions are compared between two reports.
const REPORT_EVERY: u64 = 1024;

/// A transaction of which not everything is what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Where it begins.
    pub position: u64,
    /// Where the next one begins.
    pub end: u64,
    /// Its id.
    pub tid: Tid,
    /// What became of it: committed or packed.
    pub status: Status,
    /// Its user, description and extension, as far as they can be read; no seal.
    pub texts: [Vec<u8>; 3],
    /// Is the header with these what was written? Where only a seal tells, that is not known.
    pub header_is_right: bool,
    /// Does nothing tell which part of it is damaged? All its records are intact ones then.
    pub is_unlocated: bool,
    /// Was it never acknowledged, so that it may be a part of a transaction that was never whole?
    pub is_unfinished: bool,
    /// Where the records stand that are what was written.
    pub intact: Vec<u64>,
    /// Where those stand that are not, as far as they can be made out, and whose they seem to be.
    pub damaged: Vec<(u64, Oid)>,
    /// How many records are not what was written.
    pub lost: usize,
}

/// Compare a damaged file with its checksums; `gaps` are the parts that are no whole transactions.
///
/// Checksums are never needed: what is wrong with them only means that less is known. Transactions
/// are told in the order of the file.
///
/// # Errors
/// Where the data file cannot be read, or `progress` asked to stop.
pub fn find_broken(path: &Path, gaps: &[Gap], progress: Progress<'_>) -> Result<Vec<Broken>> {
    let error = |source| Error::io("reading", path, source);
    let file = OsDisk.open(path, Access::Read).map_err(error)?;
    let len = file.len().map_err(error)?;
    let known = KnownSums::of(&OsDisk, path);
    let mut seeker = Seeker {
        path,
        window: Window::new(&file, path),
        sums: known.read(),
        len,
        acknowledged: acknowledged(path),
        found: Vec::new(),
    };
    let mut gaps = gaps.iter().peekable();
    let (mut at, mut count, mut last_whole) = (FIRST_TRANSACTION, 0_u64, 0);
    while at < len {
        count += 1;
        if count.is_multiple_of(REPORT_EVERY) && progress(at, len).is_break() {
            return Err(Error::PackStopped);
        }
        at = if let Some(gap) = gaps.next_if(|gap| gap.start == at) {
            seeker.gap(gap)?;
            gap.end
        } else {
            let header = seeker.header_at(at)?;
            if seeker.whole(at, &header)? {
                last_whole = at;
            }
            at + header.length + TRAILER_LEN
        };
    }
    let Seeker {
        mut found,
        acknowledged,
        ..
    } = seeker;
    for broken in &mut found {
        // What later transactions follow was finished, and so was what is on the device for certain.
        broken.is_unfinished = broken.position > last_whole && broken.end > acknowledged;
    }
    Ok(found)
}

/// How far the data file is on the device, as its checksums say; to its end where nothing does.
fn acknowledged(path: &Path) -> u64 {
    let mut first = vec![0; usize::try_from(FIRST_ENTRY).unwrap_or(0)];
    let sums = OsDisk.open(&checksums::path_of(path), Access::Read);
    let read = sums.and_then(|sums| sums.read_at(&mut first, 0));
    first.truncate(read.unwrap_or(0));
    Mark::newest(&first).map_or(u64::MAX, |mark| mark.data_end)
}

struct Seeker<'a> {
    path: &'a Path,
    window: Window<'a>,
    sums: SumsReader<'a>,
    len: u64,
    /// How far the data file was on the device, as anything says.
    acknowledged: u64,
    found: Vec<Broken>,
}

impl Seeker<'_> {
    fn header_at(&mut self, at: u64) -> Result<TransactionHeader> {
        let bytes = self.window.at(at, TRANSACTION_HEADER_LEN)?;
        TransactionHeader::parse(bytes).map_err(|error| Error::Corrupted {
            path: self.path.to_owned(),
            position: at,
            problem: format!("{error}: it was whole a moment ago; recover a file that is not used"),
        })
    }

    /// The next entry before a position; none, too, where the checksum file cannot be read on.
    fn next_entry(&mut self, before: u64) -> Option<Entry> {
        let entry = self.sums.next_before(before).ok().flatten()?;
        self.acknowledged = self.acknowledged.max(entry.durable);
        Some(entry)
    }

    /// Compare a transaction of which the structure is whole; is nothing wrong with it?
    fn whole(&mut self, at: u64, header: &TransactionHeader) -> Result<bool> {
        let end = at + header.length + TRAILER_LEN;
        let mut entry = None;
        while let Some(next) = self.next_entry(at + 1) {
            if next.position == at && next.tid == header.tid && next.end() == end {
                entry = Some(next);
            }
        }
        if header.status == Status::Skipped {
            return Ok(true);
        }
        let broken = match entry {
            Some(entry) => self.by_entry(at, header, &entry)?,
            None => self.by_seal(at, header)?,
        };
        let is_whole = broken.is_none();
        self.found.extend(broken);
        Ok(is_whole)
    }

    fn by_entry(
        &mut self,
        at: u64,
        header: &TransactionHeader,
        entry: &Entry,
    ) -> Result<Option<Broken>> {
        let mut broken = self.broken(at, header, entry.end())?;
        broken.header_is_right = self.front(at, header)?.0 == entry.header_sum;
        self.records(at + header.len(), false, entry, &mut broken)?;
        let is_whole = broken.header_is_right && broken.lost == 0;
        Ok((!is_whole).then_some(broken))
    }

    /// Where there is nothing but the transaction's own seal: it tells no more than that.
    fn by_seal(&mut self, at: u64, header: &TransactionHeader) -> Result<Option<Broken>> {
        match checksums::by_seal(&mut self.window, at, header)? {
            Verdict::Unknown | Verdict::Whole => Ok(None),
            Verdict::Damaged(_) => {
                let mut broken = self.broken(at, header, at + header.length + TRAILER_LEN)?;
                broken.is_unlocated = true;
                let (mut record, end) = (at + header.len(), at + header.length);
                while record < end {
                    broken.intact.push(record);
                    record += self.record_at(record)?.map_or(end, |it| it.record_len());
                }
                Ok(Some(broken))
            }
        }
    }

    /// The sum of a header with its strings, and these.
    fn front(&mut self, at: u64, header: &TransactionHeader) -> Result<(u32, [Vec<u8>; 3])> {
        let len = usize::try_from(header.len()).unwrap_or(usize::MAX);
        let front = self.window.at(at, len)?;
        let mut rest = front.get(TRANSACTION_HEADER_LEN..).unwrap_or_default();
        let mut take = |len: u16| {
            let (text, after) = rest.split_at(rest.len().min(len.into()));
            rest = after;
            text.to_vec()
        };
        let user = take(header.user_len);
        let description = take(header.description_len);
        let mut extension = take(header.extension_len);
        // A seal is of the whole transaction, of which only a part will be left.
        extension.truncate(unsealed(&extension).len());
        Ok((header_sum(front), [user, description, extension]))
    }

    fn broken(&mut self, at: u64, header: &TransactionHeader, end: u64) -> Result<Broken> {
        Ok(Broken {
            position: at,
            end,
            tid: header.tid,
            status: header.status,
            texts: self.front(at, header)?.1,
            header_is_right: true,
            is_unlocated: false,
            is_unfinished: false,
            intact: Vec::new(),
            damaged: Vec::new(),
            lost: 0,
        })
    }

    fn record_at(&mut self, at: u64) -> Result<Option<RecordHeader>> {
        Ok(RecordHeader::parse(self.window.at(at, RECORD_HEADER_LEN)?).ok())
    }

    /// Find out which of a transaction's records, from `at` on, are what was written.
    ///
    /// Where a damaged one doesn't tell how long it is, the next intact one is looked for; so it is
    /// from the beginning if the first one's place is `lost`.
    fn records(
        &mut self,
        mut at: u64,
        mut lost: bool,
        entry: &Entry,
        broken: &mut Broken,
    ) -> Result<()> {
        let (start, end) = (entry.position, entry.end() - TRAILER_LEN);
        let mut sums = entry.record_sums.as_slice();
        while at < end && !sums.is_empty() {
            let header = self.record_at(at)?;
            let fits = |it: &RecordHeader| {
                it.transaction == start && it.tid == entry.tid && it.record_len() <= end - at
            };
            let header = header.filter(fits);
            if let Some(it) = &header
                && let Some(place) = self.place_of_sum(at, it, sums)?
            {
                broken.intact.push(at);
                sums = sums.get(place + 1..).unwrap_or_default();
                (at, lost) = (at + it.record_len(), false);
                continue;
            }
            if !lost && let Some(oid) = self.seeming_oid(at, entry)? {
                broken.damaged.push((at, oid));
            }
            // Its length may be what is damaged.
            let next = header.filter(|_| !lost).map(|it| at + it.record_len());
            match next {
                Some(next) if self.is_record_or_end(next, start, end)? => at = next,
                _ => (at, lost) = (at + 1, true),
            }
        }
        broken.lost = entry.record_sums.len() - broken.intact.len();
        Ok(())
    }

    /// Whose record a damaged one seems to be; none where nothing in it is as it should be.
    fn seeming_oid(&mut self, at: u64, entry: &Entry) -> Result<Option<Oid>> {
        let bytes = self.window.at(at, RECORD_HEADER_LEN)?;
        let part = |from: usize| bytes.get(from..from + 8);
        let is_one = part(8) == Some(&entry.tid.to_bytes())
            || part(24) == Some(&entry.position.to_be_bytes());
        let oid = part(0).and_then(|oid| oid.try_into().ok());
        Ok(oid.filter(|_| is_one).map(Oid::from_bytes))
    }

    /// Does another record of the transaction begin here, or does it end?
    fn is_record_or_end(&mut self, at: u64, start: u64, end: u64) -> Result<bool> {
        let next = self.record_at(at)?;
        Ok(at == end || next.is_some_and(|it| it.transaction == start))
    }

    /// Which of the sums a record has.
    fn place_of_sum(
        &mut self,
        at: u64,
        header: &RecordHeader,
        sums: &[u32],
    ) -> Result<Option<usize>> {
        let len = usize::try_from(header.record_len()).unwrap_or(usize::MAX);
        let sum = crc32c::crc32c(self.window.at(at, len)?);
        self.window.shrink();
        Ok(sums.iter().position(|each| *each == sum))
    }

    /// Look for records that are what was written in a part that is no whole transaction.
    fn gap(&mut self, gap: &Gap) -> Result<()> {
        while let Some(entry) = self.next_entry(gap.end) {
            let fits = entry.position >= gap.start
                && entry.end() <= self.len
                && entry.len > TRANSACTION_HEADER_LEN as u64 + TRAILER_LEN;
            let is_after = self.found.last().is_none_or(|it| it.end <= entry.position);
            if fits && is_after {
                let broken = self.in_gap(&entry)?;
                self.found.extend(broken);
            }
        }
        Ok(())
    }

    fn in_gap(&mut self, entry: &Entry) -> Result<Option<Broken>> {
        let (at, length) = (entry.position, entry.len - TRAILER_LEN);
        let header = TransactionHeader::parse(self.window.at(at, TRANSACTION_HEADER_LEN)?).ok();
        if header.is_some_and(|it| matches!(it.status, Status::Voted | Status::Skipped)) {
            // It was never part of the database.
            return Ok(None);
        }
        // The lengths of the strings may be what is damaged: then the records tell where they begin.
        let mut texts = None;
        if let Some(header) = header.filter(|it| it.len() <= length)
            && self.is_record_or_end(at + header.len(), at, at + length)?
        {
            texts = Some(header);
        }
        let header = texts.unwrap_or_else(|| no_strings(entry));
        let mut broken = self.broken(at, &header, entry.end())?;
        broken.tid = entry.tid;
        broken.header_is_right = self.front(at, &header)?.0 == entry.header_sum;
        self.records(at + header.len(), texts.is_none(), entry, &mut broken)?;
        Ok(Some(broken))
    }
}

/// The header of a transaction of which only the checksums are left.
const fn no_strings(entry: &Entry) -> TransactionHeader {
    TransactionHeader {
        tid: entry.tid,
        length: entry.len - TRAILER_LEN,
        status: Status::Committed,
        user_len: 0,
        description_len: 0,
        extension_len: 0,
    }
}
