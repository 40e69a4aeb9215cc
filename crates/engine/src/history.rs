//! The revisions of one object, newest first.

use perdure_format::{Oid, Tid};

use crate::cursor::TransactionRecord;
use crate::error::{Error, Result};
use crate::store::Store;

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
            let header = generation.header_at(position)?;
            if header.oid != oid {
                return Err(generation.corrupted(position, format!("expected a record of {oid}")));
            }
            if header.tid <= visible {
                let transaction = transactions.at(header.transaction)?;
                entries.push(HistoryEntry {
                    transaction,
                    data_len: header.data_len,
                });
            }
            next = generation.previous(&header, position)?;
        }
        Ok(entries)
    }
}
