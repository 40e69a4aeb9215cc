//! What becomes of a joint transaction that was voted and not finished when the process died.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use perdure_format::Tid;
use perdure_format::file::{STATUS_OFFSET, Status, TRAILER_LEN, TransactionHeader, is_magic};
use perdure_format::joint::JointMark;

use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::joint::places_of;
use crate::scan::{self, Range, Visitor};

/// Longer marks there are not.
const MARK_BYTES_MAX: usize = 1 << 20;

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

/// The mark at a position, where there is one and nothing else follows.
pub(crate) fn mark_at(file: &dyn File, path: &Path, position: u64) -> Result<Option<JointMark>> {
    let error = |source| Error::io("reading", path, source);
    let left = file.len().map_err(error)?.saturating_sub(position);
    let len = usize::try_from(left).unwrap_or(usize::MAX);
    if len > MARK_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; len];
    let read = file.read_at(&mut bytes, position).map_err(error)?;
    bytes.truncate(read);
    if let Some(found) = JointMark::newer(&bytes) {
        return Err(Error::Newer {
            path: path.to_owned(),
            found,
        });
    }
    Ok(JointMark::parse(&bytes)
        .filter(|(_, len)| *len == read)
        .map(|(mark, _)| mark))
}

/// Ask the deciding member of a transaction in doubt at the end of the file `own`.
pub(crate) fn ask(disk: &dyn Disk, own: &Path, mark: &JointMark) -> Result<Decision> {
    if mark.own == 0 {
        // It decides, and has not: nobody can have finished.
        return Ok(Decision::Aborted);
    }
    let mut tried = Vec::new();
    for place in places_of(mark.decider(), mark.own_path(), own) {
        match disk.open(&place, Access::Read) {
            Ok(file) => return decision_in(&file, &place, mark.tid),
            Err(error) => tried.push(format!("{}: {error}", place.display())),
        }
    }
    Ok(Decision::Unknown(format!(
        "it can't be read ({})",
        tried.join("; ")
    )))
}

/// Looks for a transaction.
struct Search {
    tid: Tid,
    found: bool,
    packed: Tid,
}

impl Visitor for Search {
    fn record(&mut self, _position: u64, _header: &perdure_format::file::RecordHeader) {}

    fn transaction(&mut self, _position: u64, header: &TransactionHeader) {
        self.found |= header.tid == self.tid;
        if header.status == Status::Packed {
            self.packed = header.tid;
        }
    }

    fn discard(&mut self) {}
}

fn decision_in(file: &Arc<dyn File>, path: &Path, tid: Tid) -> Result<Decision> {
    let mut magic = [0; 4];
    let read = file
        .read_at(&mut magic, 0)
        .map_err(|e| Error::io("reading", path, e))?;
    if !is_magic(magic.get(..read).unwrap_or_default()) {
        return Ok(Decision::Unknown(format!(
            "{} is no database",
            path.display()
        )));
    }
    let mut search = Search {
        tid,
        found: false,
        packed: Tid::ZERO,
    };
    let scanned = scan::scan(file, path, Range::default(), &mut search)?;
    Ok(if search.found {
        Decision::Committed
    } else if search.packed >= tid {
        Decision::Unknown(format!(
            "{} was packed since and may have dropped it",
            path.display()
        ))
    } else if matches!(scanned.stop, Some(scan::Stop::Damaged { .. })) && scanned.last_tid < tid {
        Decision::Unknown(format!("{} is damaged; open it first", path.display()))
    } else {
        Decision::Aborted
    })
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
    let end = scanned.end + header.length + TRAILER_LEN;
    let mark = mark_at(file.as_ref(), path, end)?.filter(|mark| mark.tid == header.tid);
    Ok(mark.map(|mark| InDoubt {
        tid: header.tid,
        position: scanned.end,
        mark,
    }))
}

/// Finish the transaction in doubt at `position`, as the deciding member did.
pub(crate) fn finish(
    file: &dyn File,
    path: &Path,
    position: u64,
    header: &TransactionHeader,
) -> Result<()> {
    let error = |source| Error::io("finishing a transaction in", path, source);
    let end = position + header.length + TRAILER_LEN;
    file.write_at(&[Status::Committed.to_byte()], position + STATUS_OFFSET)
        .map_err(error)?;
    file.sync().map_err(error)?;
    file.truncate(end).map_err(error)?;
    file.sync().map_err(error)
}

/// Say by hand what becomes of the transaction in doubt at the end of a data file that is not
/// open: what its deciding member would say, could it be asked.
///
/// # Errors
/// Where there is none, the file is locked, or it cannot be written.
pub fn settle(disk: &dyn Disk, path: &Path, commit: bool) -> Result<InDoubt> {
    let _lock = crate::open::take_lock(disk, path)?;
    let found = find(disk, path)?;
    let in_doubt = found.ok_or_else(|| Error::NothingInDoubt {
        path: path.to_owned(),
    })?;
    let error = |source| Error::io("opening", path, source);
    let file = disk.open(path, Access::Write).map_err(error)?;
    if commit {
        let scanned = scan::scan(&file, path, Range::default(), &mut scan::Nothing)?;
        if let Some(scan::Stop::Voted(header)) = scanned.stop {
            finish(file.as_ref(), path, in_doubt.position, &header)?;
        }
    } else {
        let len = file.len().map_err(error)?;
        crate::open::cut_off(disk, path, file.as_ref(), in_doubt.position, len)?;
    }
    Ok(in_doubt)
}

/// The error for a transaction that nobody can decide on.
pub(crate) fn undecided(path: &Path, mark: &JointMark, reason: String) -> Error {
    Error::InDoubt {
        path: path.to_owned(),
        tid: mark.tid,
        decider: PathBuf::from(mark.decider()),
        reason,
    }
}
