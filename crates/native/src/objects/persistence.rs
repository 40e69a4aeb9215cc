//! The C structures of the `persistent` package: its objects and its object cache.
//!
//! `persistent` publishes the layout of its objects (`cPersistence.h`), but not that of the
//! cache. Both are tried out against the installed package before they are relied on (see
//! [`Layout::verified`]); where they differ, objects are loaded by the Python implementation.

use std::ffi::{c_int, c_void};
use std::mem::size_of;
use std::ptr;

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyType};

/// `state` of an object without state.
const GHOST: i8 = -1;

/// `state` of an object whose state is what is stored.
const UP_TO_DATE: i8 = 0;

/// `state` of an object that was changed.
const CHANGED: i8 = 1;

/// The greatest size that an object's record is taken to have, in bytes (it is kept in 24 bits).
const SIZE_BYTES_MAX: usize = 1_073_741_696;

/// `cPersistentObject` of `cPersistence.h`, except that its two bit fields are one word.
#[repr(C)]
struct PersistentObject {
    ob_base: ffi::PyObject,
    jar: *mut ffi::PyObject,
    oid: *mut ffi::PyObject,
    cache: *mut CacheObject,
    ring_previous: *mut c_void,
    ring_next: *mut c_void,
    serial: [u8; 8],
    /// The state in the first byte, the estimated size (in units of 64 bytes) in the others.
    state_and_size: [u8; 4],
}

/// The beginning of `ccobject` in `cPickleCache.c`.
#[repr(C)]
struct CacheObject {
    ob_base: ffi::PyObject,
    ring_previous: *mut c_void,
    ring_next: *mut c_void,
    non_ghost_count: c_int,
    total_estimated_size: ffi::Py_ssize_t,
    klass_count: c_int,
    data: *mut ffi::PyObject,
    jar: *mut ffi::PyObject,
}

/// What `persistent` provides, after its layout was found to be the expected one.
pub struct Layout {
    persistent: Py<PyType>,
    cache: Py<PyType>,
}

static LAYOUT: PyOnceLock<Option<Layout>> = PyOnceLock::new();

/// The layout of the installed `persistent`, or None where it is not the expected one.
pub fn layout(py: Python<'_>) -> PyResult<Option<&Layout>> {
    Ok(LAYOUT
        .get_or_try_init(py, || Layout::verified(py))?
        .as_ref())
}

impl Layout {
    /// Try the expected layout out on real objects.
    fn verified(py: Python<'_>) -> PyResult<Option<Self>> {
        // What is done below to objects and caches is safe only while the GIL is held.
        let version: String = py.import("sys")?.getattr("version")?.extract()?;
        if cfg!(target_endian = "big") || version.contains("free-threading") {
            return Ok(None);
        }
        let module = py.import("persistent")?;
        let persistent = module.getattr("Persistent")?.cast_into::<PyType>()?;
        let cache = module.getattr("PickleCache")?.cast_into::<PyType>()?;
        let fits = basic_size(&persistent)? == size_of::<PersistentObject>()
            && basic_size(&cache)? >= size_of::<CacheObject>();
        let candidate = Self {
            persistent: persistent.unbind(),
            cache: cache.unbind(),
        };
        Ok((fits && candidate.agrees(py)?).then_some(candidate))
    }

    /// Whether values set from Python are found where they are expected.
    fn agrees(&self, py: Python<'_>) -> PyResult<bool> {
        let jar = self.persistent.bind(py).call0()?;
        let cache = self.cache.bind(py).call1((&jar, 100, 1000))?;
        let object = self.persistent.bind(py).call0()?;
        let oid = PyBytes::new(py, b"01234567");
        cache.call_method1("new_ghost", (&oid, &object))?;
        object.setattr("_p_serial", PyBytes::new(py, b"76543210"))?;
        object.setattr("_p_estimated_size", 6400)?;
        // SAFETY: both objects are at least as large as the structures (checked by the caller),
        // so the fields can be read whatever they turn out to hold.
        let (object_fields, cache_fields) = unsafe {
            (
                object.as_ptr().cast::<PersistentObject>().read(),
                cache.as_ptr().cast::<CacheObject>().read(),
            )
        };
        let object_agrees = object_fields.jar == jar.as_ptr()
            && object_fields.oid == oid.as_ptr()
            && object_fields.cache == cache.as_ptr().cast()
            && object_fields.ring_next.is_null()
            && object_fields.serial == *b"76543210"
            && object_fields.state_and_size == [GHOST.to_ne_bytes()[0], 101, 0, 0];
        let mut data_agrees = false;
        if object_agrees && cache_fields.jar == jar.as_ptr() {
            let copied = cache.getattr("cache_data")?;
            let known = cache_fields.data;
            // The dictionary itself can't be asked for; that a copy of what stands there equals
            // the copy that the cache gives shows that it is the one.
            data_agrees = !known.is_null()
                && looks_like_a_dict(py, known)
                // SAFETY: it is an object and its type is `dict`, as the line above has found.
                && unsafe { Bound::from_borrowed_ptr(py, known) }.eq(copied)?;
        }
        Ok(data_agrees)
    }

