//! Reading pickles natively.
//!
//! All of protocols 1 to 5 that records are made of is here; the rest (text opcodes of protocol 0,
//! extension codes, out-of-band buffers) and everything damaged is left to the standard `pickle`.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFrozenSet, PyList, PySet, PyTuple, PyType};

use super::build;
use super::classes::{Memory, Room};
use super::cursor::{Cursor, RestOfReference, plain_class};
use super::environment::Environment;
use super::failure::{Attempt, Failure};
use super::values;

const NOTHING: Failure = Failure::Damaged("it takes what isn't there");

const TOO_LARGE: Failure = Failure::Damaged("its memo is too large");

/// The state in a record.
pub enum State<'py> {
    /// As it is.
    Whole(Bound<'py, PyAny>),
    /// The items of the dictionary that it is, keys and values in turn, behind a first value that
    /// says nothing; with the memo.
    Items(Room<'py>),
}

/// The state of reading one record.
pub struct Unpickler<'a, 'py> {
    py: Python<'py>,
    environment: &'a Environment<'py>,
    memory: &'a mut Memory,
    cursor: Cursor<'a>,
    stack: Vec<Bound<'py, PyAny>>,
    marks: Vec<usize>,
    memo: Vec<Option<Bound<'py, PyAny>>>,
    memo_count: usize,
    memo_max: usize,
    /// Whether the outermost dictionary is wanted as its items.
    wants_items: bool,
    /// The place in the memo of the outermost dictionary, which is not made: `None` stands for it
    /// at the bottom of the stack, below the mark of its items.
    unmade: Option<usize>,
    /// The record's class, which the skipped class description has put into the memo at 0.
    class_names: Option<&'a [u8]>,
}

impl<'a, 'py> Unpickler<'a, 'py> {
    /// The state in a record; with `wants_items`, as the items of a dictionary where it is one.
    pub fn state(
        environment: &'a Environment<'py>,
        memory: &'a mut Memory,
        record: &'a [u8],
        wants_items: bool,
    ) -> Attempt<State<'py>> {
        if let Some(plain) = plain_class(record) {
            let mut reader = Self::new(environment, memory, plain.state);
            reader.class_names = Some(plain.names);
            reader.memo.push(None);
            reader.memo_count = 1;
            reader.wants_items = wants_items;
            return reader.load_last();
        }
        let mut reader = Self::new(environment, memory, record);
        reader.load()?;
        reader.load_last()
    }

    /// The class description of a record.
    pub fn description(
        environment: &'a Environment<'py>,
        memory: &'a mut Memory,
        record: &'a [u8],
    ) -> Attempt<Bound<'py, PyAny>> {
        match plain_class(record) {
            Some(plain) => environment.global(memory, plain.names),
            None => Self::new(environment, memory, record).load(),
        }
    }

    fn new(environment: &'a Environment<'py>, memory: &'a mut Memory, data: &'a [u8]) -> Self {
        let py = environment.connection.py();
        let (stack, memo) = memory.take_room(py);
        Self {
            py,
            environment,
            memory,
            cursor: Cursor::new(data),
            stack,
            marks: Vec::new(),
            memo,
            memo_count: 0,
            memo_max: data.len() + 1,
            wants_items: false,
            unmade: None,
            class_names: None,
        }
    }

    /// Read the last pickle.
    fn load_last(mut self) -> Attempt<State<'py>> {
        let value = self.load()?;
        let has_items = self.has_items();
        let room = (self.stack, self.memo);
        if has_items {
            return Ok(State::Items(room));
        }
        self.memory.keep_room(room);
        Ok(State::Whole(value))
    }

    /// Whether all that was read are the items of a dictionary that is not made.
    fn has_items(&self) -> bool {
        self.unmade.is_some() && self.marks.is_empty()
    }

    /// Read one pickle.
    fn load(&mut self) -> Attempt<Bound<'py, PyAny>> {
        loop {
            match self.cursor.byte()? {
                b'.' if self.has_items() => return Ok(self.py.None().into_bound(self.py)),
                b'.' => return self.pop(),
                opcode @ (b'(' | b'0' | b'1' | b'2' | b'q' | b'r' | b'h' | b'j' | 0x94) => {
                    self.move_values(opcode)?;
                }
                0x80 => {
                    if self.cursor.byte()? > 5 {
                        return Err(Failure::Damaged("its protocol is unknown"));
                    }
                }
                0x95 => {
                    self.cursor.take(8)?;
                }
                opcode @ (b'X' | 0x8c | 0x8d) => self.push_text(opcode)?,
                opcode @ (b'C' | b'B' | 0x8e | b'U' | b'T' | 0x96) => self.push_bytes(opcode)?,
                opcode @ (b'N' | 0x88 | 0x89 | b'K' | b'M' | b'J' | b'G' | 0x8a | 0x8b) => {
                    self.push_plain(opcode)?;
                }
                opcode @ (b')' | 0x85..=0x87 | b't') => self.push_tuple(opcode)?,
                opcode @ (b']' | b'}' | 0x8f | b'l' | b'd' | 0x91) => {
                    self.push_container(opcode)?;
                }
                opcode @ (b'a' | b'e' | b's' | b'u' | 0x90) => self.fill_container(opcode)?,
                b'c' => {
                    let names = self.cursor.two_lines()?;
                    let found = self.environment.global(self.memory, names)?;
                    self.stack.push(found);
                }
                b'Q' => {
                    let reference = self.pop()?;
                    self.stack
                        .push(self.environment.persistent(self.memory, &reference)?);
                }
                opcode @ (b'R' | 0x81 | b'b' | 0x93) => self.make(opcode)?,
                _ => return Err(Failure::Unsupported),
            }
        }
    }

    /// MARK, POP, `POP_MARK`, DUP, and the memo.
    fn move_values(&mut self, opcode: u8) -> Attempt<()> {
        match opcode {
            b'(' => self.marks.push(self.stack.len()),
            b'0' if self.marks.last() == Some(&self.stack.len()) => {
                self.before_mark_goes();
                self.marks.pop();
            }
            b'0' => {
                self.pop()?;
            }
            b'1' => {
                self.pop_mark()?;
            }
            b'2' => self.stack.push(self.top()?.clone()),
            b'q' => {
                let index = usize::from(self.cursor.byte()?);
                self.put(index)?;
            }
            b'r' => {
                let index = self.cursor.length4()?;
                self.put(index)?;
            }
            b'h' => {
                let index = usize::from(self.cursor.byte()?);
                self.get(index)?;
            }
            b'j' => {
                let index = self.cursor.length4()?;
                self.get(index)?;
            }
            _ => self.put(self.memo_count)?,
        }
        Ok(())
    }

    fn fence(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Attempt<&Bound<'py, PyAny>> {
        self.stack
            .last()
            .filter(|_| self.stack.len() > self.fence())
            .ok_or(NOTHING)
    }

    fn pop(&mut self) -> Attempt<Bound<'py, PyAny>> {
        if self.stack.len() <= self.fence() {
            return Err(NOTHING);
        }
        self.stack.pop().ok_or(NOTHING)
    }

    /// The values down to the last mark.
    fn pop_mark(&mut self) -> Attempt<std::vec::Drain<'_, Bound<'py, PyAny>>> {
        self.before_mark_goes();
        let mark = self.marks.pop().ok_or(NOTHING)?;
        if mark > self.stack.len() {
            return Err(NOTHING);
        }
        Ok(self.stack.drain(mark..))
    }

    fn put(&mut self, index: usize) -> Attempt<()> {
        let value = self.top()?.clone();
        self.keep(index, value)
    }

    fn keep(&mut self, index: usize, value: Bound<'py, PyAny>) -> Attempt<()> {
        if index > self.memo_max {
            return Err(TOO_LARGE);
        }
        if index == self.memo.len() {
            self.memo.push(Some(value));
            self.memo_count += 1;
            return Ok(());
        }
        if index > self.memo.len() {
            self.memo.resize(index + 1, None);
        }
        let slot = self.memo.get_mut(index).ok_or(NOTHING)?;
        self.memo_count += usize::from(slot.is_none());
        *slot = Some(value);
        Ok(())
    }

    fn get(&mut self, index: usize) -> Attempt<()> {
        let known = self.memo.get(index).cloned().flatten();
        let value = match (known, self.class_names) {
            (Some(value), _) => value,
            (None, Some(names)) if index == 0 => {
                let class = self.environment.global(self.memory, names)?;
                if let Some(slot) = self.memo.first_mut() {
                    *slot = Some(class.clone());
                }
                class
            }
            // What was not kept is wanted after all.
            _ if index < self.memo.len() => return Err(Failure::Unsupported),
            _ => return Err(NOTHING),
        };
        self.stack.push(value);
        Ok(())
    }

    fn push_text(&mut self, opcode: u8) -> Attempt<()> {
        let length = match opcode {
            b'X' => self.cursor.length4()?,
            0x8c => usize::from(self.cursor.byte()?),
            _ => self.cursor.length8()?,
        };
        let utf8 = self.cursor.take(length)?;
        if self.at_attribute_name()
            && let Some(name) = self.memory.name(self.py, utf8)
        {
            self.stack.push(name.into_any());
            return Ok(());
        }
        self.stack.push(values::text(self.py, utf8)?);
        Ok(())
    }

    /// Whether a text that comes now is a key of the outermost dictionary: an attribute's name.
    fn at_attribute_name(&self) -> bool {
        let at_key = match self.marks.as_slice() {
            [] => self.stack.len() == 1,
            [1] => self.stack.len() % 2 == 1,
            _ => false,
        };
        at_key
            && (self.unmade.is_some()
                || self
                    .stack
                    .first()
                    .is_some_and(PyAnyMethods::is_exact_instance_of::<PyDict>))
    }

    /// Have the outermost dictionary made if its items end otherwise than with the record.
    fn before_mark_goes(&mut self) {
        let Some(place) = self.unmade.filter(|_| self.marks.len() == 1) else {
            return;
        };
        self.unmade = None;
        let made = PyDict::new(self.py).into_any();
        if let Some(slot) = self.memo.get_mut(place) {
            *slot = Some(made.clone());
        }
        if let Some(slot) = self.stack.first_mut() {
            *slot = made;
        }
    }

    fn push_bytes(&mut self, opcode: u8) -> Attempt<()> {
        let length = match opcode {
            b'C' | b'U' => usize::from(self.cursor.byte()?),
            b'B' | b'T' => self.cursor.length4()?,
            _ => self.cursor.length8()?,
        };
        let bytes = self.cursor.take(length)?;
        if let (b'C', Ok(oid)) = (opcode, <[u8; 8]>::try_from(bytes))
            && let Some(rest) = self.cursor.rest_of_reference()
        {
            return self.push_reference(oid, &rest);
        }
        self.stack.push(match opcode {
            b'U' | b'T' => values::old_string(self.py, bytes),
            0x96 => pyo3::types::PyByteArray::new(self.py, bytes).into_any(),
            _ => PyBytes::new(self.py, bytes).into_any(),
        });
        Ok(())
    }

    fn push_plain(&mut self, opcode: u8) -> Attempt<()> {
        let py = self.py;
        let value = match opcode {
            b'N' => py.None().into_bound(py),
            0x88 | 0x89 => pyo3::types::PyBool::new(py, opcode == 0x88)
                .to_owned()
                .into_any(),
            b'K' => values::small(py, i32::from(self.cursor.byte()?)),
            b'M' => values::small(py, i32::from(u16::from_le_bytes(self.cursor.array()?))),
            b'J' => values::small(py, i32::from_le_bytes(self.cursor.array()?)),
            b'G' => values::float(py, self.cursor.array()?),
            _ => {
                let length = match opcode {
                    0x8a => usize::from(self.cursor.byte()?),
                    _ => self.cursor.length4()?,
                };
                values::long(py, self.cursor.take(length)?)?
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn push_tuple(&mut self, opcode: u8) -> Attempt<()> {
        let py = self.py;
        if opcode == 0x86
            && let Some(place) = self.cursor.end_of_reference()
        {
            return self.push_referenced(place);
        }
        let tuple = match opcode {
            b')' => PyTuple::empty(py),
            b't' => PyTuple::new(py, self.pop_mark()?)?,
            _ => {
                let start = self.stack.len().checked_sub(usize::from(opcode) - 0x84);
                let start = start.filter(|&start| start >= self.fence());
                PyTuple::new(py, self.stack.drain(start.ok_or(NOTHING)?..))?
            }
        };
        self.stack.push(tuple.into_any());
        Ok(())
    }

    /// Push the object that a reference stands for, whose class was met before.
    fn push_reference(&mut self, oid: [u8; 8], rest: &RestOfReference) -> Attempt<()> {
        self.get(rest.class)?;
        let class = self.pop()?;
        let (found, oid) = if let Ok(class) = class.cast::<PyType>() {
            self.environment.referenced(self.memory, oid, class)?
        } else {
            let oid = PyBytes::new(self.py, &oid);
            let reference = PyTuple::new(self.py, [oid.as_any(), &class])?;
            (self.environment.persistent(self.memory, &reference)?, oid)
        };
        self.keep(rest.oid, oid.into_any())?;
        self.reserve(rest.pair)?;
        self.stack.push(found);
        Ok(())
    }

    /// Replace the oid and class on the stack by the object, without making a tuple of them.
    fn push_referenced(&mut self, place: usize) -> Attempt<()> {
        self.reserve(place)?;
        let (class, oid) = (self.pop()?, self.pop()?);
        let exact = (oid.cast_exact::<PyBytes>(), class.cast::<PyType>());
        let found = if let (Ok(oid), Ok(class)) = exact {
            self.environment.with_class(self.memory, oid, class)?
        } else {
            let reference = PyTuple::new(self.py, [oid, class])?;
            self.environment.persistent(self.memory, &reference)?
        };
        self.stack.push(found);
        Ok(())
    }

    /// Use up a place in the memo for something that is not kept.
    fn reserve(&mut self, place: usize) -> Attempt<()> {
        if place > self.memo_max {
            return Err(TOO_LARGE);
        }
        if place >= self.memo.len() {
            self.memo.resize(place + 1, None);
        }
        self.memo_count += 1;
        Ok(())
    }

    fn push_container(&mut self, opcode: u8) -> Attempt<()> {
        let py = self.py;
        if opcode == b'}'
            && self.wants_items
            && self.stack.is_empty()
            && let Some(place) = self.cursor.beginning_of_items()
        {
            self.wants_items = false;
            self.reserve(place)?;
            self.unmade = Some(place);
            self.stack.push(py.None().into_bound(py));
            self.marks.push(1);
            return Ok(());
        }
        let value = match opcode {
            b']' => PyList::empty(py).into_any(),
            b'}' => PyDict::new(py).into_any(),
            0x8f => PySet::empty(py)?.into_any(),
            b'l' => PyList::new(py, self.pop_mark()?)?.into_any(),
            0x91 => PyFrozenSet::new(py, self.pop_mark()?)?.into_any(),
            _ => {
                let dict = PyDict::new(py);
                build::set_items(dict.as_any(), self.pop_mark()?)?;
                dict.into_any()
            }
        };
        self.stack.push(value);
        Ok(())
    }

    /// APPEND, APPENDS, SETITEM, SETITEMS, ADDITEMS.
    fn fill_container(&mut self, opcode: u8) -> Attempt<()> {
        let is_last = opcode == b'u' && self.unmade.is_some() && self.marks == [1];
        if is_last && self.cursor.is_at_stop() && self.stack.len() % 2 == 1 {
            self.marks.clear();
            return Ok(());
        }
        if !matches!(opcode, b'a' | b's') {
            self.before_mark_goes();
        }
        let start = match opcode {
            b'a' => self.stack.len().checked_sub(1),
            b's' => self.stack.len().checked_sub(2),
            _ => self.marks.pop(),
        };
        let start = start.filter(|&start| start > self.fence() && start <= self.stack.len());
        let start = start.ok_or(NOTHING)?;
        let container = self.stack.get(start - 1).ok_or(NOTHING)?.clone();
        let items = self.stack.drain(start..);
        match opcode {
            b'a' | b'e' => build::append(&container, items),
            b's' | b'u' => build::set_items(&container, items),
            _ => build::add(&container, items),
        }
    }

    /// REDUCE, NEWOBJ, BUILD, `STACK_GLOBAL`.
    fn make(&mut self, opcode: u8) -> Attempt<()> {
        let argument = self.pop()?;
        if opcode == b'b' {
            return build::set_state(self.top()?, &argument);
        }
        let callable = self.pop()?;
        let made = match opcode {
            b'R' => callable.call1(argument.cast_exact::<PyTuple>()?)?,
            0x81 => build::new_instance(&callable, &argument)?,
            _ => {
                let names = build::global_names(&callable, &argument)?;
                self.environment.global(self.memory, names.as_bytes())?
            }
        };
        self.stack.push(made);
        Ok(())
    }
}
