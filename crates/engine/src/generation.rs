//! One data file with its index: what readers hold on to while a pack puts another in its place.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use perdure_format::file::{FIRST_TRANSACTION, RECORD_HEADER_LEN, RecordHeader, TransactionHeader};
use perdure_format::index::Entry;
use perdure_format::{Oid, Tid};

use crate::disk::{Disk, File};
use crate::error::{Error, Result};
use crate::index::{Damaged, Index};
use crate::open::Options;
use crate::recent::Recent;
use crate::verify::Verifier;
use crate::{rebuild, scan};

/// Most records are shorter, so that one read fetches header and data.
const READ_AHEAD: usize = 1024;

/// May a read wait for the device?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// Yes: the caller holds nothing that others wait for.
    Wait,
    /// No: give up with [`Found::WouldWait`].
    Once,
}

/// A data file and the positions of its current records.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    pub(crate) index: Index,
    /// Guards rebuilding a damaged index: one thread does it. A leaf.
    rebuilding: Mutex<()>,
    /// Compares what is read with its checksums, where that was asked for.
    pub(crate) verifier: Option<Verifier>,
    /// The greatest length of a record's data.
    pub(crate) record_bytes_max: u64,
    /// What was written of late.
    pub(crate) recent: Recent,
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A revision; its data stand at `start..end` of the buffer.
    Record(Located),
    /// The object has no revision at or before the snapshot.
    Nothing,
    /// The revision says that the object does not exist.
    Deleted(Tid),
    /// The read would have to wait for the device.
    WouldWait,
}

/// A revision in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located {
    /// The transaction that wrote the revision.
    pub tid: Tid,
    /// The transaction that wrote the next revision, where there is one.
    pub next: Option<Tid>,
    /// Where in the buffer the data begin.
    pub start: usize,
    /// Where in the buffer the data end.
    pub end: usize,
}

/// The data of a revision as they are kept, and whose they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept<'a> {
    pub(crate) oid: Oid,
    /// The transaction that wrote the revision.
    pub(crate) tid: Tid,
    pub(crate) data: &'a [u8],
}

/// The header of a revision, and the next newer revision's tid.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Revision {
    pub(crate) header: RecordHeader,
    pub(crate) position: u64,
    pub(crate) next: Option<Tid>,
    /// How many bytes of the buffer were read at `position`.
    filled: usize,
}

/// What a search for a revision found.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Search {
    /// The revision.
    Revision(Revision),
    /// There is none at or before the snapshot.
    Nothing,
    /// The read would have to wait for the device.
    WouldWait,
}

impl Generation {
    pub(crate) fn new(file: Arc<dyn File>, path: &Path, index: Index) -> Self {
        Self {
            file,
            path: path.to_owned(),
            index,
            rebuilding: Mutex::new(()),
            verifier: None,
            record_bytes_max: u64::MAX,
            recent: Recent::default(),
        }
    }

    pub(crate) fn corrupted(&self, position: u64, problem: impl Into<String>) -> Error {
        Error::Corrupted {
            path: self.path.clone(),
            position,
            problem: problem.into(),
        }
    }

    /// Refuse a record that is larger than was said that records may be.
    pub(crate) fn check_len(&self, oid: Oid, len: u64) -> Result<()> {
        if len <= self.record_bytes_max {
            return Ok(());
        }
        Err(Error::RecordTooLarge {
            path: self.path.clone(),
            oid,
            len,
            max: self.record_bytes_max,
        })
    }

    /// Read from it as a store with these options does.
    pub(crate) fn reading_as(mut self, options: &Options, disk: &Arc<dyn Disk>) -> Self {
        self.record_bytes_max = options.record_bytes_max.unwrap_or(u64::MAX);
        if options.verify_reads {
            self.verifier = Some(Verifier::new(disk, &self.path));
        }
        self
    }

    /// The position of an object's newest record, visible or not.
    pub(crate) fn position(&self, oid: Oid) -> Result<Option<u64>> {
        self.index.get(oid).or_else(|Damaged| {
            self.rebuild_index()?;
            self.index
                .get(oid)
                .map_err(|Damaged| self.unreadable_index())
        })
    }

    /// The first object at or after an oid, visible or not.
    pub(crate) fn at_or_after(&self, oid: Oid) -> Result<Option<Entry>> {
        self.index.at_or_after(oid).or_else(|Damaged| {
            self.rebuild_index()?;
            self.index
                .at_or_after(oid)
                .map_err(|Damaged| self.unreadable_index())
        })
    }

    fn unreadable_index(&self) -> Error {
        let source = io::Error::other("the index that was just rebuilt cannot be read");
        Error::io("reading the index of", &self.path, source)
    }

