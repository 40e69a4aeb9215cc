//! Records that layers over a storage keep in another form.

use std::borrow::Cow;
use std::fmt::Debug;

use perdure_format::{Oid, Tid};

use super::Marking;
use crate::error::{Error, Result};
use crate::generation::Kept;

/// A revision of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptRecord {
    /// The object.
    pub oid: Oid,
    /// The transaction that wrote it.
    pub tid: Tid,
    /// Its data.
    pub data: Vec<u8>,
}

impl From<Kept<'_>> for KeptRecord {
    fn from(kept: Kept<'_>) -> Self {
        Self {
            oid: kept.oid,
            tid: kept.tid,
            data: kept.data.to_vec(),
        }
    }
}

/// Gives records back as they were before layers put them into another form.
pub trait Decoder: Debug + Send + Sync {
    /// Put the data as they were in place of those that are kept, record by record.
    ///
    /// # Errors
    /// Tells which record cannot be read, and why.
    fn decode(&self, records: &mut [KeptRecord]) -> std::result::Result<(), (Oid, String)>;
}

/// As [`Decoder::decode`].
pub(crate) fn decode(decoder: &dyn Decoder, records: &mut [KeptRecord]) -> Result<()> {
    decoder
        .decode(records)
        .map_err(|(oid, problem)| Error::References { oid, problem })
}

impl Marking {
    /// What decodes the records of a member; none where they are kept as they are.
    pub(super) fn decoder(&self, member: usize) -> Option<&dyn Decoder> {
        self.members.get(member)?.member.decoder.as_deref()
    }

    /// The data of a record of a member as they were before layers put them into another form.
    pub(crate) fn plain<'a>(&self, member: usize, kept: Kept<'a>) -> Result<Cow<'a, [u8]>> {
        let Some(decoder) = self.decoder(member) else {
            return Ok(Cow::Borrowed(kept.data));
        };
        let mut record = KeptRecord::from(kept);
        decode(decoder, std::slice::from_mut(&mut record))?;
        Ok(Cow::Owned(record.data))
    }
}
