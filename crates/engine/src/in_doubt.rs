//! What becomes of a joint transaction that was voted and not finished when the process died.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use perdure_format::Tid;
use perdure_format::file::{STATUS_OFFSET, Status, TransactionHeader};
use perdure_format::joint::JointMark;
use perdure_format::seal::{self, Seal};

use crate::checksums::{self, Verdict};
use crate::data_lock;
use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::joint::places_of;
use crate::open;
use crate::scan::{self, Range, Visitor, Window};

/// More members do not ask one another: each asks one before it in the order of sort keys.
const ASKED_MAX: usize = 100;

/// A joint transaction at the end of a file whose outcome another file knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InDoubt {
    /// The transaction.
    pub tid: Tid,
    /// Where it begins.
    pub position: u64,
    /// Who takes part.
    pub mark: JointMark,
}

/// What the deciding member says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Committed,
    Aborted,
    /// It cannot be asked, or has forgotten.
    Unknown(String),
}

/// The mark in a transaction, and what its seal says of it.
pub(crate) struct Marked {
    pub(crate) mark: JointMark,
    /// Who wrote it.
    pub(crate) session: Option<u64>,
    pub(crate) is_whole: bool,
}

/// The mark of a voted transaction at `position`, where one was written with it.
pub(crate) fn mark_of(
    file: &Arc<dyn File>,
    path: &Path,
    position: u64,
    header: &TransactionHeader,
) -> Result<Option<Marked>> {
    let mut window = Window::new(file, path);
    let is_whole = match checksums::by_seal(&mut window, position, header)? {
        // Written elsewhere: it is a copy's.
        Verdict::Unknown => return Ok(None),
        Verdict::Whole => true,
        Verdict::Damaged(_) => false,
    };
    let len = usize::try_from(header.len()).unwrap_or(usize::MAX);
    let session = Seal::of(window.at(position, len)?).map(|seal| seal.session);
    let before = seal::before_seal(window.at(position, len)?).unwrap_or_default();
    if let Some(found) = JointMark::newer_at_end_of(before) {
        return Err(Error::Newer {
            path: path.to_owned(),
            found,
        });
    }
    Ok(JointMark::at_end_of(before).map(|(mark, _)| Marked {
        mark,
        session,
        is_whole,
    }))
}

/// Ask the deciding member of a transaction in doubt at the end of the file `own`, of which `asked`
/// others have asked already.
///
/// What it says is on its device then.
pub(crate) fn ask(
    disk: &dyn Disk,
    own: &Path,
    tid: Tid,
    mark: &JointMark,
    asked: usize,
) -> Result<Decision> {
    if mark.own == 0 {
        // It decides, and has not: nobody can have finished.
        return Ok(Decision::Aborted);
    }
    if asked > ASKED_MAX {
        let reason = format!("{asked} members ask one another in a circle");
        return Ok(Decision::Unknown(reason));
    }
    let mut tried = Vec::new();
    for place in places_of(mark.decider(), mark.own_path(), own) {
        // One that may not be written can be read and synced all the same.
        let file = disk.open(&place, Access::Write);
        match file.or_else(|_| disk.open(&place, Access::Read)) {
            Ok(file) => return decision_in(disk, &file, &place, tid, mark, asked + 1),
            Err(error) => tried.push(format!("{}: {error}", place.display())),
        }
    }
    Ok(Decision::Unknown(format!(
        "it can't be read ({})",
        tried.join("; ")
    )))
}

/// Looks for a transaction, and for what the file had before it.
struct Search {
    tid: Tid,
    before: Option<Tid>,
    found: Option<(u64, TransactionHeader)>,
    is_the_file: bool,
    packed: Tid,
}

impl Search {
    fn of(tid: Tid, before: Option<Tid>) -> Self {
        Self {
            tid,
            before,
            found: None,
            // One that was empty is like any other that is.
            is_the_file: before == Some(Tid::ZERO),
            packed: Tid::ZERO,
        }
    }
}

impl Visitor for Search {
    fn record(&mut self, _position: u64, _header: &perdure_format::file::RecordHeader) {}