    /// Scan the part of the file that a damaged saved index covers.
    fn rebuild_index(&self) -> Result<()> {
        let _one = self
            .rebuilding
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been faster.
        let Some(end) = self.index.saved_end() else {
            return Ok(());
        };
        let mut entries = rebuild::Entries::default();
        scan::scan(
            &self.file,
            &self.path,
            scan::Range {
                end,
                ..scan::Range::default()
            },
            &mut entries,
        )?;
        self.verify_scanned(FIRST_TRANSACTION..end)?;
        self.index.mend_base(entries.into_found());
        Ok(())
    }

    /// Compare the part of the file that was scanned with its checksums, if reads are verified.
    pub(crate) fn verify_scanned(&self, part: Range<u64>) -> Result<()> {
        match &self.verifier {
            Some(verifier) => verifier.check_scanned(&self.file, part),
            None => Ok(()),
        }
    }

    /// Read into `buffer` at `position`, as much as is there; none where it would have to wait.
    fn fetch(
        &self,
        buffer: &mut Vec<u8>,
        position: u64,
        len: usize,
        patience: Patience,
    ) -> Result<Option<usize>> {
        if buffer.len() < len {
            buffer.resize(len, 0);
        }
        let target = buffer.get_mut(..len).unwrap_or_default();
        let read = match patience {
            Patience::Wait => self.file.read_at(target, position).map(Some),
            Patience::Once => self.file.read_at_once(target, position),
        };
        read.map_err(|source| Error::io("reading", &self.path, source))
    }

    /// Read the header of the record at `position`, with as much of its data as comes along.
    fn record_at(
        &self,
        buffer: &mut Vec<u8>,
        position: u64,
        patience: Patience,
    ) -> Result<Option<(RecordHeader, usize)>> {
        let Some(filled) = self.fetch(buffer, position, READ_AHEAD, patience)? else {
            return Ok(None);
        };
        if filled < RECORD_HEADER_LEN && patience == Patience::Once {
            return Ok(None);
        }
        let bytes = buffer.get(..filled).unwrap_or_default();
        let header = RecordHeader::parse(bytes)
            .map_err(|error| self.corrupted(position, format!("expected a record: {error}")))?;
        if let Some(verifier) = &self.verifier
            && !verifier.knows(&header, position)
        {
            if patience == Patience::Once {
                return Ok(None);
            }
            if let Some(problem) = verifier.problem_of(&self.file, &header, position)? {
                return Err(self.corrupted(position, problem));
            }
        }
        Ok(Some((header, filled)))
    }

    /// The header of the record at `position`.
    pub(crate) fn header_at(&self, position: u64) -> Result<RecordHeader> {
        let mut bytes = [0; RECORD_HEADER_LEN];
        let read = self.file.read_at(&mut bytes, position);
        let read = read.map_err(|source| Error::io("reading", &self.path, source))?;
        RecordHeader::parse(bytes.get(..read).unwrap_or_default())
            .map_err(|error| self.corrupted(position, format!("expected a record: {error}")))
    }

    /// The header of the object's revision at or before `snapshot`.
    pub(crate) fn revision(
        &self,
        oid: Oid,
        snapshot: Tid,
        buffer: &mut Vec<u8>,
        patience: Patience,
    ) -> Result<Search> {
        let Some(mut position) = self.position(oid)? else {
            return Ok(Search::Nothing);
        };
        let mut next = None;
        loop {
            let Some((header, filled)) = self.record_at(buffer, position, patience)? else {
                return Ok(Search::WouldWait);
            };
            if header.oid != oid {
                let problem = format!("expected a record of {oid}, found one of {}", header.oid);
                return Err(self.corrupted(position, problem));
            }
            if header.tid <= snapshot {
                return Ok(Search::Revision(Revision {
                    header,
                    position,
                    next,
                    filled,
                }));
            }
            next = Some(header.tid);
            position = match self.previous(&header, position)? {
                Some(previous) => previous,
                None => return Ok(Search::Nothing),
            };
        }
    }

    /// The position of the revision before this one.
    pub(crate) fn previous(&self, header: &RecordHeader, position: u64) -> Result<Option<u64>> {
        match header.previous {
            0 => Ok(None),
            previous if previous < position => Ok(Some(previous)),
            previous => {
                let problem = format!("expected the previous record before it, not at {previous}");
                Err(self.corrupted(position, problem))
            }
        }
    }

    /// Read an object's revision at or before `snapshot` into `buffer`.
    pub(crate) fn load(
        &self,
        oid: Oid,
        snapshot: Tid,
        buffer: &mut Vec<u8>,
        patience: Patience,
    ) -> Result<Found> {
        match self.revision(oid, snapshot, buffer, patience)? {
            Search::WouldWait => Ok(Found::WouldWait),
            Search::Nothing => Ok(Found::Nothing),
            Search::Revision(revision) => self.data_of(&revision, buffer, patience),
        }
    }

