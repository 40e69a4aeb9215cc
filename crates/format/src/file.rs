//! The data file: magic, transaction headers and record headers.
//!
//! The layout is ZODB's `FileStorage`: see `docs/internals/file-format.md`.

use crate::bytes::{array, u16_at, u64_at};
use crate::ids::{Oid, Tid};

/// What a data file written under Python 3 begins with.
pub const MAGIC: [u8; 4] = *b"FS30";
/// What a data file written under Python 2 begins with: the same layout.
pub const MAGIC_PYTHON2: [u8; 4] = *b"FS21";
/// Where the first transaction begins.
pub const FIRST_TRANSACTION: u64 = 4;
/// The length of a transaction's header without its three strings.
pub const TRANSACTION_HEADER_LEN: usize = 23;
/// The length of a record's header.
pub const RECORD_HEADER_LEN: usize = 42;
/// The length of the redundant transaction length, and of a position in place of data.
pub const TRAILER_LEN: u64 = 8;
/// No length is beyond this: no file can be as long, and positions can be added to it.
const LENGTH_MAX: u64 = 1 << 62;
/// Where in a transaction's header the status stands.
pub const STATUS_OFFSET: u64 = 16;

/// Is this the beginning of a data file?
#[must_use]
pub fn is_magic(bytes: &[u8]) -> bool {
    bytes == MAGIC || bytes == MAGIC_PYTHON2
}

/// What became of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Finished: part of the database.
    Committed,
    /// Finished, and older than the last pack.
    Packed,
    /// Voted and not finished: not part of the database.
    Voted,
    /// To be skipped.
    Skipped,
}

impl Status {
    /// The status that a byte of the file stands for.
    #[must_use]
    pub const fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b' ' => Some(Self::Committed),
            b'p' => Some(Self::Packed),
            b'c' => Some(Self::Voted),
            b'u' => Some(Self::Skipped),
            _ => None,
        }
    }

    /// The byte that stands for the status in the file.
    #[must_use]
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::Committed => b' ',
            Self::Packed => b'p',
            Self::Voted => b'c',
            Self::Skipped => b'u',
        }
    }
}

/// The fixed part of a transaction's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionHeader {
    /// The transaction's id.
    pub tid: Tid,
    /// The length of the whole transaction less the eight bytes of its trailer.
    pub length: u64,
    /// What became of it.
    pub status: Status,
    /// The length of the user name.
    pub user_len: u16,
    /// The length of the description.
    pub description_len: u16,
    /// The length of the extension.
    pub extension_len: u16,
}

/// Why bytes are no transaction or record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Fewer bytes than a header has.
    #[error("the header is cut off")]
    Short,
    /// The status is none of the four that exist.
    #[error("status byte {0:#04x} (expected ' ', 'p', 'c' or 'u')")]
    Status(u8),
    /// The transaction is shorter than its own header, or longer than any file.
    #[error("transaction length {0}, shorter than its header or longer than any file")]
    Length(u64),
    /// The record's data are longer than any file.
    #[error("record with data of {0} bytes, longer than any file")]
    DataLength(u64),
    /// The record belongs to a version, which no database has had for a long time.
    #[error("record with a version name of {0} bytes (expected 0)")]
    Version(u16),
}

impl TransactionHeader {
    /// Read a header from the bytes at a transaction's position.
    ///
    /// # Errors
    /// Says what is wrong with the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let short = HeaderError::Short;
        let status = *bytes.get(16).ok_or(short)?;
        let header = Self {
            tid: Tid(u64_at(bytes, 0).ok_or(short)?),
            length: u64_at(bytes, 8).ok_or(short)?,
            user_len: u16_at(bytes, 17).ok_or(short)?,
            description_len: u16_at(bytes, 19).ok_or(short)?,
            extension_len: u16_at(bytes, 21).ok_or(short)?,
            status: Status::from_byte(status).ok_or(HeaderError::Status(status))?,
        };
        if !(header.len()..=LENGTH_MAX).contains(&header.length) {
            return Err(HeaderError::Length(header.length));
        }
        Ok(header)
    }

    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; TRANSACTION_HEADER_LEN] {
        let mut out = [0; TRANSACTION_HEADER_LEN];
        let (tid, rest) = out.split_at_mut(8);
        tid.copy_from_slice(&self.tid.to_bytes());
        let (length, rest) = rest.split_at_mut(8);
        length.copy_from_slice(&self.length.to_be_bytes());
        let (status, rest) = rest.split_at_mut(1);
        status.copy_from_slice(&[self.status.to_byte()]);
        for (slot, len) in
            rest.chunks_exact_mut(2)
                .zip([self.user_len, self.description_len, self.extension_len])
        {
            slot.copy_from_slice(&len.to_be_bytes());
        }
        out
    }

    /// The length of the header with its strings: where the first record begins.
    #[must_use]
    pub const fn len(&self) -> u64 {
        TRANSACTION_HEADER_LEN as u64
            + self.user_len as u64
            + self.description_len as u64
            + self.extension_len as u64
    }

    /// A header is never empty.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }
}

