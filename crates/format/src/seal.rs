//! The seal of a transaction: what tells that the whole of it was written, in the transaction itself.
//!
//! It stands behind the pickle in the transaction's extension. A pickle ends at its stop opcode:
//! stock ZODB reads the same extension with a seal or without, and keeps the seal where it copies
//! the transaction. See `docs/internals/checksums.md`.

use std::ops::Range;

use crate::bytes::{array, is_sum_of, u32_at, u64_at};
use crate::file::{STATUS_OFFSET, Status};
use crate::joint::JointMark;

/// What a seal begins with: name and version.
const MARKER: [u8; 4] = *b"PDS1";
/// Magic, session, position, durable, sum of these, sum of the transaction.
pub const SEAL_LEN: usize = 36;
const SUM_LEN: usize = 4;
const HEAD_LEN: usize = SEAL_LEN - SUM_LEN;
/// The pickle of an empty dict, for a seal to stand behind: protocol 1, as every reader knows it.
const EMPTY_DICT: [u8; 2] = *b"}.";

/// What a session says of a transaction that it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seal {
    /// Who wrote it.
    pub session: u64,
    /// Where the transaction begins in the data file.
    pub position: u64,
    /// How far the data file was on the device when the transaction was written.
    pub durable: u64,
    /// The sum of the whole transaction but for these four bytes, as if its status were "committed".
    pub sum: u32,
}

impl Seal {
    /// The seal with room for the sum.
    fn to_bytes(self) -> Vec<u8> {
        let mut out = MARKER.to_vec();
        for number in [self.session, self.position, self.durable] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let head_sum = crc32c::crc32c(&out);
        out.extend_from_slice(&head_sum.to_be_bytes());
        out.extend_from_slice(&self.sum.to_be_bytes());
        debug_assert_eq!(out.len(), SEAL_LEN, "the seal's fields changed");
        out
    }

    /// Read the seal at the beginning of the bytes; none where there is none, or no whole one.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let head = bytes.get(..HEAD_LEN - SUM_LEN)?;
        let is_whole =
            array::<4>(bytes, 0)? == MARKER && is_sum_of(head, u32_at(bytes, head.len())?);
        is_whole.then_some(())?;
        Some(Self {
            session: u64_at(bytes, 4)?,
            position: u64_at(bytes, 12)?,
            durable: u64_at(bytes, 20)?,
            sum: u32_at(bytes, HEAD_LEN)?,
        })
    }

    /// The seal at the end of a transaction's header with its strings.
    #[must_use]
    pub fn of(header: &[u8]) -> Option<Self> {
        Self::parse(header.get(header.len().checked_sub(SEAL_LEN)?..)?)
    }
}

/// What every seal of a session begins with.
#[must_use]
pub fn beginning_of(session: u64) -> Vec<u8> {
    [&MARKER[..], &session.to_be_bytes()].concat()
}

/// The extension that a user gave, without a seal and what stands before it.
#[must_use]
pub fn unsealed(extension: &[u8]) -> &[u8] {
    let Some(before) = before_seal(extension) else {
        return extension;
    };
    let mark = JointMark::at_end_of(before).map_or(0, |(_, len)| len);
    match before.get(..before.len() - mark).unwrap_or(before) {
        given if given == EMPTY_DICT => &[],
        given => given,
    }
}

/// What stands before the seal at the end of an extension; none where there is no seal.
#[must_use]
pub fn before_seal(extension: &[u8]) -> Option<&[u8]> {
    let (before, seal) = extension.split_at(extension.len().checked_sub(SEAL_LEN)?);
    Seal::parse(seal).map(|_| before)
}

/// Add a seal to an extension that has none, and before it the bytes of a [`JointMark`]; false
/// where that would be too long.
///
/// The sum is put in by [`close`] when the transaction is put together.
pub fn add(
    extension: &mut Vec<u8>,
    mark: &[u8],
    session: u64,
    position: u64,
    durable: u64,
) -> bool {
    let dict = if extension.is_empty() {
        EMPTY_DICT.len()
    } else {
        0
    };
    if extension.len() + dict + mark.len() + SEAL_LEN > usize::from(u16::MAX) {
        return false;
    }
    extension.reserve_exact(dict + mark.len() + SEAL_LEN);
    if extension.is_empty() {
        extension.extend_from_slice(&EMPTY_DICT);
    }
    extension.extend_from_slice(mark);
    let seal = Seal {
        session,
        position,
        durable,
        sum: 0,
    };
    extension.extend_from_slice(&seal.to_bytes());
    true
}

