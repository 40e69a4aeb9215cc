//! A transaction that is being put together: nothing of it is in the file.

use perdure_format::file::{RECORD_HEADER_LEN, Status};
use perdure_format::{Oid, Tid};

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

/// A record of the draft.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DraftRecord {
    pub(crate) oid: Oid,
    pub(crate) basis: Basis,
    pub(crate) content: Content,
    /// Where its header begins in the draft's body.
    pub(crate) start: usize,
}

impl DraftRecord {
    /// The length of the record in the body.
    pub(crate) fn len(&self) -> usize {
        RECORD_HEADER_LEN
            + match self.content {
                Content::Data(len) => len,
                Content::Position(_) => 8,
            }
    }
}

/// The records of a transaction, in one buffer that is written once.
#[derive(Debug)]
pub struct Draft {
    pub(crate) metadata: Metadata,
    pub(crate) status: Status,
    pub(crate) tid: Option<Tid>,
    pub(crate) body: Vec<u8>,
    pub(crate) records: Vec<DraftRecord>,
    pub(crate) reads: Vec<(Oid, Tid)>,
    /// The pack count that the positions in it belong to, where it has any.
    pub(crate) positions_of: Option<u64>,
    /// What it refers to.
    pub(crate) targets: Option<Targets>,
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
        let start = self.body.len();
        self.body.reserve(RECORD_HEADER_LEN + bytes.len());
        // The header is filled in at the vote, when positions and tid are known.
        self.body.extend_from_slice(&[0; RECORD_HEADER_LEN]);
        self.body.extend_from_slice(bytes);
        self.records.push(DraftRecord {
            oid,
            basis,
            content,
            start,
        });
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

    /// The data of the record with this number; none where it has none of its own.
    #[must_use]
    pub fn data(&self, record: usize) -> Option<&[u8]> {
        let record = self.records.get(record)?;
        match record.content {
            Content::Data(len) => {
                let start = record.start + RECORD_HEADER_LEN;
                self.body.get(start..start + len)
            }
            Content::Position(_) => None,
        }
    }

    /// Put other data in place of a record's.
    pub(crate) fn replace(&mut self, number: usize, data: &[u8]) {
        let Some(record) = self.records.get_mut(number) else {
            return;
        };
        let old_len = record.len();
        let (start, first) = (record.start, record.start + RECORD_HEADER_LEN);
        record.content = Content::Data(data.len());
        self.body
            .splice(first..start + old_len, data.iter().copied());
        if old_len == RECORD_HEADER_LEN + data.len() {
            return;
        }
        for later in self.records.iter_mut().skip(number + 1) {
            later.start = later.start - old_len + RECORD_HEADER_LEN + data.len();
        }
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
        draft.replace(1, b"a longer two");
        assert_eq!(draft.data(0), Some(&b"one"[..]));
        assert_eq!(draft.data(1), Some(&b"a longer two"[..]));
        assert_eq!(draft.data(2), Some(&b"three"[..]));
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
