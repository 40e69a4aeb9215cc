//! An index made by scanning the data file.

use std::sync::Arc;

use perdure_format::file::{RecordHeader, TransactionHeader};
use perdure_format::index::{Entry, IndexHeader};
use perdure_format::{Oid, Tid};

use crate::disk::{File, MemoryFile};
use crate::error::{Error, Result};
use crate::index::{Base, Damaged, write_index};
use crate::scan::Visitor;

/// The entries that a scan finds.
#[derive(Debug, Default)]
pub(crate) struct Entries {
    found: Vec<Entry>,
    whole: usize,
    end: u64,
    last_tid: Tid,
}

impl Visitor for Entries {
    fn record(&mut self, position: u64, header: &RecordHeader) {
        self.found.push(Entry {
            oid: header.oid,
            position,
        });
    }

    fn transaction(&mut self, position: u64, header: &TransactionHeader) {
        self.whole = self.found.len();
        self.end = position + header.length + perdure_format::file::TRAILER_LEN;
        self.last_tid = header.tid;
    }

    fn discard(&mut self) {
        self.found.truncate(self.whole);
    }
}

impl Entries {
    /// Add entries that no scan found.
    pub(crate) fn extend(&mut self, entries: impl IntoIterator<Item = (Oid, u64)>) {
        let entries = entries.into_iter();
        self.found
            .extend(entries.map(|(oid, position)| Entry { oid, position }));
    }

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

    /// The entries as a base that is kept in memory.
    pub(crate) fn into_memory_base(mut self) -> Result<Base> {
        self.current();
        let mut header = IndexHeader {
            end: self.end,
            last_tid: self.last_tid,
            max_oid: self.max_oid(),
            entries: 0,
            head_checksum: 0,
            tail_checksum: 0,
        };
        let file = Arc::new(MemoryFile::default());
        let entries = self.found.iter().map(|entry| Ok::<Entry, Damaged>(*entry));
        let base = write_index(file.as_ref(), &mut header, entries)
            .and_then(|()| Base::open(file as Arc<dyn File>));
        match base {
            Ok(Some(base)) => Ok(base),
            Ok(None) => Err(Error::io(
                "indexing",
                "memory".as_ref(),
                std::io::ErrorKind::InvalidData.into(),
            )),
            Err(source) => Err(Error::io("indexing", "memory".as_ref(), source)),
        }
    }
}