    /// Read the data of a revision whose header was just read into `buffer`.
    pub(crate) fn data_of(
        &self,
        revision: &Revision,
        buffer: &mut Vec<u8>,
        patience: Patience,
    ) -> Result<Found> {
        let tid = revision.header.tid;
        let located = |start, end| {
            Found::Record(Located {
                tid,
                next: revision.next,
                start,
                end,
            })
        };
        let (mut header, mut position) = (revision.header, revision.position);
        let mut filled = revision.filled;
        while header.data_len == 0 {
            let pointer = buffer.get(RECORD_HEADER_LEN..filled.min(RECORD_HEADER_LEN + 8));
            let Some(pointer) = pointer.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok()) else {
                return if patience == Patience::Once {
                    Ok(Found::WouldWait)
                } else {
                    Err(self.corrupted(position, "the record is cut off"))
                };
            };
            let target = u64::from_be_bytes(pointer);
            if target == 0 {
                return Ok(Found::Deleted(tid));
            }
            if target >= position {
                let problem = format!("expected its data before it, not at {target}");
                return Err(self.corrupted(position, problem));
            }
            position = target;
            let Some(read) = self.record_at(buffer, position, patience)? else {
                return Ok(Found::WouldWait);
            };
            (header, filled) = read;
            if header.oid != revision.header.oid {
                let problem = format!("expected data of {}", revision.header.oid);
                return Err(self.corrupted(position, problem));
            }
        }
        self.check_len(header.oid, header.data_len)?;
        match self.complete(&header, position, filled, buffer, patience)? {
            Some(end) => Ok(located(RECORD_HEADER_LEN, end)),
            None => Ok(Found::WouldWait),
        }
    }

    /// The data of the record at `position`, read into `buffer`; none where the object does not
    /// exist in that revision.
    pub(crate) fn data_in<'a>(
        &self,
        position: u64,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<&'a [u8]>> {
        Ok(self.record_in(position, buffer)?.map(|kept| kept.data))
    }

    /// As [`Generation::data_in`], with whose revision it is.
    pub(crate) fn record_in<'a>(
        &self,
        position: u64,
        buffer: &'a mut Vec<u8>,
    ) -> Result<Option<Kept<'a>>> {
        let patience = Patience::Wait;
        let Some((header, filled)) = self.record_at(buffer, position, patience)? else {
            return Ok(None);
        };
        let revision = Revision {
            header,
            position,
            next: None,
            filled,
        };
        match self.data_of(&revision, buffer, patience)? {
            Found::Record(located) => {
                let data = buffer.get(located.start..located.end);
                Ok(data.map(|data| Kept {
                    oid: header.oid,
                    tid: located.tid,
                    data,
                }))
            }
            Found::Nothing | Found::Deleted(_) | Found::WouldWait => Ok(None),
        }
    }

    /// See to it that the whole record is in the buffer; where it ends there.
    fn complete(
        &self,
        header: &RecordHeader,
        position: u64,
        filled: usize,
        buffer: &mut Vec<u8>,
        patience: Patience,
    ) -> Result<Option<usize>> {
        let end = usize::try_from(header.record_len()).unwrap_or(usize::MAX);
        if end <= filled {
            return Ok(Some(end));
        }
        let len = self
            .file
            .len()
            .map_err(|source| Error::io("reading", &self.path, source))?;
        if position.saturating_add(header.record_len()) > len {
            let problem = format!("a record of {} bytes ends beyond the file", header.data_len);
            return Err(self.corrupted(position, problem));
        }
        match self.fetch(buffer, position, end, patience)? {
            Some(read) if read == end => Ok(Some(end)),
            Some(_) if patience == Patience::Wait => {
                Err(self.corrupted(position, "the record is cut off"))
            }
            _ => Ok(None),
        }
    }

    /// The header and strings of the transaction at `position`.
    pub(crate) fn transaction_at(&self, position: u64) -> Result<(TransactionHeader, Vec<u8>)> {
        let mut bytes = vec![0; 512];
        let read = |buffer: &mut Vec<u8>, len| {
            buffer.resize(len, 0);
            let read = self.file.read_at(buffer, position);
            let read = read.map_err(|source| Error::io("reading", &self.path, source))?;
            buffer.truncate(read);
            Ok::<(), Error>(())
        };
        read(&mut bytes, 512)?;
        let header = TransactionHeader::parse(&bytes).map_err(|error| {
            self.corrupted(position, format!("expected a transaction: {error}"))
        })?;
        let len = usize::try_from(header.len()).unwrap_or(usize::MAX);
        if bytes.len() < len {
            read(&mut bytes, len)?;
        }
        if bytes.len() < len {
            return Err(self.corrupted(position, "the transaction's header is cut off"));
        }
        bytes.truncate(len);
        Ok((header, bytes))
    }
}
