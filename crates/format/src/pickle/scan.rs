//! A stack machine that follows a pickle without building anything.

use super::opcode::{Argument, argument, little_endian, number_of};
use super::tail::pickles;
use super::value::{Items, Value};
use super::{ClassName, Reference};
use crate::ids::Oid;

/// Why data are not a pickle that can be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// The data end within a pickle.
    #[error("the pickle is cut off at byte {0}")]
    CutOff(usize),
    /// A byte that is no opcode.
    #[error("byte {at} of the pickle is {byte:#04x}, which is no opcode")]
    Opcode {
        /// Where it stands.
        at: usize,
        /// The byte.
        byte: u8,
    },
    /// An opcode that needs more values than there are, or a memo entry that there is not.
    #[error("the opcode at byte {0} of the pickle needs a value that is not there")]
    Missing(usize),
    /// A persistent id of no known form.
    #[error("the reference at byte {0} of the pickle has no known form")]
    Reference(usize),
    /// A memo number that no pickle needs.
    #[error("the memo number at byte {0} of the pickle is greater than the pickle is long")]
    Memo(usize),
}

/// Follows the pickles of a record one after the other.
#[derive(Debug)]
pub struct Scanner<'a> {
    data: &'a [u8],
    at: usize,
    /// Where the current opcode stands.
    opcode_at: usize,
    stack: Vec<Value<'a>>,
    marks: Vec<usize>,
    memo: Vec<Value<'a>>,
    groups: Vec<Items<'a>>,
    first_class: Option<ClassName<'a>>,
}

type Step = Result<(), ScanError>;

impl<'a> Scanner<'a> {
    /// A scanner at the beginning of `data`, a record's: what follows the pickles of a blob's
    /// isn't looked at.
    #[must_use]
    pub fn new(data: &'a [u8]) -> Self {
        Self {
            data: pickles(data),
            at: 0,
            opcode_at: 0,
            // As much as a small record needs: growing by and by costs more than the rest.
            stack: Vec::with_capacity(16),
            marks: Vec::with_capacity(4),
            memo: Vec::with_capacity(16),
            groups: Vec::with_capacity(8),
            first_class: None,
        }
    }

    /// Were all the data read?
    #[must_use]
    pub fn is_at_end(&self) -> bool {
        self.at >= self.data.len()
    }

    /// How many bytes were read.
    #[must_use]
    pub fn position(&self) -> usize {
        self.at
    }

