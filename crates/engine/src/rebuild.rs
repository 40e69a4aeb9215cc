//! An index made by scanning the data file.

use perdure_format::Oid;
use perdure_format::file::{RecordHeader, TransactionHeader};
use perdure_format::index::Entry;

use crate::index::Found;
use crate::scan::Visitor;

/// The entries that a scan finds.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    found: Vec<Entry>,
    whole: usize,
}

impl Visitor for Entries {
    fn record(&mut self, position: u64, header: &RecordHeader) {
        self.found.push(Entry {
            oid: header.oid,
            position,
        });
    }

    fn transaction(&mut self, _position: u64, _header: &TransactionHeader) {
        self.whole = self.found.len();
    }

    fn discard(&mut self) {
        self.found.truncate(self.whole);
    }
}

impl Entries {
    /// One entry an object, its newest, in the order of the oids.
    pub(crate) fn current(&mut self) -> &[Entry] {
        // Stable: of an object's entries the last one found stays last.
        self.found.sort_by_key(|entry| entry.oid);
        let mut newest: Vec<Entry> = Vec::with_capacity(self.found.len());
        for entry in &self.found {
            match newest.last_mut() {
                Some(last) if last.oid == entry.oid => *last = *entry,
                _ => newest.push(*entry),
            }
        }
        self.found = newest;
        &self.found
    }

    /// The greatest oid found; call after [`Entries::current`].
    pub(crate) fn max_oid(&self) -> Oid {
        self.found.last().map_or(Oid::ZERO, |entry| entry.oid)
    }

    /// The entries as the base of an index.
    pub(crate) fn into_found(mut self) -> Found {
        self.current();
        Found::sorted(self.found)
    }
}