/// Put the sum of a whole transaction into the seal that ends its header of `header_len` bytes.
pub fn close(transaction: &mut [u8], header_len: usize) {
    let mut summer = Summer::new(header_len);
    summer.add(transaction);
    if let Some(header) = transaction.get_mut(..header_len) {
        put_sum(header, summer.sum());
    }
}

/// Put the sum of its transaction into the seal that ends a header; where in the header it stands.
pub fn put_sum(header: &mut [u8], sum: u32) -> Range<usize> {
    let place = header.len().saturating_sub(SUM_LEN)..header.len();
    if let Some(slot) = header.get_mut(place.clone()) {
        slot.copy_from_slice(&sum.to_be_bytes());
    }
    place
}

/// Computes a transaction's sum from its bytes, part by part.
#[derive(Clone, Copy, Debug)]
pub struct Summer {
    header_len: usize,
    /// How many bytes of the header were added.
    done: usize,
    sum: u32,
}

impl Summer {
    /// For a transaction whose header takes so many bytes, with its strings.
    #[must_use]
    pub const fn new(header_len: usize) -> Self {
        Self {
            header_len,
            done: 0,
            sum: 0,
        }
    }

    /// Add the next bytes; the first ones have to hold the whole header.
    pub fn add(&mut self, bytes: &[u8]) {
        let mut rest = bytes;
        if self.done == 0 {
            let header = bytes.get(..self.header_len).unwrap_or(bytes);
            rest = bytes.get(header.len()..).unwrap_or_default();
            let status = usize::try_from(STATUS_OFFSET)
                .unwrap_or(0)
                .min(header.len());
            let (before, after) = header.split_at(status);
            let strings = after.get(1..after.len().saturating_sub(SUM_LEN));
            self.sum = crc32c::crc32c_append(self.sum, before);
            let committed = [Status::Committed.to_byte()];
            self.sum = crc32c::crc32c_append(self.sum, &committed);
            self.sum = crc32c::crc32c_append(self.sum, strings.unwrap_or_default());
            self.done = header.len();
        }
        self.sum = crc32c::crc32c_append(self.sum, rest);
    }

    /// The sum of what was added.
    #[must_use]
    pub const fn sum(&self) -> u32 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::TransactionHeader;
    use crate::ids::Tid;

    fn transaction(extension: &[u8]) -> (Vec<u8>, usize) {
        let mut extension = extension.to_vec();
        assert!(add(&mut extension, &[], 7, 100, 90));
        let header = TransactionHeader {
            tid: Tid(5),
            length: 0,
            status: Status::Voted,
            user_len: 3,
            description_len: 0,
            extension_len: u16::try_from(extension.len()).unwrap(),
        };
        let front = [&header.to_bytes()[..], b"ada", &extension].concat();
        let len = front.len();
        let mut bytes = [&front[..], b"records"].concat();
        close(&mut bytes, len);
        (bytes, len)
    }

    fn is_whole(bytes: &[u8], len: usize) -> bool {
        let mut summer = Summer::new(len);
        let (front, rest) = bytes.split_at(len);
        summer.add(front);
        summer.add(rest);
        Seal::of(front).is_some_and(|seal| seal.sum == summer.sum())
    }

    #[test]
    fn a_changed_byte_anywhere_but_the_status_breaks_the_seal() {
        let (bytes, len) = transaction(b"");
        assert!(is_whole(&bytes, len));
        for place in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[place] ^= 0x10;
            assert_eq!(is_whole(&damaged, len), place == 16, "byte {place}");
        }
    }

    #[test]
    fn a_seal_says_who_wrote_it_where_and_what_was_durable() {
        let (bytes, len) = transaction(b"x");
        let seal = Seal::of(&bytes[..len]).unwrap();
        assert_eq!((seal.session, seal.position, seal.durable), (7, 100, 90));
        let begins = bytes.windows(12).any(|part| part == beginning_of(7));
        assert!(begins);
    }

    #[test]
    fn an_extension_comes_back_without_its_seal() {
        for given in [&b""[..], b"\x80\x03}q\0.", b"no pickle"] {
            let mark = JointMark {
                members: vec!["a.fs".to_owned()],
                own: 0,
                before: Some(Tid(7)),
            };
            for mark in [Vec::new(), mark.to_bytes().unwrap()] {
                let mut extension = given.to_vec();
                assert!(add(&mut extension, &mark, 1, 2, 3));
                assert_eq!(unsealed(&extension), given);
            }
            assert_eq!(unsealed(given), given);
        }
        let mut longest = vec![1; 65_535 - SEAL_LEN + 1];
        assert!(!add(&mut longest, &[], 1, 2, 3));
    }
}