    /// The first class that the pickles so far name.
    #[must_use]
    pub fn class_name(&self) -> Option<ClassName<'a>> {
        self.first_class
    }

    /// Follow one pickle to its end, calling `found` with each reference.
    ///
    /// What the pickles before have put into the memo is still there, as it is when a record is
    /// read: a state may refer to what its class description contains.
    ///
    /// # Errors
    /// Where it is not whole, or has a persistent id of no known form.
    pub fn pickle(&mut self, found: &mut impl FnMut(Reference<'a>)) -> Step {
        self.placed(&mut |reference, _| found(reference))
    }

    /// As [`Scanner::pickle`]; `found` is told where in the data each reference's oid stands, too.
    ///
    /// # Errors
    /// As [`Scanner::pickle`].
    pub fn placed(&mut self, found: &mut impl FnMut(Reference<'a>, usize)) -> Step {
        self.stack.clear();
        self.marks.clear();
        loop {
            self.opcode_at = self.at;
            let opcode = *self.data.get(self.at).ok_or(ScanError::CutOff(self.at))?;
            self.at += 1;
            if opcode == b'.' {
                return Ok(());
            }
            let kind = argument(opcode).ok_or(ScanError::Opcode {
                at: self.opcode_at,
                byte: opcode,
            })?;
            self.step(opcode, kind, found)?;
        }
    }

    fn step(
        &mut self,
        opcode: u8,
        kind: Argument,
        found: &mut impl FnMut(Reference<'a>, usize),
    ) -> Step {
        match kind {
            Argument::None => self.plain(opcode, found),
            Argument::Fixed(len) => {
                let bytes = self.take(len)?;
                self.fixed(opcode, bytes)
            }
            Argument::Counted(width) => {
                let len = little_endian(self.take(width)?);
                let bytes = self.take(len)?;
                self.stack.push(match opcode {
                    b'U' | b'T' | b'C' | b'B' | 0x8e => Value::Bytes(bytes),
                    b'X' | 0x8c | 0x8d => Value::Text(bytes),
                    _ => Value::Other,
                });
                Ok(())
            }
            Argument::Line => {
                let line = self.line()?;
                self.lined(opcode, line)
            }
            Argument::TwoLines => {
                let (module, name) = (self.line()?, self.line()?);
                if opcode == b'i' {
                    self.since_mark()?;
                }
                self.global(module, name);
                Ok(())
            }
        }
    }

    // Reading arguments.

    fn take(&mut self, len: usize) -> Result<&'a [u8], ScanError> {
        let end = self
            .at
            .checked_add(len)
            .ok_or(ScanError::CutOff(self.opcode_at))?;
        let bytes = self
            .data
            .get(self.at..end)
            .ok_or(ScanError::CutOff(self.opcode_at))?;
        self.at = end;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<&'a [u8], ScanError> {
        let rest = self.data.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|byte| *byte == b'\n');
        let line = self.take(len.ok_or(ScanError::CutOff(self.opcode_at))?)?;
        self.at += 1;
        Ok(line)
    }

    // The stack.

    fn missing(&self) -> ScanError {
        ScanError::Missing(self.opcode_at)
    }

    fn pop(&mut self) -> Result<Value<'a>, ScanError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.missing());
        }
        self.stack.pop().ok_or_else(|| self.missing())
    }

    /// The start of the values since the last mark, which is taken away.
    fn since_mark(&mut self) -> Result<usize, ScanError> {
        let start = self.marks.pop().ok_or_else(|| self.missing())?;
        Ok(start.min(self.stack.len()))
    }

    fn group(&mut self, start: usize) -> usize {
        let items = Items::of(self.stack.get(start..).unwrap_or_default());
        self.stack.truncate(start);
        self.groups.push(items);
        self.groups.len() - 1
    }

    fn last_as_tuple(&mut self, len: usize) -> Step {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self
            .stack
            .len()
            .checked_sub(len)
            .filter(|start| *start >= floor);
        let group = start
            .map(|start| self.group(start))
            .ok_or_else(|| self.missing())?;
        self.stack.push(Value::Tuple(group));
        Ok(())
    }

    /// Add values to the list below them.
    fn extend(&mut self, start: usize) -> Step {
        let list = start
            .checked_sub(1)
            .and_then(|list| self.stack.get(list))
            .copied();
        match list {
            Some(Value::List(group)) => {
                let values = self.stack.get(start..).unwrap_or_default();
                if let Some(items) = self.groups.get_mut(group) {
                    items.extend(values);
                }
            }
            Some(_) => {}
            None => return Err(self.missing()),
        }
        self.stack.truncate(start);
        Ok(())
    }

    fn global(&mut self, module: &'a [u8], name: &'a [u8]) {
        self.first_class.get_or_insert(ClassName { module, name });
        self.stack.push(Value::Other);
    }

    // The memo.

    fn put(&mut self, number: usize) -> Step {
        let value = *self.stack.last().ok_or_else(|| self.missing())?;
        if number > self.data.len() {
            return Err(ScanError::Memo(self.opcode_at));
        }
        if self.memo.len() == number {
            self.memo.push(value);
            return Ok(());
        }
        if self.memo.len() < number {
            self.memo.resize(number + 1, Value::Other);
        }
        if let Some(slot) = self.memo.get_mut(number) {
            *slot = value;
        }
        Ok(())
    }

    fn get(&mut self, number: usize) -> Step {
        let value = *self.memo.get(number).ok_or_else(|| self.missing())?;
        self.stack.push(value);
        Ok(())
    }

    // Opcodes.

    fn fixed(&mut self, opcode: u8, bytes: &'a [u8]) -> Step {
        match opcode {
            b'h' | b'j' => self.get(little_endian(bytes)),
            b'q' | b'r' => self.put(little_endian(bytes)),
            0x80 | 0x95 => Ok(()),
            _ => {
                self.stack.push(Value::Other);
                Ok(())
            }
        }
    }

    fn lined(&mut self, opcode: u8, line: &'a [u8]) -> Step {
        match opcode {
            b'g' => self.get(self.number(line)?),
            b'p' => self.put(self.number(line)?),
            b'V' => {
                self.stack.push(Value::Text(line));
                Ok(())
            }
            // A persistent id written as text: no database writes one.
            b'P' => Err(ScanError::Reference(self.opcode_at)),
            _ => {
                self.stack.push(Value::Other);
                Ok(())
            }
        }
    }

    fn number(&self, line: &[u8]) -> Result<usize, ScanError> {
        number_of(line).ok_or_else(|| self.missing())
    }

    fn plain(&mut self, opcode: u8, found: &mut impl FnMut(Reference<'a>, usize)) -> Step {
        match opcode {
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop_or_unmark()?),
            b'1' => {
                let start = self.since_mark()?;
                self.stack.truncate(start);
            }
            b'2' => {
                let value = *self.stack.last().ok_or_else(|| self.missing())?;
                self.stack.push(value);
            }
            b'Q' => {
                let id = self.pop()?;
                let reference = self.reference(id);
                let (reference, bytes) = reference.ok_or(ScanError::Reference(self.opcode_at))?;
                let place = bytes.as_ptr().addr() - self.data.as_ptr().addr();
                found(reference, place);
                self.stack.push(Value::Other);
            }
            b'N' | b'}' | 0x88 | 0x89 | 0x8f | 0x97 => self.stack.push(Value::Other),
            b')' | b']' => {
                let group = self.group(self.stack.len());
                let empty = if opcode == b')' {
                    Value::Tuple(group)
                } else {
                    Value::List(group)
                };
                self.stack.push(empty);
            }
            0x94 => self.put(self.memo.len())?,
            0x98 => {}
            _ => self.combining(opcode)?,
        }
        Ok(())
    }

    fn pop_or_unmark(&mut self) -> Result<(), ScanError> {
        let floor = self.marks.last().copied();
        if floor == Some(self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    /// Opcodes that make one value of several.
    fn combining(&mut self, opcode: u8) -> Step {
        match opcode {
            b't' | b'l' => {
                let start = self.since_mark()?;
                let group = self.group(start);
                let made = if opcode == b't' {
                    Value::Tuple(group)
                } else {
                    Value::List(group)
                };
                self.stack.push(made);
            }
            0x85..=0x87 => self.last_as_tuple(usize::from(opcode - 0x84))?,
            b'a' => self.extend(self.stack.len().saturating_sub(1))?,
            b'e' | b'u' | 0x90 => {
                let start = self.since_mark()?;
                self.extend(start)?;
            }
            b'd' | b'o' | 0x91 => {
                let start = self.since_mark()?;
                self.stack.truncate(start);
                self.stack.push(Value::Other);
            }
            b's' => self.drop_some(2)?,
            b'b' => self.drop_some(1)?,
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                match (module, name) {
                    (Value::Text(module), Value::Text(name)) => self.global(module, name),
                    _ => return Err(self.missing()),
                }
            }
            b'R' | 0x81 | 0x92 => {
                self.drop_some(if opcode == 0x92 { 3 } else { 2 })?;
                self.stack.push(Value::Other);
            }
            _ => self.stack.push(Value::Other),
        }
        Ok(())
    }

    fn drop_some(&mut self, count: usize) -> Step {
        for _ in 0..count {
            self.pop()?;
        }
        Ok(())
    }

    // Persistent ids.

    fn items(&self, group: usize) -> Option<&[Value<'a>]> {
        self.groups.get(group)?.all()
    }

    fn tuple(&self, value: Value<'a>) -> Option<&[Value<'a>]> {
        match value {
            Value::Tuple(group) => self.items(group),
            _ => None,
        }
    }

    /// What a persistent id stands for, and the bytes of its oid.
    fn reference(&self, id: Value<'a>) -> Option<(Reference<'a>, &'a [u8])> {
        let same = |value| oid(value).map(|(oid, bytes)| (Reference::Same(oid), bytes));
        match id {
            Value::Bytes(_) | Value::Text(_) => same(id),
            Value::Tuple(group) => match self.items(group)? {
                [first, _] => same(*first),
                _ => None,
            },
            Value::List(group) => match *self.items(group)? {
                [old] => weak(old, None),
                [kind, arguments] => Self::kind_of_reference(text(kind)?, self.tuple(arguments)?),
                _ => None,
            },
            Value::Other => None,
        }
    }

    fn kind_of_reference(
        kind: &[u8],
        arguments: &[Value<'a>],
    ) -> Option<(Reference<'a>, &'a [u8])> {
        match (kind, arguments) {
            (b"w", [target]) => weak(*target, None),
            (b"w", [target, database]) => weak(*target, Some(text(*database)?)),
            (b"n", [database, target]) | (b"m", [database, target, _]) => {
                let (oid, bytes) = oid(*target)?;
                let database = text(*database)?;
                Some((Reference::Other { oid, database }, bytes))
            }
            _ => None,
        }
    }
}

fn weak<'a>(target: Value<'a>, database: Option<&'a [u8]>) -> Option<(Reference<'a>, &'a [u8])> {
    let (oid, bytes) = oid(target)?;
    Some((Reference::Weak { oid, database }, bytes))
}

