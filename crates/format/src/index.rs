//! The index file: the position of every object's current record.
//!
//! A header, then blocks of one page, each with sorted entries and a checksum of its own, so that
//! a reader fetches and verifies only the blocks that it needs.

use crate::bytes::{array, is_sum_of, u16_at, u32_at, u64_at};
use crate::ids::{Oid, Tid};

/// What an index file begins with: name and version of the format.
pub const MAGIC: [u8; 8] = *b"PDINDEX1";
/// The length of a block, and of the header.
pub const BLOCK_LEN: usize = 4096;
/// How many entries a block holds at the most.
pub const ENTRIES_PER_BLOCK: usize = (BLOCK_LEN - BLOCK_HEADER_LEN) / ENTRY_LEN;

const BLOCK_HEADER_LEN: usize = 8;
const ENTRY_LEN: usize = 16;
const HEADER_LEN: usize = 52;

/// The position of an object's current record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The object.
    pub oid: Oid,
    /// Where its record begins in the data file.
    pub position: u64,
}

/// What the index knows of the data file that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexHeader {
    /// How much of the data file the index covers: the end of a transaction.
    pub end: u64,
    /// The last transaction that it covers.
    pub last_tid: Tid,
    /// The greatest oid ever given out.
    pub max_oid: Oid,
    /// How many entries follow.
    pub entries: u64,
    /// A checksum of the beginning of the data file.
    pub head_checksum: u32,
    /// A checksum of the bytes before `end`.
    pub tail_checksum: u32,
}

impl IndexHeader {
    /// The header as the first block of an index file.
    #[must_use]
    pub fn to_block(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(BLOCK_LEN);
        block.extend_from_slice(&MAGIC);
        let numbers = [self.end, self.last_tid.0, self.max_oid.0, self.entries];
        for number in numbers {
            block.extend_from_slice(&number.to_be_bytes());
        }
        block.extend_from_slice(&self.head_checksum.to_be_bytes());
        block.extend_from_slice(&self.tail_checksum.to_be_bytes());
        let checksum = crc32c::crc32c(&block);
        block.extend_from_slice(&checksum.to_be_bytes());
        debug_assert_eq!(block.len(), HEADER_LEN, "the header's fields changed");
        block.resize(BLOCK_LEN, 0);
        block
    }

    /// Read a header; none where the bytes are no index of this version or are damaged.
    #[must_use]
    pub fn parse(block: &[u8]) -> Option<Self> {
        let covered = block.get(..HEADER_LEN - 4)?;
        let checksum = u32_at(block, HEADER_LEN - 4)?;
        if array::<8>(block, 0)? != MAGIC || !is_sum_of(covered, checksum) {
            return None;
        }
        Some(Self {
            end: u64_at(block, 8)?,
            last_tid: Tid(u64_at(block, 16)?),
            max_oid: Oid(u64_at(block, 24)?),
            entries: u64_at(block, 32)?,
            head_checksum: u32_at(block, 40)?,
            tail_checksum: u32_at(block, 44)?,
        })
    }

    /// How many blocks hold the entries.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.entries.div_ceil(ENTRIES_PER_BLOCK as u64)
    }

    /// The length of the whole file; none for a number of entries that no file can hold.
    #[must_use]
    pub fn file_len(&self) -> Option<u64> {
        self.blocks().checked_add(1)?.checked_mul(BLOCK_LEN as u64)
    }
}

/// Write entries (at most [`ENTRIES_PER_BLOCK`], in the order of their oids) as one block.
#[must_use]
pub fn block_of(entries: &[Entry]) -> Vec<u8> {
    debug_assert!(
        entries.len() <= ENTRIES_PER_BLOCK,
        "more entries than a block holds"
    );
    let mut block = Vec::with_capacity(BLOCK_LEN);
    let count = u16::try_from(entries.len()).unwrap_or(u16::MAX);
    block.extend_from_slice(&[0; 4]);
    block.extend_from_slice(&count.to_be_bytes());
    block.extend_from_slice(&[0; 2]);
    for entry in entries {
        block.extend_from_slice(&entry.oid.to_bytes());
        block.extend_from_slice(&entry.position.to_be_bytes());
    }
    block.resize(BLOCK_LEN, 0);
    let checksum = block.get(4..).map_or(0, crc32c::crc32c);
    if let Some(slot) = block.get_mut(..4) {
        slot.copy_from_slice(&checksum.to_be_bytes());
    }
    block
}

