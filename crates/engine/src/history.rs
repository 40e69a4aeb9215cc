//! The revisions of one object, newest first.

use perdure_format::file::{RECORD_HEADER_LEN, RecordHeader};
use perdure_format::{Oid, Tid};

use crate::cursor::{TransactionRecord, Transactions};
use crate::error::{Error, Result};
use crate::generation::Generation;
use crate::store::Store;

/// How much before a record is read with it: most transactions that change one object begin there.
const BEFORE_LEN: usize = 512 - RECORD_HEADER_LEN;

/// A revision of an object.
#[derive(Clone, Debug)]
pub struct HistoryEntry {
    /// The transaction that wrote it.
    pub transaction: TransactionRecord,
    /// The length of its data in bytes; 0 where they stand in an earlier record.
    pub data_len: u64,
}

impl Store {
    /// An object's last `size` visible revisions, newest first.
    ///
    /// # Errors
    /// [`Error::NoObject`] where there is none; else where the file cannot be read.
    pub fn history(&self, oid: Oid, size: usize) -> Result<Vec<HistoryEntry>> {
        let transactions = self.transactions()?;
        let visible: Tid = self.last_transaction();
        let generation = transactions.generation();
        let mut entries = Vec::new();
        let mut next = generation.position(oid)?;
        if next.is_none() {
            return Err(Error::NoObject { oid });
        }
        while let Some(position) = next.filter(|_| entries.len() < size) {
            let around = Around::read(generation, position)?;
            let header = around.header(generation)?;
            if header.oid != oid {
                return Err(generation.corrupted(position, format!("expected a record of {oid}")));
            }
            if header.tid <= visible {
                entries.push(HistoryEntry {
                    transaction: around.transaction(&header, &transactions)?,
                    data_len: header.data_len,
                });
            }
            next = generation.previous(&header, position)?;
        }
        Ok(entries)
    }
}

/// The header of a record, and what stands before it.
struct Around {
    bytes: [u8; BEFORE_LEN + RECORD_HEADER_LEN],
    /// How many of the bytes stand before the record.
    before: usize,
    /// How many there are.
    len: usize,
    position: u64,
}

impl Around {
    fn read(generation: &Generation, position: u64) -> Result<Self> {
        let before = usize::try_from(position).map_or(BEFORE_LEN, |at| at.min(BEFORE_LEN));
        let mut around = Self {
            bytes: [0; BEFORE_LEN + RECORD_HEADER_LEN],
            before,
            len: before + RECORD_HEADER_LEN,
            position,
        };
        let wanted = around.bytes.get_mut(..around.len).unwrap_or_default();
        let read = generation.file.read_at(wanted, position - before as u64);
        around.len = read.map_err(|source| Error::io("reading", &generation.path, source))?;
        Ok(around)
    }

    fn header(&self, generation: &Generation) -> Result<RecordHeader> {
        let bytes = self.bytes.get(self.before..self.len).unwrap_or_default();
        RecordHeader::parse(bytes).map_err(|error| {
            generation.corrupted(self.position, format!("expected a record: {error}"))
        })
    }

    /// The transaction of the record, read by itself where it begins further away.
    fn transaction(
        &self,
        header: &RecordHeader,
        transactions: &Transactions,
    ) -> Result<TransactionRecord> {
        let distance = self.position.checked_sub(header.transaction);
        distance
            .and_then(|distance| usize::try_from(distance).ok())
            .and_then(|distance| self.before.checked_sub(distance))
            .and_then(|start| self.bytes.get(start..self.before))
            .and_then(|bytes| TransactionRecord::parse(header.transaction, bytes))
            .map_or_else(|| transactions.at(header.transaction), Ok)
    }
}
