//! Reading many records in the order of their positions.

use perdure_format::file::{RECORD_HEADER_LEN, RecordHeader};

use crate::error::Result;
use crate::generation::{Generation, Kept};
use crate::scan::Window;

/// When objects lie so close together on average, reading all between them is cheaper than
/// reading each on its own.
const CLOSE_BYTES_MAX: u64 = 1 << 12;

/// Reads records in the order of their positions.
pub(crate) struct Reader<'a> {
    generation: &'a Generation,
    window: Window<'a>,
    buffer: Vec<u8>,
    is_dense: bool,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(generation: &'a Generation) -> Self {
        let window = Window::new(&generation.file, &generation.path);
        Self {
            generation,
            window,
            buffer: Vec::new(),
            is_dense: false,
        }
    }

    /// Choose how to read so many records, the last of which stands `span` bytes behind the first.
    pub(crate) fn prepare(&mut self, records: usize, span: u64) {
        self.is_dense = records > 1 && span / (records as u64) < CLOSE_BYTES_MAX;
    }

    /// The record at a position; none where the object did not exist.
    pub(crate) fn record(&mut self, position: u64) -> Result<Option<Kept<'_>>> {
        if self.is_dense
            && let Ok(header) = RecordHeader::parse(self.window.at(position, RECORD_HEADER_LEN)?)
        {
            let len = usize::try_from(header.data_len).unwrap_or(0);
            let place = position + RECORD_HEADER_LEN as u64;
            // What is unusual, or cut off, is read (or refused) in the usual way.
            if len > 0 && self.window.at(place, len)?.len() == len {
                let data = self.window.at(place, len)?;
                return Ok(Some(Kept {
                    oid: header.oid,
                    tid: header.tid,
                    data,
                }));
            }
        }
        self.generation.record_in(position, &mut self.buffer)
    }
}
