//! Writing pickles natively, byte for byte as stock ZODB's pickler does.
//!
//! What records are mostly made of is here. A value outside of it makes the whole record go to the
//! standard `pickle`.

use std::ffi::c_int;

use perdure_format::Oid;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{
    PyBool, PyBytes, PyDict, PyFloat, PyFrozenSet, PyInt, PyList, PySet, PyString, PyTuple, PyType,
};

use super::failure::{Attempt, Failure};
use super::kinds::{Globals, Kinds};
use super::memo::Memo;
use super::persistence::Layout;

/// How many items of a list or dictionary are written between two marks.
const BATCH: usize = 1000;

/// How deep containers may be nested before the standard `pickle` takes over.
const DEPTH_MAX: u32 = 200;

/// The largest buffer that is kept for the next record.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What a writer keeps from record to record.
#[derive(Default)]
pub struct Workshop {
    /// The record being written.
    pub out: Vec<u8>,
    /// What the record being written contains so far.
    pub memo: Memo,
    /// The classes met so far.
    pub kinds: Kinds,
    /// How globals are written.
    pub globals: Globals,
    /// New objects that were met, in order.
    pub new: Vec<Py<PyAny>>,
    /// What the transaction refers to and was there before, as far as it is loaded.
    pub loaded: Vec<Oid>,
    /// The same, as far as it isn't.
    pub unknown: Vec<Oid>,
    /// The mark of a class of connections that give new objects their place in the usual way.
    pub adopts_plainly: u32,
}

impl Workshop {
    /// Get ready for the next record, without holding on to what a huge one needed.
    pub fn tidy_up(&mut self) {
        self.memo.clear();
        if self.out.capacity() > KEPT_BYTES_MAX {
            self.out = Vec::new();
        }
    }

    /// Show the collector what is kept alive between records.
    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.kinds.traverse(visit)?;
        self.globals.traverse(visit)
    }
}

/// The state of writing one record.
pub struct Pickler<'a, 'py> {
    pub(super) py: Python<'py>,
    pub(super) layout: &'py Layout,
    pub(super) connection: &'a Bound<'py, PyAny>,
    pub(super) workshop: &'a mut Workshop,
    pub(super) depth: u32,
}

