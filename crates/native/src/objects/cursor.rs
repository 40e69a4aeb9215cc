//! Reading a pickle's bytes.

use super::failure::{Attempt, Failure};

const ENDS: Failure = Failure::Damaged("it ends too early");

/// Where in the memo the parts of a reference stand.
pub struct RestOfReference {
    pub oid: usize,
    pub class: usize,
    /// Both together; nothing ever asks for that.
    pub pair: usize,
}

/// A position in a pickle. Reading past the end is a [`Failure::Damaged`].
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// A cursor at the beginning of `data`.
    pub const fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// Go past what ends a reference, a memo entry and BINPERSID, if that comes next.
    ///
    /// Returns the place in the memo, which nothing ever asks for.
    pub fn end_of_reference(&mut self) -> Option<usize> {
        let mut ahead = Self { rest: self.rest };
        let place = ahead.place(b'q', b'r')?;
        self.rest = ahead.rest.strip_prefix(b"Q")?;
        Some(place)
    }

    /// Go past what comes after the oid in a reference to an object of a class met before.
    pub fn rest_of_reference(&mut self) -> Option<RestOfReference> {
        let mut ahead = Self { rest: self.rest };
        let oid = ahead.place(b'q', b'r')?;
        let class = ahead.place(b'h', b'j')?;
        ahead.rest = ahead.rest.strip_prefix(&[0x86])?;
        let pair = ahead.end_of_reference()?;
        self.rest = ahead.rest;
        Some(RestOfReference { oid, class, pair })
    }

    /// Go past what begins the items of an empty dictionary that was just made: its place in the
    /// memo, which is returned, and MARK.
    pub fn beginning_of_items(&mut self) -> Option<usize> {
        let mut ahead = Self { rest: self.rest };
        let place = ahead.place(b'q', b'r')?;
        self.rest = ahead.rest.strip_prefix(b"(")?;
        Some(place)
    }

    /// Whether nothing but STOP comes.
    pub fn is_at_stop(&self) -> bool {
        self.rest == b"."
    }

    /// The place in the memo behind one of two opcodes, `short` with one byte, `long` with four.
    fn place(&mut self, short: u8, long: u8) -> Option<usize> {
        let (place, rest) = match self.rest {
            [opcode, place, rest @ ..] if *opcode == short => (u32::from(*place), rest),
            [opcode, a, b, c, d, rest @ ..] if *opcode == long => {
                (u32::from_le_bytes([*a, *b, *c, *d]), rest)
            }
            _ => return None,
        };
        self.rest = rest;
        usize::try_from(place).ok()
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Attempt<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(ENDS)?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> Attempt<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(ENDS)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next byte.
    pub fn byte(&mut self) -> Attempt<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// A length of four bytes, little-endian.
    pub fn length4(&mut self) -> Attempt<usize> {
        usize::try_from(u32::from_le_bytes(self.array()?)).map_err(|_| ENDS)
    }

    /// A length of eight bytes, little-endian.
    pub fn length8(&mut self) -> Attempt<usize> {
        usize::try_from(u64::from_le_bytes(self.array()?)).map_err(|_| ENDS)
    }

    /// The bytes up to the next line feed, which is skipped.
    pub fn line(&mut self) -> Attempt<&'a [u8]> {
        let end = self
            .rest
            .iter()
            .position(|&byte| byte == b'\n')
            .ok_or(ENDS)?;
        let line = self.take(end)?;
        self.byte()?;
        Ok(line)
    }

    /// Two lines, with the line feed between them.
    pub fn two_lines(&mut self) -> Attempt<&'a [u8]> {
        let start = self.rest;
        let length = self.line()?.len() + 1 + self.line()?.len();
        start.get(..length).ok_or(ENDS)
    }
}

/// What a record begins with when its class description is a plain class.
pub struct PlainClass<'a> {
    /// Module and name, with a line feed between them.
    pub names: &'a [u8],
    /// The record's second pickle.
    pub state: &'a [u8],
}

/// The class and state of a record whose class description is one plain class (most are).
pub fn plain_class(record: &[u8]) -> Option<PlainClass<'_>> {
    let mut cursor = Cursor::new(record.strip_prefix(b"\x80\x03c")?);
    let names = cursor.two_lines().ok()?;
    let state = cursor.rest.strip_prefix(b"q\x00.")?;
    Some(PlainClass { names, state })
}