/// A block whose checksum was right.
#[derive(Debug)]
pub struct Block {
    entries: Box<[Entry]>,
}

impl Block {
    /// Verify and read a block; none where it is damaged.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let covered = bytes.get(4..BLOCK_LEN)?;
        let count = usize::from(u16_at(bytes, 4)?);
        if !is_sum_of(covered, u32_at(bytes, 0)?) || count > ENTRIES_PER_BLOCK {
            return None;
        }
        let body = bytes.get(BLOCK_HEADER_LEN..BLOCK_HEADER_LEN + count * ENTRY_LEN)?;
        let entry = |bytes: &[u8]| {
            Some(Entry {
                oid: Oid(u64_at(bytes, 0)?),
                position: u64_at(bytes, 8)?,
            })
        };
        let entries: Option<Box<[Entry]>> = body.chunks_exact(ENTRY_LEN).map(entry).collect();
        entries
            .filter(|entries| !entries.is_empty())
            .map(|entries| Self { entries })
    }

    /// The entries, in the order of their oids; never none.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The least and the greatest oid of the block.
    #[must_use]
    pub fn bounds(&self) -> (Oid, Oid) {
        match (self.entries.first(), self.entries.last()) {
            (Some(first), Some(last)) => (first.oid, last.oid),
            _ => (Oid::MAX, Oid::ZERO),
        }
    }

    /// The position of an object's record.
    #[must_use]
    pub fn get(&self, oid: Oid) -> Option<u64> {
        // Oids are mostly consecutive: the guess is right nearly always.
        let (first, _) = self.bounds();
        let guess = usize::try_from(oid.0.checked_sub(first.0)?).unwrap_or(usize::MAX);
        if let Some(entry) = self.entries.get(guess)
            && entry.oid == oid
        {
            return Some(entry.position);
        }
        let found = self
            .entries
            .binary_search_by_key(&oid, |entry| entry.oid)
            .ok()?;
        self.entries.get(found).map(|entry| entry.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> IndexHeader {
        IndexHeader {
            end: 1000,
            last_tid: Tid(2),
            max_oid: Oid(3),
            entries: 256,
            head_checksum: 5,
            tail_checksum: 6,
        }
    }

    #[test]
    fn a_header_survives_a_round_trip_and_no_flipped_bit() {
        let block = header().to_block();
        assert_eq!(IndexHeader::parse(&block), Some(header()));
        assert_eq!(header().blocks(), 2);
        for at in 0..HEADER_LEN {
            let mut bad = block.clone();
            bad[at] ^= 1;
            assert_eq!(IndexHeader::parse(&bad), None, "byte {at}");
        }
    }

    #[test]
    fn a_block_finds_its_entries_dense_or_sparse() {
        for step in [1, 1000] {
            let entry = |n: u64| Entry {
                oid: Oid(50 + n * step),
                position: n + 4,
            };
            let entries: Vec<Entry> = (0..ENTRIES_PER_BLOCK as u64).map(entry).collect();
            let block = Block::parse(&block_of(&entries)).unwrap();
            for entry in &entries {
                assert_eq!(block.get(entry.oid), Some(entry.position));
            }
            assert_eq!(block.get(Oid(49)), None);
            assert_eq!(block.get(Oid(u64::MAX)), None);
        }
    }

    #[test]
    fn a_damaged_block_is_refused() {
        let mut bytes = block_of(&[Entry {
            oid: Oid(1),
            position: 4,
        }]);
        bytes[20] ^= 4;
        assert!(Block::parse(&bytes).is_none());
        assert!(Block::parse(&[]).is_none());
    }
}