    /// `object` as a persistent object, if it is one.
    pub fn persistent<'a, 'py>(
        &self,
        object: &'a Bound<'py, PyAny>,
    ) -> Option<Persistent<'a, 'py>> {
        // SAFETY: both are live type objects.
        let is_one = unsafe {
            ffi::PyType_IsSubtype(
                ffi::Py_TYPE(object.as_ptr()),
                self.persistent.as_ptr().cast(),
            )
        };
        (is_one != 0).then_some(Persistent { object })
    }

    /// `object` as an object cache, if it is one of exactly the known class.
    pub fn cache<'py>(&self, object: Bound<'py, PyAny>) -> Option<Cache<'py>> {
        // SAFETY: a live object.
        let class = unsafe { ffi::Py_TYPE(object.as_ptr()) };
        (class.cast() == self.cache.as_ptr()).then_some(Cache { object })
    }

    /// The class `persistent.Persistent`.
    pub fn persistent_class<'py>(&self, py: Python<'py>) -> &Bound<'py, PyType> {
        self.persistent.bind(py)
    }
}

fn basic_size(class: &Bound<'_, PyType>) -> PyResult<usize> {
    class.getattr("__basicsize__")?.extract()
}

/// Whether `address` is among the objects of class `dict` (which the collector knows to be ones).
fn looks_like_a_dict(py: Python<'_>, address: *mut ffi::PyObject) -> bool {
    // SAFETY: called only after three neighbouring fields held the expected pointers; what stands
    // between the counters and the jar can then only be the cache's dictionary.
    unsafe { ptr::eq((*address).ob_type, py.get_type::<PyDict>().as_type_ptr()) }
}

/// A persistent object, looked at from C.
#[derive(Clone, Copy)]
pub struct Persistent<'a, 'py> {
    object: &'a Bound<'py, PyAny>,
}

impl<'a, 'py> Persistent<'a, 'py> {
    fn fields(self) -> *mut PersistentObject {
        self.object.as_ptr().cast()
    }