    fn transaction(&mut self, position: u64, header: &TransactionHeader) {
        if header.tid == self.tid {
            self.found = Some((position, *header));
        }
        self.is_the_file |= match self.before {
            Some(before) => header.tid == before,
            None => header.tid < self.tid,
        };
        if header.status == Status::Packed {
            self.packed = header.tid;
        }
    }

    fn discard(&mut self) {}
}

/// What the deciding member says: just what its own open makes of its end.
fn decision_in(
    disk: &dyn Disk,
    file: &Arc<dyn File>,
    path: &Path,
    tid: Tid,
    mark: &JointMark,
    asked: usize,
) -> Result<Decision> {
    let end = match open::steadily(|| open::durable_end(disk, path, file, asked)) {
        Ok(end) => end,
        Err(error) => return Ok(Decision::Unknown(format!("it can't be used: {error}"))),
    };
    let mut search = Search::of(tid, mark.before);
    let whole = Range {
        end,
        ..Range::default()
    };
    scan::scan(file, path, whole, &mut search)?;
    let unknown = |reason| Ok(Decision::Unknown(format!("{} {reason}", path.display())));
    if let Some((position, header)) = search.found {
        let len = usize::try_from(header.len()).unwrap_or(usize::MAX);
        let mut window = Window::new(file, path);
        let Some(before) = seal::before_seal(window.at(position, len)?) else {
            return unknown("has a transaction of that id that doesn't say whether it is this one");
        };
        // After a kill, another one may have got the id.
        if JointMark::at_end_of(before).is_some_and(|(its, _)| its.decides(mark)) {
            return Ok(Decision::Committed);
        }
    }
    if search.packed >= tid {
        return unknown("was packed since and may have dropped it");
    }
    if !search.is_the_file {
        return unknown("is another file or an older copy: it lacks what was there before");
    }
    Ok(Decision::Aborted)
}

/// The transaction in doubt at the end of a data file, if there is one. Changes nothing.
///
/// # Errors
/// Where the file cannot be read.
pub fn find(disk: &dyn Disk, path: &Path) -> Result<Option<InDoubt>> {
    let file = disk
        .open(path, Access::Read)
        .map_err(|e| Error::io("opening", path, e))?;
    let scanned = scan::scan(&file, path, Range::default(), &mut scan::Nothing)?;
    let Some(scan::Stop::Voted(header)) = scanned.stop else {
        return Ok(None);
    };
    let marked = mark_of(&file, path, scanned.end, &header)?;
    Ok(marked.filter(|it| it.is_whole).map(|it| InDoubt {
        tid: header.tid,
        position: scanned.end,
        mark: it.mark,
    }))
}

/// Finish the transaction in doubt at `position`, as the deciding member did.
pub(crate) fn finish(file: &dyn File, path: &Path, position: u64) -> Result<()> {
    let error = |source| Error::io("finishing a transaction in", path, source);
    file.write_at(&[Status::Committed.to_byte()], position + STATUS_OFFSET)
        .and_then(|()| file.sync())
        .map_err(error)
}

/// Say by hand what becomes of the transaction in doubt at the end of a data file that is not
/// open: what its deciding member would say, could it be asked.
///
/// # Errors
/// Where there is none, the file is locked, or it cannot be written.
pub fn settle(disk: &dyn Disk, path: &Path, commit: bool) -> Result<InDoubt> {
    let error = |source| Error::io("opening", path, source);
    // No lock's file is left beside a file that isn't there.
    disk.open(path, Access::Read).map_err(error)?;
    let _lock = open::take_lock(disk, path)?;
    let (_held, file) = data_lock::open_locked(disk, path)?;
    let found = find(disk, path)?;
    let in_doubt = found.ok_or_else(|| Error::NothingInDoubt {
        path: path.to_owned(),
    })?;
    if commit {
        finish(file.as_ref(), path, in_doubt.position)?;
    } else {
        let len = file.len().map_err(error)?;
        open::cut_off(disk, path, file.as_ref(), in_doubt.position, len)?;
    }
    Ok(in_doubt)
}

/// The error for a transaction that nobody can decide on.
pub(crate) fn undecided(path: &Path, tid: Tid, mark: &JointMark, reason: String) -> Error {
    Error::InDoubt {
        path: path.to_owned(),
        tid,
        decider: PathBuf::from(mark.decider()),
        reason,
    }
}
