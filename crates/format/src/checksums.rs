//! The checksum file: what the transactions of a data file looked like when they were written.
//!
//! Two marks, each in a sector of its own and written in turns, then one entry a transaction. See
//! `docs/internals/checksums.md`.

use crate::bytes::{array, is_sum_of, u32_at, u64_at};
use crate::file::{RecordHeader, Status, TRANSACTION_HEADER_LEN, TransactionHeader};
use crate::ids::Tid;

/// What a mark begins with: name and version of the format.
pub const MAGIC: [u8; 8] = *b"PDSUMS01";
/// The distance of the two marks, and the most that a device writes at once for certain.
pub const SECTOR_LEN: usize = 512;
/// Where the first entry begins.
pub const FIRST_ENTRY: u64 = 2 * SECTOR_LEN as u64;
/// How many earlier transactions a mark remembers.
pub const ANCHORS_MAX: usize = 8;

const ANCHOR_LEN: usize = 24;
const MARK_LEN: usize = 8 + 5 * 8 + ANCHORS_MAX * ANCHOR_LEN + 4;
const ENTRY_MARKER: [u8; 4] = *b"Txn:";
const ENTRY_HEADER_LEN: usize = 56;
const SUM_LEN: usize = 4;
/// No position, length or count reaches this: sums of a few can't overflow.
const NUMBERS_END: u64 = 1 << 61;

/// A transaction that was in the data file and was not packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Anchor {
    /// Where it begins.
    pub position: u64,
    /// Its id.
    pub tid: Tid,
    /// Where its entry stands in the checksum file.
    pub entry: u64,
}

/// How far the data file is on the device for certain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// The greater one of the two marks is the newer one.
    pub sequence: u64,
    /// Who is writing; 0 for nobody.
    pub session: u64,
    /// The end of the last transaction that is on the device.
    pub data_end: u64,
    /// The id of that transaction.
    pub last_tid: Tid,
    /// Where the entries of later transactions begin.
    pub entries_end: u64,
    /// Some of the last transactions, by which the data file is known again.
    pub anchors: Vec<Anchor>,
}

impl Mark {
    /// Where the mark stands in the file.
    #[must_use]
    pub const fn place(&self) -> u64 {
        (self.sequence % 2) * SECTOR_LEN as u64
    }

    /// The mark's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(SECTOR_LEN);
        out.extend_from_slice(&MAGIC);
        let numbers = [
            self.sequence,
            self.session,
            self.data_end,
            self.last_tid.0,
            self.entries_end,
        ];
        for number in numbers {
            out.extend_from_slice(&number.to_be_bytes());
        }
        let empty = Anchor::default();
        let padded = self.anchors.iter().chain(std::iter::repeat(&empty));
        for anchor in padded.take(ANCHORS_MAX) {
            out.extend_from_slice(&anchor.position.to_be_bytes());
            out.extend_from_slice(&anchor.tid.to_bytes());
            out.extend_from_slice(&anchor.entry.to_be_bytes());
        }
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        debug_assert_eq!(out.len(), MARK_LEN, "the mark's fields changed");
        out.resize(SECTOR_LEN, 0);
        out
    }

    /// Read a mark; none where the bytes are none of this version, are damaged, or tell of places
    /// that no file has.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let covered = bytes.get(..MARK_LEN - SUM_LEN)?;
        let sum = u32_at(bytes, MARK_LEN - SUM_LEN)?;
        if array::<8>(bytes, 0)? != MAGIC || !is_sum_of(covered, sum) {
            return None;
        }
        let anchors = (0..ANCHORS_MAX).filter_map(|number| {
            let at = 48 + number * ANCHOR_LEN;
            let anchor = Anchor {
                position: u64_at(bytes, at)?,
                tid: Tid(u64_at(bytes, at + 8)?),
                entry: u64_at(bytes, at + 16)?,
            };
            (anchor.position != 0).then_some(anchor)
        });
        let mark = Self {
            sequence: u64_at(bytes, 8)?,
            session: u64_at(bytes, 16)?,
            data_end: u64_at(bytes, 24)?,
            last_tid: Tid(u64_at(bytes, 32)?),
            entries_end: u64_at(bytes, 40)?,
            anchors: anchors.collect(),
        };
        mark.is_plausible().then_some(mark)
    }

    fn is_plausible(&self) -> bool {
        let own = [self.sequence, self.data_end, self.entries_end];
        let anchored = |anchor: &Anchor| are_plausible(&[anchor.position, anchor.entry]);
        are_plausible(&own) && self.anchors.iter().all(anchored)
    }

    /// The name and version of a whole mark that is newer than this code; none for anything else.
    ///
    /// Whatever a newer version adds, its checksum stands where this one's does.
    #[must_use]
    pub fn newer(bytes: &[u8]) -> Option<String> {
        let name = array::<8>(bytes, 0)?;
        let sum = u32_at(bytes, MARK_LEN - SUM_LEN)?;
        let is_whole = is_sum_of(bytes.get(..MARK_LEN - SUM_LEN)?, sum);
        let is_newer = name.starts_with(&MAGIC[..6]) && name > MAGIC;
        (is_whole && is_newer).then(|| String::from_utf8_lossy(&name).into_owned())
    }

    /// The newer one of the two marks at the beginning of a checksum file.
    #[must_use]
    pub fn newest(bytes: &[u8]) -> Option<Self> {
        let mark = |number: usize| Self::parse(bytes.get(number * SECTOR_LEN..)?);
        let marks = [mark(0), mark(1)].into_iter().flatten();
        marks.max_by_key(|mark| mark.sequence)
    }
}