/// The header of a data record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Whose revision this is.
    pub oid: Oid,
    /// The transaction that wrote it.
    pub tid: Tid,
    /// The position of the object's previous record, 0 for none.
    pub previous: u64,
    /// The position of the record's transaction.
    pub transaction: u64,
    /// The length of the data; 0 where a position stands in its place.
    pub data_len: u64,
}

impl RecordHeader {
    /// Read a header from the bytes at a record's position.
    ///
    /// # Errors
    /// Says what is wrong with the bytes.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: [u8; RECORD_HEADER_LEN] = array(bytes, 0).ok_or(HeaderError::Short)?;
        let field = |at| u64_at(&bytes, at).ok_or(HeaderError::Short);
        let data_len = field(34)?;
        if data_len > LENGTH_MAX {
            return Err(HeaderError::DataLength(data_len));
        }
        match u16_at(&bytes, 32) {
            Some(0) => Ok(Self {
                oid: Oid(field(0)?),
                tid: Tid(field(8)?),
                previous: field(16)?,
                transaction: field(24)?,
                data_len,
            }),
            Some(version) => Err(HeaderError::Version(version)),
            None => Err(HeaderError::Short),
        }
    }

    /// The header's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; RECORD_HEADER_LEN] {
        let mut out = [0; RECORD_HEADER_LEN];
        let (ids, rest) = out.split_at_mut(32);
        let fields = [self.oid.0, self.tid.0, self.previous, self.transaction];
        for (slot, value) in ids.chunks_exact_mut(8).zip(fields) {
            slot.copy_from_slice(&value.to_be_bytes());
        }
        let (_version, len) = rest.split_at_mut(2);
        len.copy_from_slice(&self.data_len.to_be_bytes());
        out
    }

    /// The length of the record: header, and data or the position in its place.
    #[must_use]
    pub const fn record_len(&self) -> u64 {
        let data = if self.data_len == 0 {
            TRAILER_LEN
        } else {
            self.data_len
        };
        (RECORD_HEADER_LEN as u64).saturating_add(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_a_round_trip() {
        let transaction = TransactionHeader {
            tid: Tid(0x040d_2781_05e3_3d77),
            length: 500,
            status: Status::Voted,
            user_len: 1,
            description_len: 2,
            extension_len: 3,
        };
        assert_eq!(
            TransactionHeader::parse(&transaction.to_bytes()),
            Ok(transaction)
        );
        let record = RecordHeader {
            oid: Oid(7),
            tid: Tid(8),
            previous: 9,
            transaction: 10,
            data_len: 11,
        };
        assert_eq!(RecordHeader::parse(&record.to_bytes()), Ok(record));
    }

    #[test]
    fn a_cut_or_senseless_header_is_refused() {
        assert_eq!(TransactionHeader::parse(&[0; 22]), Err(HeaderError::Short));
        assert_eq!(
            TransactionHeader::parse(&[0; 23]),
            Err(HeaderError::Status(0))
        );
        assert_eq!(RecordHeader::parse(&[0; 41]), Err(HeaderError::Short));
        assert_eq!(
            RecordHeader::parse(&[1; 42]),
            Err(HeaderError::Version(0x0101))
        );
        let mut beyond = [0; 42];
        beyond[34] = 0x7f;
        let len = 0x7f << 56;
        assert_eq!(
            RecordHeader::parse(&beyond),
            Err(HeaderError::DataLength(len))
        );
        beyond[8] = 0x7f;
        beyond[16] = b' ';
        assert_eq!(
            TransactionHeader::parse(&beyond),
            Err(HeaderError::Length(len))
        );
    }
}
