//! What the seals in a data file's transactions say: which are whole, and what was durable.

use std::io;

use perdure_format::checksums::header_sum;
use perdure_format::file::{
    RECORD_HEADER_LEN, RecordHeader, Status, TRAILER_LEN, TransactionHeader,
};
use perdure_format::seal::{self, SEAL_LEN, Seal, Summer};

use crate::disk::File;
use crate::error::Result;
use crate::scan::Window;

/// How much of a file is looked at at a time.
const PART_LEN: usize = 1 << 17;

/// The seal of the transaction at a position, where a session wrote it there.
///
/// A pack moves transactions and changes what they say: those have none that tells anything.
pub(super) fn seal_at(
    window: &mut Window<'_>,
    position: u64,
    header: &TransactionHeader,
    session: u64,
) -> Result<Option<Seal>> {
    if header.status == Status::Packed {
        return Ok(None);
    }
    let len = usize::try_from(header.len()).unwrap_or(usize::MAX);
    let seal = Seal::of(window.at(position, len)?);
    Ok(seal.filter(|seal| seal.session == session && seal.position == position))
}

/// Is the transaction, whose length is right, what was sealed?
pub(super) fn is_whole(
    window: &mut Window<'_>,
    position: u64,
    header: &TransactionHeader,
    seal: &Seal,
) -> Result<bool> {
    let header_len = usize::try_from(header.len()).unwrap_or(usize::MAX);
    let mut summer = Summer::new(header_len);
    let (mut at, end) = (position, position + header.length + TRAILER_LEN);
    while at < end {
        let left = usize::try_from(end - at).unwrap_or(usize::MAX);
        let part = window.at(at, left.min(PART_LEN))?;
        if part.is_empty() {
            return Ok(false);
        }
        summer.add(part);
        at += part.len() as u64;
    }
    Ok(summer.sum() == seal.sum)
}

/// What checksums say of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing: it has none.
    Unknown,
    /// It is what was written.
    Whole,
    /// What is wrong with it.
    Damaged(String),
}

/// What a transaction's own seal says of it, whoever wrote it.
pub(crate) fn by_seal(
    window: &mut Window<'_>,
    position: u64,
    header: &TransactionHeader,
) -> Result<Verdict> {
    if header.status == Status::Packed {
        return Ok(Verdict::Unknown);
    }
    let len = usize::try_from(header.len()).unwrap_or(usize::MAX);
    let seal = Seal::of(window.at(position, len)?).filter(|seal| seal.position == position);
    let Some(seal) = seal else {
        return Ok(Verdict::Unknown);
    };
    Ok(if is_whole(window, position, header, &seal)? {
        Verdict::Whole
    } else {
        Verdict::Damaged(format!(
            "its transaction at {position} has another checksum than was written"
        ))
    })
}

/// The sums of a whole transaction, as its entry has them; none where its records do not add up.
pub(super) fn sums_at(
    window: &mut Window<'_>,
    position: u64,
    header: &TransactionHeader,
) -> Result<Option<(u32, Vec<u32>)>> {
    let len = usize::try_from(header.len()).unwrap_or(usize::MAX);
    let of_header = header_sum(window.at(position, len)?);
    let (mut at, end) = (position + header.len(), position + header.length);
    let mut of_records = Vec::new();
    while at < end {
        let Ok(record) = RecordHeader::parse(window.at(at, RECORD_HEADER_LEN)?) else {
            return Ok(None);
        };
        let len = usize::try_from(record.record_len()).unwrap_or(usize::MAX);
        if record.record_len() > end - at {
            return Ok(None);
        }
        of_records.push(crc32c::crc32c(window.at(at, len)?));
        at += record.record_len();
    }
    Ok(Some((of_header, of_records)))
}

/// How far the file was on the device, as any seal of a session behind `start` says.
///
/// Also seals of transactions that cannot be read any more: where one says that something before
/// it was durable, that may not be taken for a tail that was never written.
pub(super) fn durable_behind(file: &dyn File, start: u64, session: u64) -> io::Result<u64> {
    let beginning = seal::beginning_of(session);
    let mut part = vec![0; PART_LEN];
    let (mut at, mut durable) = (start, 0);
    loop {
        let read = file.read_at(&mut part, at)?;
        let bytes = part.get(..read).unwrap_or_default();
        for place in places_of(bytes, &beginning) {
            let seal = bytes.get(place..).and_then(Seal::parse);
            // One that stands before what it vouches for is none of this file.
            let seal = seal.filter(|seal| seal.durable <= at + place as u64);
            durable = durable.max(seal.map_or(0, |seal| seal.durable));
        }
        if read < part.len() {
            return Ok(durable);
        }
        at += (read - SEAL_LEN) as u64;
    }
}

/// Where a short sequence of bytes stands in others.
fn places_of<'a>(bytes: &'a [u8], sought: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let first = sought.first().copied().unwrap_or_default();
    let candidates = bytes
        .iter()
        .enumerate()
        .filter(move |(_, byte)| **byte == first);
    candidates.map(|(place, _)| place).filter(move |place| {
        bytes
            .get(*place..)
            .is_some_and(|rest| rest.starts_with(sought))
    })
}