    /// The object's oid, if it has one.
    pub fn oid(self) -> Option<Bound<'py, PyAny>> {
        // SAFETY: the object is an instance of `Persistent`; the field is null or an object.
        unsafe { Bound::from_borrowed_ptr_or_opt(self.object.py(), (*self.fields()).oid) }
    }

    /// The connection that the object belongs to, if any.
    pub fn jar(self) -> Option<Bound<'py, PyAny>> {
        // SAFETY: as in `oid`.
        unsafe { Bound::from_borrowed_ptr_or_opt(self.object.py(), (*self.fields()).jar) }
    }

    /// Give an object that belongs nowhere its place; false: it belongs somewhere.
    pub fn adopt(self, oid: &Bound<'py, PyBytes>, connection: &Bound<'py, PyAny>) -> bool {
        let fields = self.fields();
        // SAFETY: the object is an instance of `Persistent`; it gets a reference of its own to
        // what it points to from now on.
        unsafe {
            let is_free =
                (*fields).jar.is_null() && (*fields).oid.is_null() && (*fields).cache.is_null();
            if is_free {
                (*fields).oid = oid.clone().into_ptr();
                (*fields).jar = connection.clone().into_ptr();
            }
            is_free
        }
    }

    /// The object itself.
    pub const fn object(self) -> &'a Bound<'py, PyAny> {
        self.object
    }

    /// The transaction that wrote the object's state; zeros where there is none.
    pub fn serial(self) -> [u8; 8] {
        // SAFETY: the object is an instance of `Persistent`.
        unsafe { (*self.fields()).serial }
    }

    /// Note that the object's state, unless it is a ghost, is what transaction `serial` wrote.
    pub fn mark_stored(self, serial: [u8; 8]) {
        let fields = self.fields();
        // SAFETY: the object is an instance of `Persistent`.
        unsafe {
            let state = &raw mut (*fields).state_and_size;
            if i8::from_ne_bytes([(*state)[0]]) >= 0 {
                (*state)[0] = UP_TO_DATE.to_ne_bytes()[0];
                (*fields).serial = serial;
            }
        }
    }

    /// Whether the object's state isn't loaded.
    pub fn is_ghost(self) -> bool {
        // SAFETY: the object is an instance of `Persistent`.
        let [state, ..] = unsafe { (*self.fields()).state_and_size };
        i8::from_ne_bytes([state]) < 0
    }

    /// Whether the object's state was changed.
    pub fn is_changed(self) -> bool {
        // SAFETY: the object is an instance of `Persistent`.
        let [state, ..] = unsafe { (*self.fields()).state_and_size };
        i8::from_ne_bytes([state]) == CHANGED
    }

    /// Whether no transaction has written the object's state.
    pub fn is_new(self) -> bool {
        // SAFETY: the object is an instance of `Persistent`.
        unsafe { (*self.fields()).serial == [0; 8] }
    }

    /// Note the transaction that wrote the state, and how large its record is.
    pub fn set_serial_and_size(self, serial: [u8; 8], size_bytes: usize) {
        // SAFETY: the object is an instance of `Persistent`.
        unsafe { (*self.fields()).serial = serial };
        self.set_size(size_bytes);
    }

    /// Note how large the object's record is.
    pub fn set_size(self, size_bytes: usize) {
        let units = size_units(size_bytes);
        let fields = self.fields();
        // SAFETY: the object is an instance of `Persistent`, its cache is null or a cache, and
        // nothing else runs while the GIL is held.
        unsafe {
            let [_, low, middle, high] = (*fields).state_and_size;
            if !(*fields).cache.is_null() && !(*fields).ring_next.is_null() {
                let before = u32::from_le_bytes([low, middle, high, 0]);
                let grown = (i64::from(units) - i64::from(before)) * 64;
                let total = &raw mut (*(*fields).cache).total_estimated_size;
                *total += ffi::Py_ssize_t::try_from(grown).unwrap_or(0);
            }
            let [low, middle, high, _] = units.to_le_bytes();
            let word = &raw mut (*fields).state_and_size;
            *word = [(*word)[0], low, middle, high];
        }
    }
}

/// The size of a record as `persistent` counts it, in units of 64 bytes.
fn size_units(size_bytes: usize) -> u32 {
    let bounded = if size_bytes > SIZE_BYTES_MAX {
        16_777_215
    } else {
        size_bytes / 64 + 1
    };
    u32::try_from(bounded).unwrap_or(16_777_215)
}

/// The object cache of a connection, looked at from C.
pub struct Cache<'py> {
    object: Bound<'py, PyAny>,
}

impl<'py> Cache<'py> {
    fn fields(&self) -> *mut CacheObject {
        self.object.as_ptr().cast()
    }

