//! Comparing transactions with their checksums before anything is read from them.
//!
//! A transaction is compared as a whole, when the first of its records is read; then it is known.
//! Where the index has to be made by a scan, which reads headers alone, all of that are compared: a
//! record whose oid was changed would be missing from it, and an older one be read in its place. A
//! file with such a one is refused.
//! What has no checksums is read as it is.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use perdure_format::checksums::{Entry, FIRST_ENTRY};
use perdure_format::file::{
    RECORD_HEADER_LEN, RecordHeader, TRAILER_LEN, TRANSACTION_HEADER_LEN, TransactionHeader,
};

use crate::checksums::{self, Verdict};
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::scan::Window;

/// Which transactions of a file were looked at.
#[derive(Debug)]
pub(crate) struct Verifier {
    disk: Arc<dyn Disk>,
    /// The data file, whose checksums are beside it.
    data: PathBuf,
    /// Where the transactions begin and end that are known. A leaf, as `entries`.
    known: RwLock<HashMap<u64, u64>>,
    /// The checksum file's entries, by their transactions' positions; none before they are needed.
    entries: RwLock<Option<Arc<BTreeMap<u64, Entry>>>>,
}

impl Verifier {
    pub(crate) fn new(disk: &Arc<dyn Disk>, data: &Path) -> Self {
        Self {
            disk: Arc::clone(disk),
            data: data.to_owned(),
            known: RwLock::default(),
            entries: RwLock::default(),
        }
    }

    /// Was the transaction of the record at a position looked at already?
    pub(crate) fn knows(&self, record: &RecordHeader, position: u64) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let start = record.transaction;
        known
            .get(&start)
            .is_some_and(|end| (start..*end).contains(&position))
    }

    /// Compare the transaction of the record at a position; what is wrong, if anything is.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub(crate) fn problem_of(
        &self,
        file: &Arc<dyn File>,
        record: &RecordHeader,
        position: u64,
    ) -> Result<Option<String>> {
        let start = record.transaction;
        let mut window = Window::for_len(file, &self.data, 0);
        let len = file
            .len()
            .map_err(|source| Error::io("reading", &self.data, source))?;
        let Ok(header) = TransactionHeader::parse(window.at(start, TRANSACTION_HEADER_LEN)?) else {
            return Ok(Some(format!("no transaction begins at {start}")));
        };
        let end = start.saturating_add(header.length);
        if !(start..end).contains(&position) || end.saturating_add(TRAILER_LEN) > len {
            return Ok(Some(format!("it is not in its transaction at {start}")));
        }
        window = Window::for_len(file, &self.data, header.length + TRAILER_LEN);
        let verdict = match checksums::by_seal(&mut window, start, &header)? {
            Verdict::Unknown => self.by_entry(&mut window, &header, record)?,
            verdict => verdict,
        };
        if let Verdict::Damaged(problem) = verdict {
            return Ok(Some(problem));
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(start, end);
        Ok(None)
    }

    /// Compare all transactions of a part of the file, where only their headers were read.
    ///
    /// What is damaged in its data alone is for who reads it.
    ///
    /// # Errors
    /// [`Error::Corrupted`] for the first one with a record that may be another object's.
    pub(crate) fn check_scanned(&self, file: &Arc<dyn File>, part: Range<u64>) -> Result<()> {
        let mut at = part.start;
        while at < part.end {
            let mut window = Window::for_len(file, &self.data, 0);
            let header = TransactionHeader::parse(window.at(at, TRANSACTION_HEADER_LEN)?)
                .map_err(|error| self.corrupted(at, format!("expected a transaction: {error}")))?;
            let first = at + header.len();
            // Without records, nothing is read from it.
            if header.length > header.len() {
                let record = RecordHeader {
                    transaction: at,
                    ..self.record(&mut window, first)?
                };
                if let Some(problem) = self.problem_of(file, &record, first)?
                    && self.may_mislead(&mut window, at, &header)?
                {
                    return Err(self.corrupted(at, problem));
                }
            }
            at = at.saturating_add(header.length).saturating_add(TRAILER_LEN);
        }
        Ok(())
    }

    /// Is there a record in a damaged transaction whose header contradicts others?
    ///
    /// If its oid was changed, what stands before it is another object's.
    fn may_mislead(
        &self,
        window: &mut Window<'_>,
        start: u64,
        transaction: &TransactionHeader,
    ) -> Result<bool> {
        let mut at = start + transaction.len();
        let end = start.saturating_add(transaction.length);
        while at < end {
            let record = self.record(window, at)?;
            let is_itself = record.tid == transaction.tid && record.transaction == start;
            if !is_itself
                || (record.previous > 0 && self.record(window, record.previous)?.oid != record.oid)
            {
                return Ok(true);
            }
            at = at.saturating_add(record.record_len());
        }
        Ok(false)
    }

    fn record(&self, window: &mut Window<'_>, at: u64) -> Result<RecordHeader> {
        RecordHeader::parse(window.at(at, RECORD_HEADER_LEN)?)
            .map_err(|error| self.corrupted(at, format!("expected a record: {error}")))
    }

    fn corrupted(&self, position: u64, problem: String) -> Error {
        Error::Corrupted {
            path: self.data.clone(),
            position,
            problem,
        }
    }

    /// What the checksum file says.
    fn by_entry(
        &self,
        window: &mut Window<'_>,
        header: &TransactionHeader,
        record: &RecordHeader,
    ) -> Result<Verdict> {
        let start = record.transaction;
        let entries = self.entries()?;
        let Some(entry) = entries.get(&start) else {
            return Ok(Verdict::Unknown);
        };
        if !checksums::is_of(entry, header) && is_itself(window, header, record)? {
            // Stock ZODB packed the file: another transaction stood there.
            return Ok(Verdict::Unknown);
        }
        let problem = checksums::problem_of(window, start, header, entry)?;
        Ok(problem.map_or(Verdict::Whole, |problem| {
            Verdict::Damaged(format!("its transaction at {start} {problem}"))
        }))
    }

    fn entries(&self) -> Result<Arc<BTreeMap<u64, Entry>>> {
        let read = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(entries) = read.as_ref() {
            return Ok(Arc::clone(entries));
        }
        drop(read);
        let path = checksums::path_of(&self.data);
        let error = |source| Error::io("reading", &path, source);
        let mut entries = BTreeMap::new();
        if let Ok(sums) = self.disk.open(&path, Access::Read) {
            let mut place = FIRST_ENTRY;
            while let Some((entry, after)) =
                checksums::next_entry(sums.as_ref(), place, u64::MAX).map_err(error)?
            {
                entries.insert(entry.position, entry);
                place = after;
            }
        }
        let entries = Arc::new(entries);
        // A pack puts its checksums in place after the file: not there means not there yet.
        if !entries.is_empty() {
            let mut slot = self.entries.write().unwrap_or_else(PoisonError::into_inner);
            *slot = Some(Arc::clone(&entries));
        }
        Ok(entries)
    }
}

/// Do a transaction's header, its end and one of its records agree on what it is?
fn is_itself(
    window: &mut Window<'_>,
    header: &TransactionHeader,
    record: &RecordHeader,
) -> Result<bool> {
    let end = record.transaction.saturating_add(header.length);
    let trailer = usize::try_from(TRAILER_LEN).unwrap_or(usize::MAX);
    let is_right_len = window.at(end, trailer)? == header.length.to_be_bytes();
    Ok(is_right_len && record.tid == header.tid)
}
