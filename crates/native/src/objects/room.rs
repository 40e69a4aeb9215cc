//! Attributes that an object holds itself, without a dictionary.
//!
//! Python gives most new objects room for that, as much as objects of the class have needed, and
//! lets a dictionary take its place when somebody asks for one. `persistent` makes its objects
//! without. So an object that is loaded gets the room of one that is made for it as Python makes
//! objects, and that goes again at once. It takes less memory than a dictionary, and the cyclic
//! collector has one object less to look at.

use std::ptr;

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyString, PyTuple, PyType};

use super::persistence::Layout;

/// The flag of classes whose objects have such room (in `object.h` of Python 3.11).
const MANAGED_DICT: std::ffi::c_ulong = 1 << 4;

/// Where the pointer to the attributes stands, in words from the object.
const VALUES: isize = -4;

/// Where the pointer to the dictionary stands.
const DICTIONARY: isize = -3;

/// Where it is said how many attributes there are, in bytes from the first.
const COUNT: isize = -2;

/// How many names of a class are remembered.
const NAMES_MAX: usize = 64;

/// The attributes that objects of a class can hold themselves.
#[derive(Default)]
pub struct Room {
    /// Names that no data descriptor of the class has, interned.
    names: Vec<Py<PyString>>,
}

impl Room {
    /// The room that objects of `class`, which are made as `Persistent` is, can have, if any.
    pub fn of(layout: &Layout, class: &Bound<'_, PyType>) -> PyResult<Option<Self>> {
        static IS_KNOWN: PyOnceLock<bool> = PyOnceLock::new();
        let py = class.py();
        if !can_have_room(class) {
            return Ok(None);
        }
        let is_known = *IS_KNOWN.get_or_try_init(py, || is_as_expected(layout, py))?;
        Ok(is_known.then(Self::default))
    }

    /// Fill the bare `object` with names and values, in turn. False: nothing was done, and a
    /// dictionary is needed.
    pub fn fill<'py>(
        &mut self,
        object: &Bound<'py, PyAny>,
        items: &[Bound<'py, PyAny>],
    ) -> PyResult<bool> {
        let (pairs, rest) = items.as_chunks::<2>();
        let class = object.get_type();
        for (place, [name, _]) in pairs.iter().enumerate() {
            if !self.accepts(&class, place, name)? {
                return Ok(false);
            }
        }
        if !rest.is_empty() || !is_bare(object) || !give_room(object) {
            return Ok(false);
        }
        for [name, value] in pairs {
            // SAFETY: live objects; the name is a string that no data descriptor of the class has,
            // so that no code of the class runs.
            let set = unsafe {
                ffi::PyObject_GenericSetAttr(object.as_ptr(), name.as_ptr(), value.as_ptr())
            };
            if set < 0 {
                return Err(PyErr::fetch(object.py()));
            }
        }
        Ok(true)
    }

    /// Whether the attribute with this name, the one at `place` mostly, is only a value.
    fn accepts(
        &mut self,
        class: &Bound<'_, PyType>,
        place: usize,
        name: &Bound<'_, PyAny>,
    ) -> PyResult<bool> {
        if self.names.get(place).is_some_and(|known| name.is(known))
            || self.names.iter().any(|known| name.is(known))
        {
            return Ok(true);
        }
        let Ok(text) = name.cast_exact::<PyString>() else {
            return Ok(false);
        };
        let Ok(utf8) = text.to_str() else {
            return Ok(false);
        };
        let interned = PyString::intern(class.py(), utf8);
        if !interned.is(name) || self.names.len() >= NAMES_MAX || is_described(class, text)? {
            return Ok(false);
        }
        self.names.push(interned.unbind());
        Ok(true)
    }
}

/// Whether a class in the line of `class` sets the attribute in a way of its own.
fn is_described(class: &Bound<'_, PyType>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    for base in class.mro().iter() {
        let own = base.getattr(pyo3::intern!(class.py(), "__dict__"))?;
        if own.contains(name)? {
            let found = own.get_item(name)?;
            // SAFETY: a live object's class.
            return Ok(unsafe { (*ffi::Py_TYPE(found.as_ptr())).tp_descr_set.is_some() });
        }
    }
    Ok(false)
}

