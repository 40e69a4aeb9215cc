//! Reading the headers of many records, which often lie close together.

use perdure_format::file::{RECORD_HEADER_LEN, RecordHeader};

use crate::error::{Error, Result};
use crate::generation::Generation;

/// How much is read at once where one record follows another, at first: a small transaction has
/// few to follow.
const WINDOW_LEN_MIN: usize = 1 << 10;

/// The same, where many have followed.
const WINDOW_LEN_MAX: usize = 1 << 14;

/// Reads headers; ahead, when they come in the order of their positions.
pub(crate) struct Headers<'a> {
    generation: &'a Generation,
    window: Vec<u8>,
    /// How long the next window is.
    len: usize,
    /// Where the window begins in the file.
    start: u64,
    /// The header that was asked for last.
    last: u64,
}

impl<'a> Headers<'a> {
    pub(crate) fn new(generation: &'a Generation) -> Self {
        Self {
            generation,
            window: Vec::new(),
            len: WINDOW_LEN_MIN,
            start: 0,
            last: 0,
        }
    }

    /// The header of the record at a position.
    pub(crate) fn at(&mut self, position: u64) -> Result<RecordHeader> {
        let distance = position.checked_sub(std::mem::replace(&mut self.last, position));
        if let Some(header) = self.held(position) {
            return Ok(header);
        }
        let Some(distance) = distance.filter(|distance| *distance < WINDOW_LEN_MAX as u64) else {
            return self.generation.header_at(position);
        };
        let len = self.len;
        self.len = WINDOW_LEN_MAX.min(len * 2);
        if distance >= len as u64 {
            return self.generation.header_at(position);
        }
        self.window.resize(len, 0);
        self.start = position;
        let read = self.generation.file.read_at(&mut self.window, position);
        self.window.truncate(*read.as_ref().unwrap_or(&0));
        read.map_err(|source| Error::io("reading", &self.generation.path, source))?;
        match self.held(position) {
            Some(header) => Ok(header),
            // It tells what is wrong.
            None => self.generation.header_at(position),
        }
    }

    fn held(&self, position: u64) -> Option<RecordHeader> {
        let within = usize::try_from(position.checked_sub(self.start)?).ok()?;
        let end = within.checked_add(RECORD_HEADER_LEN)?;
        RecordHeader::parse(self.window.get(within..end)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use perdure_format::{Oid, Tid};

    use super::*;
    use crate::disk::{Access, Disk, MemoryDisk};
    use crate::index::Index;

    #[test]
    fn headers_are_the_same_in_whatever_order_they_are_asked_for() {
        let disk = MemoryDisk::default();
        let file = disk.open(Path::new("data"), Access::Create).unwrap();
        let positions: Vec<u64> = (0..3000).map(|n| 4 + n * 61).collect();
        for &position in &positions {
            let header = RecordHeader {
                oid: Oid(position),
                tid: Tid(7),
                previous: 0,
                transaction: 4,
                data_len: 1,
            };
            file.write_at(&header.to_bytes(), position).unwrap();
        }
        let generation = Generation::new(Arc::clone(&file), Path::new("data"), Index::default());
        let mut headers = Headers::new(&generation);
        let backwards = positions.iter().rev();
        let jumping = (0..3000).map(|n| &positions[n * 1237 % 3000]);
        for &position in positions.iter().chain(backwards).chain(jumping) {
            assert_eq!(headers.at(position).unwrap().oid, Oid(position));
        }
        assert!(headers.at(4 + 3000 * 61).is_err());
    }
}