fn oid(value: Value<'_>) -> Option<(Oid, &[u8])> {
    match value {
        Value::Bytes(bytes) => {
            let oid = bytes.try_into().ok().map(Oid::from_bytes)?;
            Some((oid, bytes))
        }
        _ => None,
    }
}

/// Names are text, or strings of Python 2.
fn text(value: Value<'_>) -> Option<&[u8]> {
    match value {
        Value::Bytes(bytes) | Value::Text(bytes) => Some(bytes),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{class_name, references};
    use super::*;

    fn all(data: &[u8]) -> Result<Vec<Reference<'_>>, ScanError> {
        let mut found = Vec::new();
        references(data, |reference| found.push(reference)).map(|()| found)
    }

    fn with_oid(before: &[u8], number: u8, after: &[u8]) -> Vec<u8> {
        [before, b"C\x08\0\0\0\0\0\0\0", &[number], after].concat()
    }

    #[test]
    fn every_form_of_reference_is_told_apart() {
        let cases: [(Vec<u8>, Reference<'static>); 7] = [
            (with_oid(b"\x80\x03", 1, b"Q."), Reference::Same(Oid(1))),
            (
                with_oid(b"\x80\x03", 2, b"cm\nC\n\x86Q."),
                Reference::Same(Oid(2)),
            ),
            (
                with_oid(b"\x80\x03]q\x01(X\x01\0\0\0w", 3, b"\x85q\x02eQ."),
                Reference::Weak {
                    oid: Oid(3),
                    database: None,
                },
            ),
            (
                with_oid(b"\x80\x03](X\x01\0\0\0w", 4, b"X\x02\0\0\0db\x86eQ."),
                Reference::Weak {
                    oid: Oid(4),
                    database: Some(b"db"),
                },
            ),
            (
                with_oid(b"\x80\x03](X\x01\0\0\0nX\x02\0\0\0db", 5, b"\x86eQ."),
                Reference::Other {
                    oid: Oid(5),
                    database: b"db",
                },
            ),
            (
                with_oid(b"\x80\x03](X\x01\0\0\0mX\x02\0\0\0db", 6, b"cm\nC\n\x87eQ."),
                Reference::Other {
                    oid: Oid(6),
                    database: b"db",
                },
            ),
            (
                with_oid(b"\x80\x03]", 7, b"aQ."),
                Reference::Weak {
                    oid: Oid(7),
                    database: None,
                },
            ),
        ];
        for (data, expected) in cases {
            assert_eq!(all(&data), Ok(vec![expected]), "{data:?}");
        }
    }

    #[test]
    fn a_memoised_oid_is_found_again() {
        let data = with_oid(b"\x80\x03(", 9, b"q\x01Qh\x01Qt.");
        assert_eq!(all(&data), Ok(vec![Reference::Same(Oid(9)); 2]));
    }

    #[test]
    fn a_state_uses_the_memo_of_its_class_description() {
        let data = with_oid(b"\x80\x03cm\nC\nq\x00", 8, b"q\x01\x85q\x02\x86q\x03.");
        let data = [&data, &b"\x80\x03}q\x04X\x01\0\0\0ah\x01h\x00\x86Qs."[..]].concat();
        assert_eq!(all(&data), Ok(vec![Reference::Same(Oid(8))]));
    }

    #[test]
    fn garbage_is_refused_or_followed_but_never_panics() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        for _ in 0..20_000 {
            let garbage: Vec<u8> = (0..40)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    // Mostly opcodes that do something with the stack or the memo.
                    let opcodes = b"(.012QNhqjrtal]})es\x85\x86\x87\x94\x93Rbduo\x81\x92pgXCUcS";
                    let [low, high, ..] = state.to_le_bytes();
                    let chosen = opcodes.get(usize::from(low) % 64);
                    chosen.copied().unwrap_or(high)
                })
                .collect();
            let _ = all(&garbage);
            let _ = class_name(&garbage);
        }
    }

    #[test]
    fn the_class_is_found_in_old_and_new_protocols() {
        let expected = Some(ClassName {
            module: b"shop",
            name: b"Book",
        });
        for data in [
            &b"\x80\x03cshop\nBook\nq\x01.\x80\x03}."[..],
            b"\x80\x04\x8c\x04shop\x94\x8c\x04Book\x94\x93\x94.\x80\x04}.",
            b"(cshop\nBook\nNt.}.",
        ] {
            assert_eq!(class_name(data), Ok(expected));
        }
    }

    #[test]
    fn what_is_no_pickle_is_refused_with_its_place() {
        assert_eq!(all(b"\x80\x03"), Err(ScanError::CutOff(2)));
        assert_eq!(
            all(b"\x80\x03\0"),
            Err(ScanError::Opcode { at: 2, byte: 0 })
        );
        assert_eq!(all(b"Q."), Err(ScanError::Missing(0)));
        assert_eq!(all(b"NQ."), Err(ScanError::Reference(1)));
        assert_eq!(all(b"X\xff\xff\xff\xffab"), Err(ScanError::CutOff(0)));
        assert_eq!(all(b"Nr\xff\xff\xff\x7f."), Err(ScanError::Memo(1)));
    }
}
