//! Telling a last transaction that was only partly on the device when the power failed.
//!
//! All its lengths may be right, if what is missing are pages within its data: those read as
//! zeros, where a pickle has opcodes.

use std::path::Path;
use std::sync::Arc;

use perdure_format::file::{RECORD_HEADER_LEN, RecordHeader, TransactionHeader};
use perdure_format::pickle::{ScanError, Scanner};

use crate::disk::{File, read_exact_at};
use crate::error::{Error, Result};

/// Longer transactions are not looked through: opening a database takes no time that grows.
const LOOKED_THROUGH_BYTES_MAX: u64 = 1 << 20;
/// No opcode is zero; so many of them are no accident.
const ZEROS_MIN: usize = 16;

/// The position of zeros in place of a pickle's opcodes in the transaction at `start`.
pub(crate) fn zeroed_at(
    file: &Arc<dyn File>,
    path: &Path,
    start: u64,
    end: u64,
) -> Result<Option<u64>> {
    if end - start > LOOKED_THROUGH_BYTES_MAX {
        return Ok(None);
    }
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
    let error = |source| Error::io("reading", path, source);
    read_exact_at(file.as_ref(), &mut bytes, start).map_err(error)?;
    let Ok(header) = TransactionHeader::parse(&bytes) else {
        return Ok(None);
    };
    let mut at = usize::try_from(header.len()).unwrap_or(usize::MAX);
    let records_end = usize::try_from(header.length).unwrap_or(usize::MAX);
    while at < records_end {
        let rest = bytes.get(at..).unwrap_or_default();
        let Ok(record) = RecordHeader::parse(rest) else {
            break;
        };
        let data_end = usize::try_from(record.record_len()).unwrap_or(usize::MAX);
        if record.data_len > 0
            && let Some(data) = rest.get(RECORD_HEADER_LEN..data_end)
            && let Some(zeros) = zeros_among_opcodes(data)
        {
            return Ok(Some(start + (at + RECORD_HEADER_LEN + zeros) as u64));
        }
        at = at.saturating_add(data_end);
    }
    Ok(None)
}

/// Where zeros stand in place of an opcode. Data that do not begin as pickles do are not judged.
fn zeros_among_opcodes(data: &[u8]) -> Option<usize> {
    (data.first() == Some(&0x80)).then_some(())?;
    let mut scanner = Scanner::new(data);
    while !scanner.is_at_end() {
        match scanner.pickle(&mut |_| ()) {
            Ok(()) => {}
            Err(ScanError::Opcode { at, byte: 0 }) => {
                let zeros = data
                    .get(at..)
                    .unwrap_or_default()
                    .iter()
                    .take_while(|b| **b == 0);
                return (zeros.count() >= ZEROS_MIN).then_some(at);
            }
            Err(_) => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_among_opcodes_are_told_from_zeros_in_strings_and_other_data() {
        let whole = b"\x80\x03cm\nC\n.\x80\x03}q\x01X\x20\0\0\0".to_vec();
        let string = [whole.clone(), vec![0; 32], b"q\x02N.".to_vec()].concat();
        assert_eq!(zeros_among_opcodes(&string), None);
        let torn = [b"\x80\x03cm\nC\n.\x80\x03}q\x01".to_vec(), vec![0; 32]].concat();
        assert_eq!(zeros_among_opcodes(&torn), Some(13));
        assert_eq!(zeros_among_opcodes(&[0; 64]), None);
        assert_eq!(zeros_among_opcodes(b".z\0\0\0"), None);
    }
}
