//! A transaction that is being put together: nothing of it is in the file.

use std::borrow::Cow;

use perdure_format::file::{RECORD_HEADER_LEN, Status};
use perdure_format::{Oid, Tid};

use crate::aside::Aside;
use crate::error::{Error, Result};
use crate::targets::Targets;

/// Who commits, and why.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// The user name.
    pub user: Vec<u8>,
    /// The description.
    pub description: Vec<u8>,
    /// The pickled extension, empty for none.
    pub extension: Vec<u8>,
}

impl Metadata {
    /// Check that the format can hold it.
    ///
    /// # Errors
    /// Names the field that is too long.
    pub fn check(&self) -> Result<()> {
        let fields = [
            ("user name", &self.user),
            ("description", &self.description),
            ("extension", &self.extension),
        ];
        for (field, bytes) in fields {
            if bytes.len() > usize::from(u16::MAX) {
                return Err(Error::MetadataTooLong {
                    field,
                    len: bytes.len(),
                });
            }
        }
        Ok(())
    }
}

/// What a record's revision is checked against at the vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// The change was made to this revision; another one that is current is a conflict.
    Revision(Tid),
    /// Nothing: the record is a copy of one that was committed elsewhere.
    Copy,
}

/// What a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The data of this length follow the header.
    Data(usize),
    /// The data stand in the record at this position; 0: the object does not exist.
    Position(u64),
}

/// A record of the draft, in few bytes: there may be millions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DraftRecord {
    pub(crate) oid: Oid,
    /// The revision that it was made from, unless it is a copy.
    seen: Tid,
    /// The length of its data, or the position that it has instead.
    size: u64,
    /// Where its header begins in the draft's body, and two bits that tell what the others are.
    place: u64,
}

/// What most transactions have room in, which then grow no buffer.
const SMALL_LEN: usize = 1 << 12;
const SMALL_RECORDS: usize = 1 << 4;

const IS_COPY: u64 = 1;
const IS_POSITION: u64 = 2;
const PLACE_SHIFT: u32 = 2;

impl DraftRecord {
    fn new(oid: Oid, basis: Basis, content: Content, start: u64) -> Self {
        let (seen, copy) = match basis {
            Basis::Revision(tid) => (tid, 0),
            Basis::Copy => (Tid::ZERO, IS_COPY),
        };
        let (size, position) = match content {
            Content::Data(len) => (len as u64, 0),
            Content::Position(position) => (position, IS_POSITION),
        };
        Self {
            oid,
            seen,
            size,
            place: start << PLACE_SHIFT | copy | position,
        }
    }

    /// What it is checked against.
    pub(crate) fn basis(&self) -> Basis {
        if self.place & IS_COPY == 0 {
            Basis::Revision(self.seen)
        } else {
            Basis::Copy
        }
    }

    /// What it says.
    pub(crate) fn content(&self) -> Content {
        if self.place & IS_POSITION == 0 {
            Content::Data(usize::try_from(self.size).unwrap_or(usize::MAX))
        } else {
            Content::Position(self.size)
        }
    }

    /// Where its header begins in the draft's body.
    pub(crate) const fn start(&self) -> u64 {
        self.place >> PLACE_SHIFT
    }

    /// The length of the record in the body.
    pub(crate) fn len(&self) -> usize {
        RECORD_HEADER_LEN
            + match self.content() {
                Content::Data(len) => len,
                Content::Position(_) => 8,
            }
    }

    /// Where it ends in the body.
    pub(crate) fn end(&self) -> u64 {
        self.start() + self.len() as u64
    }

    fn moved(&self, start: u64) -> Self {
        Self::new(self.oid, self.basis(), self.content(), start)
    }
}

/// The records of a transaction, as they are written at its vote.
#[derive(Debug)]
pub struct Draft {
    pub(crate) metadata: Metadata,
    pub(crate) status: Status,
    pub(crate) tid: Option<Tid>,
    /// The records, behind those that were put aside.
    pub(crate) body: Vec<u8>,
    pub(crate) records: Vec<DraftRecord>,
    pub(crate) reads: Vec<(Oid, Tid)>,
    /// The pack count that the positions in it belong to, where it has any.
    pub(crate) positions_of: Option<u64>,
    /// What it refers to.
    pub(crate) targets: Option<Targets>,
    /// Where the first records are, when they become many.
    aside: Option<Aside>,
}

