//! Pickles as opcode streams: what a record refers to, found without executing anything.
//!
//! A record's data is two pickles, the class description and the state. Other objects stand in
//! the state as persistent ids, in one of the forms that [`Reference`] tells apart.

mod opcode;
mod scan;
mod tail;
mod value;

use crate::ids::Oid;

pub use scan::{ScanError, Scanner};

/// What a persistent id in a record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reference<'a> {
    /// An object of the same database: `oid` or `(oid, class)`.
    Same(Oid),
    /// A weak reference, within the database or to a named one: `['w', (oid,)]`,
    /// `['w', (oid, database)]`, and the old `[oid]`.
    Weak {
        /// The object.
        oid: Oid,
        /// Its database, as the bytes of its name; none: the same.
        database: Option<&'a [u8]>,
    },
    /// An object of another database: `['n', (database, oid)]`, `['m', (database, oid, class)]`.
    Other {
        /// The object.
        oid: Oid,
        /// Its database, as the bytes of its name.
        database: &'a [u8],
    },
}

/// The module and name of a record's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassName<'a> {
    /// The bytes of the module's name.
    pub module: &'a [u8],
    /// The bytes of the class's name.
    pub name: &'a [u8],
}

/// Call `found` with every reference in a record's data, in order, repeated ones too.
///
/// # Errors
/// Where the data are not whole pickles, or have a persistent id of no known form.
pub fn references<'a>(
    data: &'a [u8],
    mut found: impl FnMut(Reference<'a>),
) -> Result<(), ScanError> {
    let mut scanner = Scanner::new(data);
    while !scanner.is_at_end() {
        scanner.pickle(&mut found)?;
    }
    Ok(())
}

/// As [`references`]; `found` is told where in the data each reference's oid stands, too.
///
/// # Errors
/// As [`references`].
pub fn placed_references<'a>(
    data: &'a [u8],
    mut found: impl FnMut(Reference<'a>, usize),
) -> Result<(), ScanError> {
    let mut scanner = Scanner::new(data);
    while !scanner.is_at_end() {
        scanner.placed(&mut found)?;
    }
    Ok(())
}

/// The class of a record; none where its class description names none.
///
/// # Errors
/// Where the data do not begin with a whole pickle.
pub fn class_name(data: &[u8]) -> Result<Option<ClassName<'_>>, ScanError> {
    let mut scanner = Scanner::new(data);
    scanner.pickle(&mut |_| ())?;
    Ok(scanner.class_name())
}

/// Verify that no pickle of a record numbers a value beyond its own length, as none that a pickler
/// wrote does.
///
/// Python's own unpickler keeps room for all numbers up to the greatest one. What is no opcode, or
/// cut off, ends the search: no unpickler goes on behind it. A bytearray that is cut off is told, as
/// that unpickler makes room for all of it before it reads.
///
/// # Errors
/// [`ScanError::Memo`] where one does, [`ScanError::CutOff`] for a bytearray.
pub fn verify_memo(data: &[u8]) -> Result<(), ScanError> {
    verify(data, false)
}

/// Verify the same of the first pickle: what follows it may be none, as a seal.
///
/// # Errors
/// As [`verify_memo`].
pub fn verify_first_memo(data: &[u8]) -> Result<(), ScanError> {
    verify(data, true)
}

const BYTEARRAY: u8 = 0x96;

fn verify(data: &[u8], only_first: bool) -> Result<(), ScanError> {
    let mut at = 0;
    while let Some((opcode, given, next)) = opcode::read(data, at) {
        if only_first && opcode == b'.' {
            break;
        }
        let number = match opcode {
            b'q' | b'r' => Some(opcode::little_endian(given)),
            b'p' => opcode::number_of(given),
            _ => Some(0),
        };
        if number.is_none_or(|number| number > data.len()) {
            return Err(ScanError::Memo(at));
        }
        at = next;
    }
    if data.get(at) == Some(&BYTEARRAY) && opcode::read(data, at).is_none() {
        return Err(ScanError::CutOff(at));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_number_beyond_the_pickle_is_found() {
        for usual in [
            &b"\x80\x03cm\nC\nq\x01.\x80\x03}q\x02."[..],
            b"(dp0\n.",
            b"X\x03\0\0\0r\xff\xff.",
            b"",
            b"\xff r\xff\xff\xff\xff",
            b"cut off",
        ] {
            assert_eq!(verify_memo(usual), Ok(()), "{usual:?}");
        }
        assert_eq!(
            verify_memo(b"}\x96\x03\0\0\0\0\0\0\0abc."),
            Ok(()),
            "a whole bytearray"
        );
        let cut_off = b"}\x96\0\0\0\0\0\0\0\x10abc.";
        assert_eq!(verify_memo(cut_off), Err(ScanError::CutOff(1)));
        assert_eq!(verify_memo(b"}r\0\0\0\x10."), Err(ScanError::Memo(1)));
        assert_eq!(verify_memo(b"}.}q\xff."), Err(ScanError::Memo(3)));
        assert_eq!(verify_first_memo(b"}.}q\xff."), Ok(()));
        assert_eq!(verify_first_memo(b"}q\xff.}."), Err(ScanError::Memo(1)));
        assert_eq!(
            verify_memo(b"Q}p99999999999999999999999\n."),
            Err(ScanError::Memo(2))
        );
    }

    #[test]
    fn the_place_of_an_oid_is_where_its_bytes_stand() {
        let data = b"\x80\x03(C\x08\0\0\0\0\0\0\0\x07q\x01Q]q\x02(X\x01\0\0\0wh\x01\x85eQt.";
        let mut found = Vec::new();
        let outcome = placed_references(data, |reference, place| found.push((reference, place)));
        assert_eq!(outcome, Ok(()));
        let (oid, place) = (Oid(7), 5);
        let weak = Reference::Weak {
            oid,
            database: None,
        };
        assert_eq!(found, [(Reference::Same(oid), place), (weak, place)]);
        assert_eq!(data.get(place..place + 8), Some(&oid.to_bytes()[..]));
    }
}