    /// The cached object with this oid.
    pub fn get(&self, oid: &Bound<'py, PyBytes>) -> PyResult<Option<Bound<'py, PyAny>>> {
        // SAFETY: the cache's class and layout were checked when this value was made. Its `data`
        // is a dictionary, or null after the collector cleared the cache. The reference that the
        // dictionary gives is borrowed: it is counted before anything else can run.
        unsafe {
            let data = (*self.fields()).data;
            if data.is_null() {
                return Ok(None);
            }
            let found = ffi::PyDict_GetItemWithError(data, oid.as_ptr());
            if found.is_null() && !ffi::PyErr_Occurred().is_null() {
                return Err(PyErr::fetch(oid.py()));
            }
            Ok(Bound::from_borrowed_ptr_or_opt(oid.py(), found))
        }
    }

    /// Put the new `object` under `oid`, as a ghost of the cache's connection.
    pub fn new_ghost(
        &self,
        layout: &Layout,
        oid: &Bound<'py, PyBytes>,
        object: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        let plain = layout
            .persistent(object)
            .is_some_and(|found| self.is_free_for(found));
        if !plain || self.get(oid)?.is_some() {
            // A persistent class, or an error that the cache words better.
            self.object
                .call_method1(pyo3::intern!(oid.py(), "new_ghost"), (oid, object))?;
            return Ok(());
        }
        // SAFETY: the object is an instance of `Persistent` in no cache, the cache is whole
        // (`is_free_for`), and its dictionary has no such key. This is what the cache's own
        // `new_ghost` does: the dictionary's reference is not counted, and the dictionary stays
        // unknown to the collector.
        unsafe {
            let cache = self.fields();
            if ffi::PyDict_SetItem((*cache).data, oid.as_ptr(), object.as_ptr()) < 0 {
                return Err(PyErr::fetch(oid.py()));
            }
            self.make_ghost(oid, object);
        }
        Ok(())
    }

    /// Put the `fresh` object under `oid`, as a ghost of the cache's connection; if there is one
    /// by now (the collector may run code of others' at any allocation), return that instead.
    ///
    /// `fresh` was just made the way that `Persistent` is made, and nobody else knows it.
    pub fn add_ghost(
        &self,
        layout: &Layout,
        oid: &Bound<'py, PyBytes>,
        fresh: Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let is_whole = layout
            .persistent(&fresh)
            .is_some_and(|found| self.is_free_for(found));
        if !is_whole {
            self.new_ghost(layout, oid, &fresh)?;
            return Ok(fresh);
        }
        // SAFETY: as in `new_ghost`. What `PyDict_SetDefault` gives is borrowed: it is counted
        // before anything else can run.
        unsafe {
            let kept = ffi::PyDict_SetDefault((*self.fields()).data, oid.as_ptr(), fresh.as_ptr());
            if kept.is_null() {
                return Err(PyErr::fetch(oid.py()));
            }
            if kept != fresh.as_ptr() {
                return Ok(Bound::from_borrowed_ptr(oid.py(), kept));
            }
            self.make_ghost(oid, &fresh);
        }
        Ok(fresh)
    }

    /// Make what was just put into the dictionary under `oid` a ghost.
    ///
    /// # Safety
    /// The object is a free instance of `Persistent`, and the cache is whole (`is_free_for`).
    unsafe fn make_ghost(&self, oid: &Bound<'py, PyBytes>, object: &Bound<'py, PyAny>) {
        // SAFETY: what the caller warrants.
        unsafe {
            let cache = self.fields();
            ffi::PyObject_GC_UnTrack((*cache).data.cast());
            ffi::Py_DECREF(object.as_ptr());
            let fields = object.as_ptr().cast::<PersistentObject>();
            ffi::Py_INCREF(cache.cast());
            (*fields).cache = cache;
            ffi::Py_INCREF((*cache).jar);
            (*fields).jar = (*cache).jar;
            ffi::Py_INCREF(oid.as_ptr());
            (*fields).oid = oid.as_ptr();
            let word = &raw mut (*fields).state_and_size;
            (*word)[0] = GHOST.to_ne_bytes()[0];
        }
    }

    /// Whether `object` can become one of this cache's.
    fn is_free_for(&self, object: Persistent<'_, 'py>) -> bool {
        let fields = object.fields();
        // SAFETY: both structures are of the checked layout.
        unsafe {
            (*fields).jar.is_null()
                && (*fields).oid.is_null()
                && (*fields).cache.is_null()
                && !(*self.fields()).data.is_null()
                && !(*self.fields()).jar.is_null()
        }
    }
}

/// Make an object the way `cls.__new__(cls, *arguments)` does.
pub fn new_object<'py>(
    cls: &Bound<'py, PyType>,
    arguments: &Bound<'py, pyo3::types::PyTuple>,
) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: `tp_new` of a live class, called as Python calls it.
    unsafe {
        let Some(constructor) = (*cls.as_type_ptr()).tp_new else {
            return Err(PyTypeError::new_err(format!(
                "can't make instances of {cls}"
            )));
        };
        let made = constructor(cls.as_type_ptr(), arguments.as_ptr(), ptr::null_mut());
        Bound::from_owned_ptr_or_err(cls.py(), made)
    }
}

/// The attribute dictionary of `object`, whose class has one.
pub fn attributes<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyDict>> {
    // SAFETY: a live object; where its class has no such dictionary, this raises.
    let found = unsafe {
        let found = ffi::PyObject_GenericGetDict(object.as_ptr(), ptr::null_mut());
        Bound::from_owned_ptr_or_err(object.py(), found)?
    };
    Ok(found.cast_into::<PyDict>()?)
}

/// Make `dict` the attribute dictionary of `object`, whose class has one.
pub fn set_attributes(object: &Bound<'_, PyAny>, dict: &Bound<'_, PyDict>) -> PyResult<()> {
    // SAFETY: a live object and a dictionary.
    let result =
        unsafe { ffi::PyObject_GenericSetDict(object.as_ptr(), dict.as_ptr(), ptr::null_mut()) };
    if result < 0 {
        Err(PyErr::fetch(object.py()))
    } else {
        Ok(())
    }
}

/// Whether nobody else holds `object`.
pub fn is_held_once(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: a live object.
    unsafe { ffi::Py_REFCNT(object.as_ptr()) == 1 }
}