impl Draft {
    /// An empty transaction.
    ///
    /// # Errors
    /// Where a field of the metadata is too long for the format.
    pub fn new(metadata: Metadata) -> Result<Self> {
        metadata.check()?;
        Ok(Self {
            metadata,
            status: Status::Committed,
            tid: None,
            body: Vec::new(),
            records: Vec::new(),
            reads: Vec::new(),
            positions_of: None,
            targets: None,
            aside: None,
        })
    }

    /// A copy of a transaction that was committed elsewhere, with its id and status.
    ///
    /// # Errors
    /// Where a field of the metadata is too long for the format.
    pub fn copy_of(metadata: Metadata, tid: Tid, status: Status) -> Result<Self> {
        Ok(Self {
            tid: Some(tid),
            status,
            ..Self::new(metadata)?
        })
    }

    /// Let it put records aside, by [`Draft::put_aside`].
    pub(crate) fn lend(&mut self, aside: Aside) {
        self.aside = Some(aside);
    }

    /// Let it have no more bytes of records in memory than so many, where it can put them aside.
    pub fn keep(&mut self, bytes: usize) {
        if let Some(aside) = &mut self.aside {
            aside.keep(bytes);
        }
    }

    /// Are there so many records in memory that they are to be put aside?
    #[must_use]
    pub fn is_large(&self) -> bool {
        let aside = self.aside.as_ref();
        aside.is_some_and(|aside| aside.is_due(self.body.len()))
    }

    /// Move the records in memory to a file; without one, or where it is full, they stay.
    pub fn put_aside(&mut self) {
        if let Some(aside) = &mut self.aside
            && aside.put(&self.body)
        {
            self.body = Vec::with_capacity(aside.part_bytes());
        }
    }

    /// How many bytes were put aside.
    pub(crate) fn aside_len(&self) -> u64 {
        self.aside.as_ref().map_or(0, Aside::len)
    }

    /// How many bytes of records are written at a time, or one record.
    pub(crate) fn part_bytes(&self) -> usize {
        self.aside.as_ref().map_or(usize::MAX, Aside::part_bytes)
    }

    /// The length of all records.
    pub(crate) fn body_len(&self) -> u64 {
        self.aside_len() + self.body.len() as u64
    }

    /// Add an object's new data.
    pub fn store(&mut self, oid: Oid, basis: Basis, data: &[u8]) {
        self.push(oid, basis, Content::Data(data.len()), data);
    }

    /// Add a record that says that the object does not exist any more.
    pub fn delete(&mut self, oid: Oid, basis: Basis) {
        self.push(oid, basis, Content::Position(0), &[0; 8]);
    }

    /// Add a record whose data stand in an earlier record.
    pub fn point(&mut self, oid: Oid, basis: Basis, position: u64) {
        self.push(
            oid,
            basis,
            Content::Position(position),
            &position.to_be_bytes(),
        );
    }

    fn push(&mut self, oid: Oid, basis: Basis, content: Content, bytes: &[u8]) {
        let start = self.body_len();
        let len = RECORD_HEADER_LEN + bytes.len();
        if self.body.capacity() == 0 {
            self.body.reserve(len.max(SMALL_LEN));
            self.records.reserve(SMALL_RECORDS);
        }
        self.body.reserve(len);
        // The header is filled in at the vote, when positions and tid are known.
        self.body.extend_from_slice(&[0; RECORD_HEADER_LEN]);
        self.body.extend_from_slice(bytes);
        self.records
            .push(DraftRecord::new(oid, basis, content, start));
    }

    /// Note that the draft has positions of the file after so many packs.
    ///
    /// # Errors
    /// [`Error::PackedMeanwhile`] where it has positions of the file before.
    pub fn rely_on_positions(&mut self, packs: u64) -> Result<()> {
        if *self.positions_of.get_or_insert(packs) == packs {
            Ok(())
        } else {
            Err(Error::PackedMeanwhile)
        }
    }

    /// Note that the transaction relies on an object's revision without changing the object.
    pub fn check_current(&mut self, oid: Oid, tid: Tid) {
        self.reads.push((oid, tid));
    }

    /// How many records were added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Was nothing added?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Does it change objects, and rely on none that it doesn't change?
    #[must_use]
    pub fn only_writes(&self) -> bool {
        !self.records.is_empty() && self.reads.is_empty()
    }