impl<'py> Pickler<'_, 'py> {
    /// Write the pickle of one value.
    pub fn dump(&mut self, value: &Bound<'py, PyAny>) -> Attempt<()> {
        self.write(b"\x80\x03");
        self.save(value)?;
        self.write(b".");
        Ok(())
    }

    /// Write the pickle of a dictionary of attributes that exists nowhere else.
    pub fn dump_attributes(
        &mut self,
        attributes: Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    ) -> Attempt<()> {
        self.write(b"\x80\x03}");
        let place = self.workshop.memo.put_unnamed();
        self.write_put(place);
        self.save_pairs(attributes.into_iter())?;
        self.write(b".");
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.workshop.out.extend_from_slice(bytes);
    }

    /// Write one value.
    pub(super) fn save(&mut self, value: &Bound<'py, PyAny>) -> Attempt<()> {
        if value.is_none() {
            self.write(b"N");
        } else if let Ok(number) = value.cast_exact::<PyInt>() {
            self.save_int(number)?;
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            self.write(if truth.is_true() { b"\x88" } else { b"\x89" });
        } else if let Ok(number) = value.cast_exact::<PyFloat>() {
            self.write(b"G");
            self.write(&number.value().to_be_bytes());
        } else if let Some(place) = self.workshop.memo.place(value) {
            self.write_get(place);
        } else if let Ok(text) = value.cast_exact::<PyString>() {
            self.save_text(text)?;
        } else if let Ok(bytes) = value.cast_exact::<PyBytes>() {
            self.save_bytes(bytes)?;
        } else {
            self.depth += 1;
            if self.depth > DEPTH_MAX {
                return Err(Failure::Unsupported);
            }
            self.save_compound(value)?;
            self.depth -= 1;
        }
        Ok(())
    }

    fn save_compound(&mut self, value: &Bound<'py, PyAny>) -> Attempt<()> {
        if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.save_tuple(tuple)
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            self.write(b"]");
            self.memoize(value);
            self.save_list_items(list)
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            self.write(b"}");
            self.memoize(value);
            let items: Vec<_> = dict.iter().collect();
            self.save_pairs(items.into_iter())
        } else if let Ok(set) = value.cast_exact::<PySet>() {
            let items = PyList::new(self.py, set.iter().collect::<Vec<_>>())?;
            self.save_call(&self.py.get_type::<PySet>(), &items, value)
        } else if let Ok(set) = value.cast_exact::<PyFrozenSet>() {
            let items = PyList::new(self.py, set.iter().collect::<Vec<_>>())?;
            self.save_call(&self.py.get_type::<PyFrozenSet>(), &items, value)
        } else if self.layout.persistent(value).is_some() {
            self.save_reference(value)
        } else if let Ok(class) = value.cast::<PyType>() {
            self.save_class(class)
        } else {
            self.save_instance(value)
        }
    }

    /// Remember that `value` is written, for when it is met again.
    pub(super) fn memoize(&mut self, value: &Bound<'py, PyAny>) {
        let place = self.workshop.memo.put(value);
        self.write_put(place);
    }

    pub(super) fn write_put(&mut self, place: u32) {
        if let Ok(place) = u8::try_from(place) {
            self.write(&[b'q', place]);
        } else {
            self.write(b"r");
            self.write(&place.to_le_bytes());
        }
    }

    pub(super) fn write_get(&mut self, place: u32) {
        if let Ok(place) = u8::try_from(place) {
            self.write(&[b'h', place]);
        } else {
            self.write(b"j");
            self.write(&place.to_le_bytes());
        }
    }

    fn save_int(&mut self, number: &Bound<'py, PyInt>) -> Attempt<()> {
        let mut overflow: c_int = 0;
        // SAFETY: a live `int`; the flag is written before the call returns.
        let value =
            unsafe { ffi::PyLong_AsLongLongAndOverflow(number.as_ptr(), &raw mut overflow) };
        if overflow != 0 {
            return self.save_huge_int(number);
        }
        if let Ok(byte) = u8::try_from(value) {
            self.write(&[b'K', byte]);
        } else if let Ok(short) = u16::try_from(value) {
            self.write(b"M");
            self.write(&short.to_le_bytes());
        } else if let Ok(int) = i32::try_from(value) {
            self.write(b"J");
            self.write(&int.to_le_bytes());
        } else {
            let bytes = value.to_le_bytes();
            let length = (1..8).find(|&length| fits(value, length)).unwrap_or(8);
            self.write(&[0x8a, length]);
            self.write(
                bytes
                    .get(..usize::from(length))
                    .ok_or(Failure::Unsupported)?,
            );
        }
        Ok(())
    }

    fn save_huge_int(&mut self, number: &Bound<'py, PyInt>) -> Attempt<()> {
        let py = self.py;
        let bits: usize = number.call_method0(intern!(py, "bit_length"))?.extract()?;
        let keywords = PyDict::new(py);
        keywords.set_item(intern!(py, "signed"), true)?;
        let order = intern!(py, "little");
        let bytes = number.call_method(
            intern!(py, "to_bytes"),
            (bits / 8 + 1, order),
            Some(&keywords),
        )?;
        let mut bytes = bytes.cast::<PyBytes>().map_err(PyErr::from)?.as_bytes();
        if let [shorter @ .., before, 0xff] = bytes
            && *before >= 0x80
        {
            bytes = bytes.get(..=shorter.len()).ok_or(Failure::Unsupported)?;
        }
        let Ok(length) = u8::try_from(bytes.len()) else {
            return Err(Failure::Unsupported);
        };
        self.write(&[0x8a, length]);
        self.write(bytes);
        Ok(())
    }

    fn save_text(&mut self, text: &Bound<'py, PyString>) -> Attempt<()> {
        // Single surrogates are not UTF-8; `pickle` knows what to do with them.
        let utf8 = text.to_str().map_err(|_| Failure::Unsupported)?;
        let length = u32::try_from(utf8.len()).map_err(|_| Failure::Unsupported)?;
        self.write(b"X");
        self.write(&length.to_le_bytes());
        self.write(utf8.as_bytes());
        self.memoize(text);
        Ok(())
    }

    pub(super) fn save_bytes(&mut self, value: &Bound<'py, PyBytes>) -> Attempt<()> {
        let bytes = value.as_bytes();
        if let Ok(length) = u8::try_from(bytes.len()) {
            self.write(&[b'C', length]);
        } else {
            let length = u32::try_from(bytes.len()).map_err(|_| Failure::Unsupported)?;
            self.write(b"B");
            self.write(&length.to_le_bytes());
        }
        self.write(bytes);
        self.memoize(value);
        Ok(())
    }

    pub(super) fn save_tuple(&mut self, tuple: &Bound<'py, PyTuple>) -> Attempt<()> {
        let length = tuple.len();
        if length == 0 {
            self.write(b")");
            return Ok(());
        }
        if length > 3 {
            self.write(b"(");
        }
        for item in tuple.iter() {
            self.save(&item)?;
        }
        // A tuple that contains itself was written while its items were.
        let place = self.workshop.memo.place(tuple);
        match (place, length) {
            (Some(_), 1) => self.write(b"0"),
            (Some(_), 2) => self.write(b"00"),
            (Some(_), 3) => self.write(b"000"),
            (Some(_), _) => self.write(b"1"),
            (None, 1) => self.write(b"\x85"),
            (None, 2) => self.write(b"\x86"),
            (None, 3) => self.write(b"\x87"),
            (None, _) => self.write(b"t"),
        }
        match place {
            Some(place) => self.write_get(place),
            None => self.memoize(tuple),
        }
        Ok(())
    }

    fn save_list_items(&mut self, list: &Bound<'py, PyList>) -> Attempt<()> {
        if list.len() == 1 {
            self.save(&list.get_item(0)?)?;
            self.write(b"a");
            return Ok(());
        }
        let mut next = 0;
        while next < list.len() {
            self.write(b"(");
            let end = next + BATCH;
            while next < list.len() && next < end {
                self.save(&list.get_item(next)?)?;
                next += 1;
            }
            self.write(b"e");
        }
        Ok(())
    }

    /// Write keys and values of a dictionary.
    fn save_pairs(
        &mut self,
        pairs: impl ExactSizeIterator<Item = (Bound<'py, PyAny>, Bound<'py, PyAny>)>,
    ) -> Attempt<()> {
        let count = pairs.len();
        if count == 0 {
            return Ok(());
        }
        if count > 1 {
            self.write(b"(");
        }
        for (index, (key, value)) in pairs.enumerate() {
            // A full batch is followed by another one, even if that is empty.
            if index > 0 && index % BATCH == 0 {
                self.write(b"u(");
            }
            self.save(&key)?;
            self.save(&value)?;
        }
        self.write(match count {
            1 => b"s",
            _ if count.is_multiple_of(BATCH) => b"u(u",
            _ => b"u",
        });
        Ok(())
    }

    /// Write `class([…])` as the value `made`.
    fn save_call(
        &mut self,
        class: &Bound<'py, PyType>,
        items: &Bound<'py, PyList>,
        made: &Bound<'py, PyAny>,
    ) -> Attempt<()> {
        let arguments = PyTuple::new(self.py, [items])?;
        self.save(class)?;
        self.save(&arguments)?;
        self.write(b"R");
        self.memoize_made(made);
        Ok(())
    }

    /// Remember an object made by a call; false if writing its parts has written it already.
    pub(super) fn memoize_made(&mut self, made: &Bound<'py, PyAny>) -> bool {
        let Some(place) = self.workshop.memo.place(made) else {
            self.memoize(made);
            return true;
        };
        self.write(b"0");
        self.write_get(place);
        false
    }
}

/// Whether `length` bytes hold a number's two's complement.
fn fits(value: i64, length: u8) -> bool {
    let unused = 64 - 8 * u32::from(length);
    (value << unused) >> unused == value
}
