//! The classes that records name, and the names of attributes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::kinds::Kinds;
use super::persistence::Layout;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyFunction, PyModule, PyString, PyType};

/// A fast hash for short keys that come from the database's own classes.
#[derive(Default, Clone, Copy)]
pub struct ShortHasher(u64);

impl Hasher for ShortHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        for chunk in chunks {
            self.write_u64(u64::from_le_bytes(*chunk));
        }
        let mut last = [0; 8];
        for (to, from) in last.iter_mut().zip(rest) {
            *to = *from;
        }
        self.write_u64(u64::from_le_bytes(last));
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// A map with short keys.
pub type ShortMap<K, V> = HashMap<K, V, BuildHasherDefault<ShortHasher>>;

/// How many attribute names are remembered (a power of two).
const NAMES_MAX: usize = 512;

/// The longest attribute name that is remembered, in bytes.
const NAME_BYTES_MAX: usize = 40;

/// The largest stack and memo that are kept for the next record, in values.
const ROOM_MAX: usize = 4096;

/// Where a class was found, so that a newer class of the same name is noticed.
pub struct Home {
    module_name: Py<PyString>,
    module: Py<PyModule>,
    name: Py<PyString>,
}

struct Known {
    value: Py<PyAny>,
    home: Option<Home>,
}

/// An attribute's name, as it stands in records and as it stands in objects.
struct Name {
    utf8: Box<[u8]>,
    interned: Py<PyString>,
}

/// What a connection remembers from the records that it has read.
#[derive(Default)]
pub struct Memory {
    classes: ShortMap<Box<[u8]>, Known>,
    names: Vec<Option<Name>>,
    /// What is known about classes of the connection's objects.
    pub kinds: Kinds,
    /// A bytes object that nobody else holds, for the next oid that is looked up.
    spare_key: Option<Py<PyBytes>>,
    /// Empty, with room: the next record's stack and memo.
    spare: (Vec<Py<PyAny>>, Vec<Option<Py<PyAny>>>),
}

/// The stack and the memo that reading a record needs.
pub type Room<'py> = (Vec<Bound<'py, PyAny>>, Vec<Option<Bound<'py, PyAny>>>);

impl Memory {
    /// The global that a record names as `names` (module and name with a line feed between them).
    ///
    /// `find` is asked for what is not known yet, or has changed its place since.
    pub fn class<'py>(
        &mut self,
        layout: &Layout,
        py: Python<'py>,
        names: &[u8],
        find: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Some(known) = self.classes.get(names)
            && known
                .home
                .as_ref()
                .is_none_or(|home| home.holds(py, &known.value))
        {
            return Ok(known.value.bind(py).clone());
        }
        let value = find()?;
        let is_broken = match value.cast::<PyType>() {
            Ok(class) => self.kinds.of(layout, class)?.is_broken,
            Err(_) => false,
        };
        if is_broken {
            // Its class may turn up any time.
            self.classes.remove(names);
        } else {
            let home = Home::of(&value)?;
            self.classes.insert(
                names.into(),
                Known {
                    value: value.clone().unbind(),
                    home,
                },
            );
        }
        Ok(value)
    }

    /// The attribute name `text` (UTF-8), interned; None where it is unusual.
    pub fn name<'py>(&mut self, py: Python<'py>, text: &[u8]) -> Option<Bound<'py, PyString>> {
        if text.len() > NAME_BYTES_MAX {
            return None;
        }
        if self.names.is_empty() {
            self.names.resize_with(NAMES_MAX, || None);
        }
        let mut hasher = ShortHasher::default();
        hasher.write(text);
        let place = usize::try_from(hasher.finish()).unwrap_or(0) & (NAMES_MAX - 1);
        let slot = self.names.get_mut(place)?;
        if let Some(known) = slot
            && *known.utf8 == *text
        {
            return Some(known.interned.bind(py).clone());
        }
        let name = PyString::intern(py, std::str::from_utf8(text).ok()?);
        *slot = Some(Name {
            utf8: text.into(),
            interned: name.clone().unbind(),
        });
        Some(name)
    }

    /// An oid as a bytes object, to look it up; `give_back` it if it isn't kept.
    pub fn key<'py>(&mut self, py: Python<'py>, oid: [u8; 8]) -> Bound<'py, PyBytes> {
        let spare = self.spare_key.take().map(|spare| spare.into_bound(py));
        match spare.filter(|spare| refill(spare, oid)) {
            Some(key) => key,
            None => PyBytes::new(py, &oid),
        }
    }

    /// Take back what `key` gave.
    pub fn give_back(&mut self, key: Bound<'_, PyBytes>) {
        self.spare_key = Some(key.unbind());
    }

    /// An empty stack and memo, with the room that earlier records needed.
    pub fn take_room<'py>(&mut self, py: Python<'py>) -> Room<'py> {
        // Collecting from a vector into one of the same layout takes its memory over.
        let (stack, memo) = std::mem::take(&mut self.spare);
        let memo = memo
            .into_iter()
            .map(|each| each.map(|it| it.into_bound(py)));
        (
            stack.into_iter().map(|each| each.into_bound(py)).collect(),
            memo.collect(),
        )
    }

    /// Keep the room that a record needed for the next one, unless it is much.
    pub fn keep_room(&mut self, (mut stack, mut memo): Room<'_>) {
        stack.clear();
        memo.clear();
        if stack.capacity() <= ROOM_MAX && memo.capacity() <= ROOM_MAX {
            let memo = memo.into_iter().map(|each| each.map(Bound::unbind));
            let stack = stack.into_iter().map(Bound::unbind);
            self.spare = (stack.collect(), memo.collect());
        }
    }

    /// Show the collector what is kept alive.
    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        for known in self.classes.values() {
            visit.call(&known.value)?;
        }
        self.kinds.traverse(visit)
    }
}

