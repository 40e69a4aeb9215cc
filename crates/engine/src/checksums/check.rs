//! Comparing a whole data file with its checksums.

use std::sync::Arc;

use perdure_format::Tid;
use perdure_format::checksums::{Entry, FIRST_ENTRY};

use super::judge::{judge, next_entry, problem_of};
use super::path_of;
use crate::cursor::Transactions;
use crate::disk::{Access, Disk};
use crate::error::{Error, Result};
use crate::generation::Generation;
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
        let (generation, end) = self.generation_and_end();
        let mut report = ChecksumReport::default();
        let entries_end = self.checksums.entries_end();
        report.compare(self.disk().as_ref(), &generation, end, entries_end)?;
        Ok(report)
    }
}

/// Compare a data file that is not open with its checksums, as far as its structure is whole.
pub(crate) fn check_closed(disk: &dyn Disk, generation: &Arc<Generation>) -> ChecksumReport {
    let mut report = ChecksumReport::default();
    match judge(disk, &generation.path, &generation.file, None) {
        Ok(judgement) if judgement.mark.is_some() => {
            let known = judgement.verified;
            // What else is wrong with the structure is found without checksums, too.
            let _ = report.compare(disk, generation, known.data_end, known.entries_end);
        }
        Err(Error::Corrupted {
            position, problem, ..
        }) => report.damaged.push(Damage {
            position,
            tid: Tid::ZERO,
            problem,
        }),
        _ => {}
    }
    report
}

impl ChecksumReport {
    /// Compare the transactions before `end` with the entries before `entries_end`.
    fn compare(
        &mut self,
        disk: &dyn Disk,
        generation: &Arc<Generation>,
        end: u64,
        entries_end: u64,
    ) -> Result<()> {
        let gone = || Some("is not part of the database any more".to_owned());
        let path = path_of(&generation.path);
        let sums = disk.open(&path, Access::Read).ok();
        let next_after = |place| match &sums {
            Some(sums) => next_entry(sums.as_ref(), place, entries_end)
                .map_err(|source| Error::io("reading", &path, source)),
            None => Ok(None),
        };
        let mut transactions = Transactions::new(Arc::clone(generation), end);
        let mut next = next_after(FIRST_ENTRY)?;
        let mut window = Window::new(&generation.file, &generation.path);
        while let Some(transaction) = transactions.advance()? {
            let (position, header) = (transaction.position, &transaction.header);
            while let Some((entry, after)) = next.take_if(|(entry, _)| entry.position < position) {
                self.note(&entry, gone());
                next = next_after(after)?;
            }
            match next.take_if(|(entry, _)| entry.position == position) {
                Some((entry, after)) => {
                    self.note(&entry, problem_of(&mut window, position, header, &entry)?);
                    next = next_after(after)?;
                }
                None => self.unverified += 1,
            }
        }
        while let Some((entry, after)) = next.filter(|(entry, _)| entry.end() <= end) {
            self.note(&entry, gone());
            next = next_after(after)?;
        }
        Ok(())
    }
}