fn are_plausible(numbers: &[u64]) -> bool {
    numbers.iter().all(|number| *number < NUMBERS_END)
}

/// The checksums of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who wrote it.
    pub session: u64,
    /// Where the transaction begins in the data file.
    pub position: u64,
    /// Its length with the trailer.
    pub len: u64,
    /// Its id.
    pub tid: Tid,
    /// How far the data file was on the device when the entry was written.
    pub durable: u64,
    /// The sum of the transaction's header with its strings, whatever its status.
    pub header_sum: u32,
    /// The sum of each record: its header with its data.
    pub record_sums: Vec<u32>,
}

impl Entry {
    /// Where the transaction ends.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.position.saturating_add(self.len)
    }

    /// The length of the entry in the checksum file.
    #[must_use]
    pub fn entry_len(&self) -> u64 {
        (ENTRY_HEADER_LEN + (self.record_sums.len() + 1) * SUM_LEN) as u64
    }

    /// The entry's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(usize::try_from(self.entry_len()).unwrap_or(0));
        let count = u32::try_from(self.record_sums.len()).unwrap_or(u32::MAX);
        out.extend_from_slice(&ENTRY_MARKER);
        out.extend_from_slice(&count.to_be_bytes());
        for number in [
            self.session,
            self.position,
            self.len,
            self.tid.0,
            self.durable,
        ] {
            out.extend_from_slice(&number.to_be_bytes());
        }
        out.extend_from_slice(&self.header_sum.to_be_bytes());
        let head_sum = crc32c::crc32c(&out);
        out.extend_from_slice(&head_sum.to_be_bytes());
        for sum in &self.record_sums {
            out.extend_from_slice(&sum.to_be_bytes());
        }
        let sum = crc32c::crc32c(&out);
        out.extend_from_slice(&sum.to_be_bytes());
        out
    }

    /// The length of the entry that begins with these bytes; none where none does.
    #[must_use]
    pub fn len_of(head: &[u8]) -> Option<usize> {
        let covered = head.get(..ENTRY_HEADER_LEN - SUM_LEN)?;
        if array::<4>(head, 0)? != ENTRY_MARKER
            || !is_sum_of(covered, u32_at(head, ENTRY_HEADER_LEN - SUM_LEN)?)
        {
            return None;
        }
        let count = usize::try_from(u32_at(head, 4)?).ok()?;
        count
            .checked_add(1)?
            .checked_mul(SUM_LEN)?
            .checked_add(ENTRY_HEADER_LEN)
    }

    /// Read an entry; none where the bytes are none, are damaged, or tell of places that no file
    /// has.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let len = Self::len_of(bytes)?;
        let covered = bytes.get(..len - SUM_LEN)?;
        if !is_sum_of(covered, u32_at(bytes, len - SUM_LEN)?) {
            return None;
        }
        let sums = covered.get(ENTRY_HEADER_LEN..)?.chunks_exact(SUM_LEN);
        let entry = Self {
            session: u64_at(bytes, 8)?,
            position: u64_at(bytes, 16)?,
            len: u64_at(bytes, 24)?,
            tid: Tid(u64_at(bytes, 32)?),
            durable: u64_at(bytes, 40)?,
            header_sum: u32_at(bytes, 48)?,
            record_sums: sums.filter_map(|sum| u32_at(sum, 0)).collect(),
        };
        are_plausible(&[entry.position, entry.len, entry.durable]).then_some(entry)
    }
}

/// The length of an entry's fixed part, which tells the length of the rest.
pub const ENTRY_HEAD_LEN: usize = ENTRY_HEADER_LEN;

/// The sum of a transaction's header with its strings, as if it were of status "committed".
#[must_use]
pub fn header_sum(header: &[u8]) -> u32 {
    let status = TRANSACTION_HEADER_LEN - 7;
    let (before, rest) = header.split_at(status.min(header.len()));
    let after = rest.get(1..).unwrap_or_default();
    let sum = crc32c::crc32c_append(crc32c::crc32c(before), &[Status::Committed.to_byte()]);
    crc32c::crc32c_append(sum, after)
}

