//! Comparing a whole data file with its checksums.

use std::sync::Arc;

use perdure_format::checksums::{Entry, FIRST_ENTRY};
use perdure_format::file::{RECORD_HEADER_LEN, RecordHeader, TransactionHeader};
use perdure_format::{Oid, Tid};

use super::judge::{next_entry, problem_of};
use super::path_of;
use crate::disk::Access;
use crate::error::{Error, Result};
use crate::scan::Window;
use crate::store::Store;

/// A transaction that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it begins in the data file.
    pub position: u64,
    /// Its id.
    pub tid: Tid,
    /// Whose record is not what was written, where it is one; the first one.
    pub oid: Option<Oid>,
    /// What is wrong with it.
    pub problem: String,
}

/// What a comparison with the checksums found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChecksumReport {
    /// Transactions that are what was written.
    pub verified: u64,
    /// Transactions of which no checksums are known: written before there were any, or by stock
    /// ZODB.
    pub unverified: u64,
    /// Transactions that are not what was written.
    pub damaged: Vec<Damage>,
}

impl ChecksumReport {
    fn damage(&mut self, entry: &Entry, oid: Option<Oid>, problem: String) {
        self.damaged.push(Damage {
            position: entry.position,
            tid: entry.tid,
            oid,
            problem,
        });
    }

    fn gone(&mut self, entry: &Entry) {
        let problem = "is not part of the database any more".to_owned();
        self.damage(entry, None, problem);
    }
}

/// Whose record is the first that is not what was written; none where no header tells.
fn damaged_record(
    window: &mut Window<'_>,
    position: u64,
    header: &TransactionHeader,
    entry: &Entry,
) -> Result<Option<Oid>> {
    let end = position + header.length;
    let mut at = position + header.len();
    for sum in &entry.record_sums {
        let Ok(record) = RecordHeader::parse(window.at(at, RECORD_HEADER_LEN)?) else {
            break;
        };
        let len = record.record_len();
        let Ok(len) = usize::try_from(len.min(end.saturating_sub(at))) else {
            break;
        };
        if crc32c::crc32c(window.at(at, len)?) != *sum {
            return Ok(Some(record.oid));
        }
        at += record.record_len();
    }
    Ok(None)
}

impl Store {
    /// Compare every visible transaction with its checksums.
    ///
    /// # Errors
    /// Where a file cannot be read, or the data file's structure is damaged.
    pub fn check_checksums(&self) -> Result<ChecksumReport> {
        let mut transactions = self.transactions()?;
        let path = path_of(self.path());
        let error = |source| Error::io("reading", &path, source);
        let sums = self.disk().open(&path, Access::Read).ok();
        let entries_end = self.checksums.entries_end();
        let next_after = |place| match &sums {
            Some(sums) => next_entry(sums.as_ref(), place, entries_end).map_err(error),
            None => Ok(None),
        };
        let mut checked = ChecksumReport::default();
        let mut next = next_after(FIRST_ENTRY)?;
        let generation = Arc::clone(transactions.generation());
        let mut window = Window::new(&generation.file, &generation.path);
        while let Some(transaction) = transactions.advance()? {
            let (position, header) = (transaction.position, &transaction.header);
            while let Some((entry, after)) = next.take_if(|(entry, _)| entry.position < position) {
                checked.gone(&entry);
                next = next_after(after)?;
            }
            match next.take_if(|(entry, _)| entry.position == position) {
                Some((entry, after)) => {
                    if let Some(problem) = problem_of(&mut window, position, header, &entry)? {
                        let oid = damaged_record(&mut window, position, header, &entry)?;
                        checked.damage(&entry, oid, problem);
                    } else {
                        checked.verified += 1;
                    }
                    next = next_after(after)?;
                }
                None => checked.unverified += 1,
            }
        }
        let (_, end) = self.generation_and_end();
        while let Some((entry, after)) = next.filter(|(entry, _)| entry.end() <= end) {
            checked.gone(&entry);
            next = next_after(after)?;
        }
        Ok(checked)
    }
}
