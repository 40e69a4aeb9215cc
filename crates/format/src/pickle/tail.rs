//! What follows the pickles of a blob's record: how long its file is.
//!
//! ```text
//! length of the file 8 · a number of its own 8 · "PBL1"
//! ```
//!
//! Who reads the two pickles never gets there. `src/perdure/_blobtail.py` writes it.

/// Ends the tail. The last byte of any other record is a stop opcode.
const MARK: &[u8] = b"PBL1";
const TAIL_LEN: usize = 8 + 8 + MARK.len();

/// The pickles of a record's data.
#[must_use]
pub fn pickles(data: &[u8]) -> &[u8] {
    if !data.ends_with(MARK) {
        return data;
    }
    match data.len().checked_sub(TAIL_LEN) {
        Some(end) => match data.get(..end) {
            Some(pickles) if pickles.ends_with(b".") => pickles,
            _ => data,
        },
        None => data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_tail_behind_a_pickle_is_left_out() {
        let blob = b"cZODB.blob\nBlob\n.N.".as_slice();
        let tail = [&[0; 16], MARK].concat();
        assert_eq!(pickles(&[blob, &tail].concat()), blob);
        assert_eq!(pickles(blob), blob);
        for wrong in [
            tail.clone(),
            [b"N", tail.as_slice()].concat(),
            [blob, &tail, b"."].concat(),
            [blob, MARK].concat(),
            MARK.to_vec(),
            Vec::new(),
        ] {
            assert_eq!(pickles(&wrong), wrong.as_slice());
        }
    }
}