/// The sums of a whole transaction: that of its header, and one a record.
///
/// None where the bytes are no transaction.
#[must_use]
pub fn sums_of(transaction: &[u8]) -> Option<(u32, Vec<u32>)> {
    let header = TransactionHeader::parse(transaction).ok()?;
    let mut at = usize::try_from(header.len()).ok()?;
    let end = usize::try_from(header.length).ok()?;
    let sum = header_sum(transaction.get(..at)?);
    let mut records = Vec::new();
    while at < end {
        let record = transaction.get(at..end)?;
        let len = RecordHeader::parse(record).ok()?.record_len();
        let len = usize::try_from(len).ok()?;
        records.push(crc32c::crc32c(record.get(..len)?));
        at += len;
    }
    Some((sum, records))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_and_entries_survive_a_round_trip() {
        let anchor = Anchor {
            position: 4,
            tid: Tid(9),
            entry: 1024,
        };
        let mark = Mark {
            sequence: 7,
            session: 8,
            data_end: 100,
            last_tid: Tid(9),
            entries_end: 1024,
            anchors: vec![anchor; 3],
        };
        assert_eq!(Mark::parse(&mark.to_bytes()), Some(mark.clone()));
        let older = Mark {
            sequence: 6,
            ..mark.clone()
        };
        let both = [older.to_bytes(), mark.to_bytes()].concat();
        assert_eq!(mark.place(), SECTOR_LEN as u64);
        assert_eq!(Mark::newest(&both), Some(mark));
        let entry = Entry {
            session: 8,
            position: 100,
            len: 50,
            tid: Tid(10),
            durable: 100,
            header_sum: 1,
            record_sums: vec![2, 3],
        };
        let bytes = entry.to_bytes();
        assert_eq!(bytes.len() as u64, entry.entry_len());
        assert_eq!(Entry::len_of(&bytes), Some(bytes.len()));
        assert_eq!(Entry::parse(&bytes), Some(entry));
    }

    #[test]
    fn places_that_no_file_has_are_no_marks_and_no_entries() {
        let mark = Mark {
            sequence: 1,
            data_end: 2,
            entries_end: 3,
            anchors: vec![Anchor {
                position: 4,
                tid: Tid(u64::MAX),
                entry: 5,
            }],
            ..Mark::default()
        };
        assert_eq!(Mark::parse(&mark.to_bytes()), Some(mark.clone()));
        let beyond: [fn(&mut Mark); 5] = [
            |mark| mark.sequence = u64::MAX,
            |mark| mark.data_end = u64::MAX,
            |mark| mark.entries_end = u64::MAX,
            |mark| mark.anchors[0].position = u64::MAX,
            |mark| mark.anchors[0].entry = u64::MAX,
        ];
        for change in beyond {
            let mut mark = mark.clone();
            change(&mut mark);
            assert_eq!(Mark::parse(&mark.to_bytes()), None);
        }
        for (position, len, durable) in [(u64::MAX, 0, 0), (0, u64::MAX, 0), (0, 0, u64::MAX)] {
            let entry = Entry {
                session: u64::MAX,
                position,
                len,
                tid: Tid(u64::MAX),
                durable,
                header_sum: 0,
                record_sums: Vec::new(),
            };
            assert_eq!(Entry::parse(&entry.to_bytes()), None);
        }
    }

    #[test]
    fn no_flipped_bit_goes_unnoticed() {
        let mark = Mark::default().to_bytes();
        let entry = Entry {
            session: 1,
            position: 2,
            len: 3,
            tid: Tid(4),
            durable: 5,
            header_sum: 6,
            record_sums: vec![7],
        };
        let entry = entry.to_bytes();
        for bit in 0..MARK_LEN * 8 {
            let mut damaged = mark.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Mark::parse(&damaged), None);
        }
        for bit in 0..entry.len() * 8 {
            let mut damaged = entry.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Entry::parse(&damaged), None);
        }
    }

    #[test]
    fn the_status_does_not_count_and_everything_else_does() {
        let header = TransactionHeader {
            tid: Tid(5),
            length: 26,
            status: Status::Voted,
            user_len: 3,
            description_len: 0,
            extension_len: 0,
        };
        let mut bytes = [&header.to_bytes()[..], b"ada"].concat();
        let sum = header_sum(&bytes);
        bytes[16] = b'p';
        assert_eq!(header_sum(&bytes), sum);
        for place in (0..bytes.len()).filter(|place| *place != 16) {
            let mut damaged = bytes.clone();
            damaged[place] ^= 1;
            assert_ne!(header_sum(&damaged), sum);
        }
    }
}