/// Whether objects of `class` can hold attributes, and are made and let go of without code of its
/// own.
fn can_have_room(class: &Bound<'_, PyType>) -> bool {
    let class = class.as_type_ptr();
    // SAFETY: a live class.
    unsafe {
        ffi::PyType_GetFlags(class) & MANAGED_DICT != 0
            && (*class).tp_new.map(|made| made as *const () as usize)
                == Some(ffi::PyType_GenericNew as *const () as usize)
            && (*class).tp_finalize.is_none()
            && (*class).tp_del.is_none()
    }
}

/// The two pointers before an object whose class can have room: to its attributes, and to its
/// dictionary.
///
/// # Safety
/// The object's class has the flag, and `is_as_expected` has tried out where they are.
unsafe fn pointers(object: &Bound<'_, PyAny>) -> (*mut *mut u8, *mut *mut u8) {
    let words = object.as_ptr().cast::<*mut u8>();
    // SAFETY: what the caller warrants.
    unsafe { (words.offset(VALUES), words.offset(DICTIONARY)) }
}

/// Whether `object`, whose class can have room, has neither that nor a dictionary.
pub fn is_bare(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: as `pointers` asks for.
    unsafe {
        let (values, dictionary) = pointers(object);
        (*values).is_null() && (*dictionary).is_null()
    }
}

/// Whether `object`, whose class can have room, holds its attributes itself.
pub fn is_holding(object: &Bound<'_, PyAny>) -> bool {
    // SAFETY: as `pointers` asks for.
    unsafe {
        let (values, dictionary) = pointers(object);
        !(*values).is_null() && (*dictionary).is_null()
    }
}

/// Give the bare `object` the room of one that is made for it. False: there was none.
fn give_room(object: &Bound<'_, PyAny>) -> bool {
    let py = object.py();
    let (class, plain) = (object.get_type(), py.get_type::<PyAny>());
    let arguments = PyTuple::empty(py);
    // SAFETY: `object`'s way of making objects does what `Persistent`'s does, and makes room. Both
    // objects are of the same class, so that what is room for the one is for the other. The one
    // that gave it is then as `Persistent` makes them, and nobody has seen it.
    unsafe {
        let Some(constructor) = (*plain.as_type_ptr()).tp_new else {
            return false;
        };
        let made = constructor(class.as_type_ptr(), arguments.as_ptr(), ptr::null_mut());
        let Some(giver) = Bound::from_owned_ptr_or_opt(py, made) else {
            // An abstract class, which `Persistent` makes objects of all the same.
            drop(PyErr::take(py));
            return false;
        };
        let (room, dictionary) = pointers(&giver);
        let has_room = !(*room).is_null() && (*dictionary).is_null() && *(*room).offset(COUNT) == 0;
        // Making it may have had the collector run, and that anything.
        if !has_room || !is_bare(object) {
            return false;
        }
        let (own, _) = pointers(object);
        *own = ptr::replace(room, ptr::null_mut());
    }
    true
}

/// Try out on real objects that room is where it is expected. (Only Python 3.11 is known.)
fn is_as_expected(layout: &Layout, py: Python<'_>) -> PyResult<bool> {
    let is_cpython = py
        .import("sys")?
        .getattr("implementation")?
        .getattr("name")?
        .eq("cpython")?;
    let version = py.version_info();
    if !is_cpython || (version.major, version.minor) != (3, 11) {
        return Ok(false);
    }
    let bases = (layout.persistent_class(py),);
    let class = py
        .get_type::<PyType>()
        .call1(("Probe", bases, PyDict::new(py)))?
        .cast_into::<PyType>()?;
    if !can_have_room(&class) {
        return Ok(false);
    }
    let object = class.call0()?;
    if !is_bare(&object) || !give_room(&object) || !is_holding(&object) {
        return Ok(false);
    }
    for name in ["a", "b"] {
        object.setattr(name, 1)?;
    }
    // SAFETY: as `pointers` asks for: it is being tried out, on a class that has the flag.
    let count = unsafe { *(*pointers(&object).0).offset(COUNT) };
    if count != 2 || !is_holding(&object) {
        return Ok(false);
    }
    let dictionary = object.getattr("__dict__")?;
    // SAFETY: as above.
    let found = unsafe { *pointers(&object).1 };
    Ok(found == dictionary.as_ptr().cast() && !is_holding(&object) && dictionary.len()? == 2)
}
