//! Writing a transaction part by part, of which records were put aside.

use std::ops::Range;

use perdure_format::checksums::header_sum;
use perdure_format::file::TransactionHeader;
use perdure_format::seal::{self, Summer};

use crate::commit::{Locked, Written};
use crate::draft::DraftRecord;
use crate::error::Result;

impl Locked {
    /// Write the transaction; the place of each record.
    ///
    /// # Errors
    /// Where what was put aside cannot be read, or the file cannot be written, which is then as
    /// before.
    pub(crate) fn write_parts(
        &self,
        header: &TransactionHeader,
        start: u64,
        is_sealed: bool,
    ) -> Result<Vec<Written>> {
        self.store().use_tid(header.tid);
        self.try_to_write_parts(header, start, is_sealed)
            .inspect_err(|_| self.store().cut_tail(start))
    }

    fn try_to_write_parts(
        &self,
        header: &TransactionHeader,
        start: u64,
        is_sealed: bool,
    ) -> Result<Vec<Written>> {
        let store = self.store();
        // The header comes first, and says that the transaction is not finished: whoever finds a
        // part of it takes it for what a single write leaves that did not get through.
        let mut front = self.front(header);
        store.write_part(&front, start)?;
        let mut at = start + front.len() as u64;
        let mut summer = Summer::new(front.len());
        summer.add(&front);
        let mut written = Vec::with_capacity(self.len());
        let mut sums = Vec::with_capacity(self.len());
        let mut part = Vec::new();
        while let Some(numbers) = self.next_part(written.len()) {
            let records = self.draft.records.get(numbers.clone()).unwrap_or_default();
            self.read_part(records, &mut part)?;
            written.append(&mut self.fill_in(header, start, numbers, &mut part));
            sums.extend(sums_of(records, &part));
            summer.add(&part);
            store.write_part(&part, at)?;
            at += part.len() as u64;
        }
        let trailer = header.length.to_be_bytes();
        summer.add(&trailer);
        store.write_part(&trailer, at)?;
        if self.has_seal(start) {
            let place = seal::put_sum(&mut front, summer.sum());
            let at = start + place.start as u64;
            store.write_part(front.get(place).unwrap_or_default(), at)?;
        }
        let place = start..at + trailer.len() as u64;
        let sums = (header_sum(&front), sums);
        store
            .checksums
            .vote_sums(sums, place, header.tid, is_sealed)?;
        Ok(written)
    }

    /// The numbers of the records that are written together, from this one on.
    fn next_part(&self, first: usize) -> Option<Range<usize>> {
        let records = self.draft.records.get(first..)?;
        let start = records.first()?.start();
        let most = self.draft.part_bytes() as u64;
        let within = |record: &DraftRecord| record.end() - start <= most;
        // One alone may be longer.
        let count = records.iter().take_while(|record| within(record)).count();
        Some(first..first + count.max(1))
    }

    fn read_part(&self, records: &[DraftRecord], part: &mut Vec<u8>) -> Result<()> {
        let place = records.first().zip(records.last());
        let place = place.map_or(0..0, |(first, last)| first.start()..last.end());
        let len = usize::try_from(place.end - place.start).unwrap_or(usize::MAX);
        part.resize(len, 0);
        self.draft.read(part, place.start)
    }
}

/// The checksum of each record.
fn sums_of(records: &[DraftRecord], part: &[u8]) -> impl Iterator<Item = u32> {
    let mut rest = part;
    records.iter().map(move |record| {
        let (own, others) = rest.split_at(record.len().min(rest.len()));
        rest = others;
        crc32c::crc32c(own)
    })
}