impl Home {
    /// Where `value` says that it is, if it is there.
    pub fn of(value: &Bound<'_, PyAny>) -> PyResult<Option<Self>> {
        let py = value.py();
        if !value.is_instance_of::<PyType>() && !value.is_exact_instance_of::<PyFunction>() {
            return Ok(None);
        }
        let (Ok(module_name), Ok(name)) = (
            value
                .getattr(pyo3::intern!(py, "__module__"))?
                .cast_into::<PyString>(),
            value
                .getattr(pyo3::intern!(py, "__name__"))?
                .cast_into::<PyString>(),
        ) else {
            return Ok(None);
        };
        let Some(module) = loaded(py, &module_name).and_then(|found| found.cast_into().ok()) else {
            return Ok(None);
        };
        let home = Self {
            module_name: module_name.unbind(),
            module: module.unbind(),
            name: name.unbind(),
        };
        Ok(home.holds(py, value.as_unbound()).then_some(home))
    }

    /// Whether `value` is still what stands there.
    pub fn holds(&self, py: Python<'_>, value: &Py<PyAny>) -> bool {
        let Some(module) = loaded(py, self.module_name.bind(py)) else {
            return false;
        };
        if !module.is(&self.module) {
            return false;
        }
        let found = item(&self.module.bind(py).dict(), self.name.bind(py));
        found.is_some_and(|found| found.is(value))
    }
}

impl Home {
    /// The module and name that records carry for what stands here.
    pub fn stored_names(&self, py: Python<'_>) -> PyResult<(String, String)> {
        static STORED_NAME: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let stored_name = STORED_NAME.import(py, "perdure._names", "stored_name")?;
        stored_name
            .call1((&self.module_name, &self.name))?
            .extract()
    }
}

/// Make `key` the bytes of `oid`; false: somebody else holds it.
fn refill(key: &Bound<'_, PyBytes>, oid: [u8; 8]) -> bool {
    let object = key.as_ptr();
    // SAFETY: a live bytes object of 8 bytes that nobody else holds, so that nobody can have seen
    // what it holds or know its hash.
    unsafe {
        if ffi::Py_REFCNT(object) != 1 || ffi::PyBytes_Size(object) != 8 {
            return false;
        }
        let fields = object.cast::<ffi::PyBytesObject>();
        #[expect(deprecated, reason = "there is no other way to forget the hash")]
        {
            (*fields).ob_shash = -1;
        }
        std::ptr::copy_nonoverlapping(oid.as_ptr(), (&raw mut (*fields).ob_sval).cast(), 8);
    }
    true
}

/// The loaded module of this name.
fn loaded<'py>(py: Python<'py>, name: &Bound<'py, PyString>) -> Option<Bound<'py, PyAny>> {
    // SAFETY: the interpreter's dictionary of modules, borrowed while it is looked at.
    let modules = unsafe { Bound::from_borrowed_ptr_or_opt(py, ffi::PyImport_GetModuleDict()) };
    item(modules?.cast::<PyDict>().ok()?, name)
}

/// The item of a dictionary, if it has it.
pub fn item<'py>(
    dict: &Bound<'py, PyDict>,
    key: &Bound<'py, PyString>,
) -> Option<Bound<'py, PyAny>> {
    dict.get_item(key).ok().flatten()
}
