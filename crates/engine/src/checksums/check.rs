//! Comparing a whole data file with its checksums.

use std::sync::Arc;

use perdure_format::Tid;
use perdure_format::checksums::{Entry, FIRST_ENTRY};

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
    fn note(&mut self, entry: &Entry, problem: Option<String>) {
        match problem {
            None => self.verified += 1,
            Some(problem) => self.damaged.push(Damage {
                position: entry.position,
                tid: entry.tid,
                problem,
            }),
        }
    }
}

impl Store {
    /// Compare every visible transaction with its checksums.
    ///
    /// # Errors
    /// Where a file cannot be read, or the data file's structure is damaged.
    pub fn check_checksums(&self) -> Result<ChecksumReport> {
        let gone = || Some("is not part of the database any more".to_owned());
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
                checked.note(&entry, gone());
                next = next_after(after)?;
            }
            match next.take_if(|(entry, _)| entry.position == position) {
                Some((entry, after)) => {
                    checked.note(&entry, problem_of(&mut window, position, header, &entry)?);
                    next = next_after(after)?;
                }
                None => checked.unverified += 1,
            }
        }
        let (_, end) = self.generation_and_end();
        while let Some((entry, after)) = next.filter(|(entry, _)| entry.end() <= end) {
            checked.note(&entry, gone());
            next = next_after(after)?;
        }
        Ok(checked)
    }
}