    /// The data of the record with this number; none where it has none of its own.
    ///
    /// # Errors
    /// Where they were put aside and cannot be read.
    pub fn data(&self, record: usize) -> Result<Option<Cow<'_, [u8]>>> {
        let Some(record) = self.records.get(record) else {
            return Ok(None);
        };
        let Content::Data(len) = record.content() else {
            return Ok(None);
        };
        let start = record.start() + RECORD_HEADER_LEN as u64;
        if let Some(kept) = start.checked_sub(self.aside_len()) {
            let kept = usize::try_from(kept).unwrap_or(usize::MAX);
            let data = self.body.get(kept..kept.saturating_add(len));
            return Ok(data.map(Cow::Borrowed));
        }
        let mut data = vec![0; len];
        self.read(&mut data, start)?;
        Ok(Some(Cow::Owned(data)))
    }

    /// Fill a buffer with the part of the records that begins at `at`: as they are before the
    /// vote, without headers.
    ///
    /// # Errors
    /// Where they were put aside and cannot be read.
    pub(crate) fn read(&self, buffer: &mut [u8], at: u64) -> Result<()> {
        let aside_len = self.aside_len();
        let left = usize::try_from(aside_len.saturating_sub(at)).unwrap_or(usize::MAX);
        let (first, rest) = buffer.split_at_mut(left.min(buffer.len()));
        if let Some(aside) = self.aside.as_ref().filter(|_| !first.is_empty()) {
            aside.read(first, at)?;
        }
        let from = usize::try_from(at.saturating_sub(aside_len)).unwrap_or(usize::MAX);
        if let Some(kept) = self.body.get(from..from.saturating_add(rest.len())) {
            rest.copy_from_slice(kept);
        }
        Ok(())
    }

    /// Put other data in place of a record's.
    ///
    /// # Errors
    /// Where records were put aside and cannot be read or written: the draft is not to be used.
    pub(crate) fn replace(&mut self, number: usize, data: &[u8]) -> Result<()> {
        let Some(&record) = self.records.get(number) else {
            return Ok(());
        };
        let (start, old_len) = (record.start(), record.len());
        let new_len = RECORD_HEADER_LEN + data.len();
        let (basis, content) = (record.basis(), Content::Data(data.len()));
        let aside_len = self.aside_len();
        if start < aside_len {
            if old_len == new_len
                && let Some(aside) = &self.aside
            {
                return aside.put_over(data, start + RECORD_HEADER_LEN as u64);
            }
            self.take_back()?;
        }
        let from = usize::try_from(start - self.aside_len()).unwrap_or(usize::MAX);
        let place = from + RECORD_HEADER_LEN..from + old_len;
        self.body.splice(place, data.iter().copied());
        if let Some(slot) = self.records.get_mut(number) {
            *slot = DraftRecord::new(record.oid, basis, content, start);
        }
        if old_len == new_len {
            return Ok(());
        }
        for later in self.records.iter_mut().skip(number + 1) {
            *later = later.moved(later.start() - old_len as u64 + new_len as u64);
        }
        Ok(())
    }

    /// Have all records in memory again.
    fn take_back(&mut self) -> Result<()> {
        let len = usize::try_from(self.body_len()).unwrap_or(usize::MAX);
        let mut body = vec![0; len];
        self.read(&mut body, 0)?;
        self.body = body;
        self.aside = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replacing_data_moves_the_records_behind() {
        let mut draft = Draft::new(Metadata::default()).unwrap();
        for (oid, data) in [(1, &b"one"[..]), (2, b"two"), (3, b"three")] {
            draft.store(Oid(oid), Basis::Copy, data);
        }
        draft.replace(1, b"a longer two").unwrap();
        for (number, data) in [&b"one"[..], b"a longer two", b"three"].iter().enumerate() {
            assert_eq!(draft.data(number).unwrap().as_deref(), Some(*data));
        }
    }

    #[test]
    fn metadata_that_the_format_cannot_hold_is_refused() {
        let metadata = Metadata {
            user: vec![b'x'; 65_536],
            ..Metadata::default()
        };
        assert!(matches!(
            Draft::new(metadata),
            Err(Error::MetadataTooLong { .. })
        ));
    }
}
