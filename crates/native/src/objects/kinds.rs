//! What is known about classes whose instances are stored.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyListMethods, PyType};

use super::classes::{Home, ShortMap};
use super::persistence::{Layout, attributes};
use super::room::{self, Room};

/// What has to be known about a class to store its instances.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts about a class"
)]
pub struct Kind {
    class: Py<PyType>,
    /// Python's mark for the class as it is now; changed by any change to it or its bases.
    version: u32,
    /// It is an ordinary class: its metaclass is `type`.
    pub is_ordinary: bool,
    /// It has `__getnewargs__`.
    pub has_new_arguments: bool,
    /// Its state is its attribute dictionary, without the volatile ones.
    pub has_plain_state: bool,
    /// Its instances are described by the class alone.
    pub is_described_plainly: bool,
    /// Its state is set by replacing its attribute dictionary.
    pub takes_plain_state: bool,
    /// Its instances have committed data beside the record.
    pub is_blob: bool,
    /// Making an instance runs no code of the class.
    pub is_made_plainly: bool,
    /// `_p_changed` and `_p_serial` are set as `Persistent` sets them.
    pub is_marked_plainly: bool,
    /// It stands for a class that is missing.
    pub is_broken: bool,
    /// Its instances may claim to be of another class (they are to be asked).
    pub may_be_disguised: bool,
    /// The room that its instances can have for attributes.
    pub room: Option<Room>,
}

/// The classes met so far, by address.
#[derive(Default)]
pub struct Kinds(ShortMap<usize, Kind>);

impl Kinds {
    /// What is known about `class`.
    pub fn of<'a>(
        &'a mut self,
        layout: &Layout,
        class: &Bound<'_, PyType>,
    ) -> PyResult<&'a mut Kind> {
        let address = class.as_ptr() as usize;
        let is_current = self
            .0
            .get(&address)
            .is_some_and(|kind| kind.is_current(class));
        if !is_current {
            self.0.insert(address, Kind::examine(layout, class)?);
        }
        self.0
            .get_mut(&address)
            .ok_or_else(|| pyo3::exceptions::PyRuntimeError::new_err("class lost"))
    }

    /// Show the collector what is kept alive.
    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.0.values().try_for_each(|kind| visit.call(&kind.class))
    }
}

impl Kind {
    fn examine(layout: &Layout, class: &Bound<'_, PyType>) -> PyResult<Self> {
        static SLOT_NAMES: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        static BROKEN: PyOnceLock<Py<PyType>> = PyOnceLock::new();
        let py = class.py();
        let persistent = layout.persistent_class(py);
        let inherits = |name| -> PyResult<bool> {
            Ok(class.is_subclass(persistent)?
                && has_attribute_dictionary(class)
                && class.getattr(name)?.is(&persistent.getattr(name)?))
        };
        let is_same = |name| -> PyResult<bool> {
            let own = class.getattr_opt(name)?;
            Ok(own.is_some_and(|own| persistent.getattr(name).is_ok_and(|plain| own.is(&plain))))
        };
        let is_marked_plainly = is_set_as(class, persistent)
            && is_same(intern!(py, "_p_changed"))?
            && is_same(intern!(py, "_p_serial"))?;
        let mut has_plain_state = false;
        if inherits(intern!(py, "__getstate__"))? {
            let slots = SLOT_NAMES
                .import(py, "copyreg", "_slotnames")?
                .call1((class,))?;
            has_plain_state = slots.cast::<PyList>().is_ok_and(PyListMethods::is_empty)
                && uses_plain_attributes(class, persistent);
        }
        let is_ordinary = class.get_type().is(py.get_type::<PyType>());
        let has_new_arguments = class.getattr_opt(intern!(py, "__getnewargs__"))?.is_some();
        // An instance with attributes of its own could have such a method among them.
        let is_described_plainly = is_ordinary
            && !has_new_arguments
            && (has_plain_state || !has_attribute_dictionary(class))
            && uses_plain_attributes(class, persistent)
            && is_same(intern!(py, "_p_oid"))?;
        let takes_plain_state = inherits(intern!(py, "__setstate__"))?;
        let is_made_plainly = is_made_as(class, persistent);
        let room = if takes_plain_state && is_made_plainly {
            Room::of(layout, class)?
        } else {
            None
        };
        Ok(Self {
            class: class.clone().unbind(),
            is_ordinary,
            has_new_arguments,
            has_plain_state,
            is_described_plainly,
            takes_plain_state,
            is_blob: class
                .getattr_opt(intern!(py, "_p_blob_committed"))?
                .is_some(),
            is_marked_plainly,
            is_made_plainly,
            is_broken: class.is_subclass(BROKEN.import(py, "perdure.broken", "Broken")?)?,
            may_be_disguised: may_be_disguised(class)?,
            room,
            version: version(class),
        })
    }

    /// Whether `object` can hold its attributes itself, and has none yet.
    pub fn can_hold(&self, object: &Bound<'_, PyAny>) -> bool {
        self.room.is_some() && room::is_bare(object)
    }

    /// Put names and values, in turn, into an object; false: it needs a dictionary.
    pub fn fill<'py>(
        &mut self,
        object: &Bound<'py, PyAny>,
        items: &[Bound<'py, PyAny>],
    ) -> PyResult<bool> {
        let Some(room) = &mut self.room else {
            return Ok(false);
        };
        let is_filled = room.fill(object, items)?;
        if is_filled && !room::is_holding(object) {
            // Python has too little room for so many, or for those of so different instances.
            self.room = None;
        }
        Ok(is_filled)
    }

    fn is_current(&self, class: &Bound<'_, PyType>) -> bool {
        self.version != 0 && self.version == version(class) && class.is(&self.class)
    }
}

/// Whether the class finds attributes in its own way, or one in its line defines `__class__`.
fn may_be_disguised(class: &Bound<'_, PyType>) -> PyResult<bool> {
    let py = class.py();
    let object = py.get_type::<PyAny>();
    if !uses_plain_attributes(class, &object) {
        return Ok(true);
    }
    for base in class.mro().iter() {
        let attributes = base.getattr(intern!(py, "__dict__"))?;
        if !base.is(&object) && attributes.contains(intern!(py, "__class__"))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn has_attribute_dictionary(class: &Bound<'_, PyType>) -> bool {
    // SAFETY: a live class.
    unsafe { (*class.as_type_ptr()).tp_dictoffset != 0 }
}

/// Whether attributes are found the way `base` finds them (no `__getattr__` of its own).
fn uses_plain_attributes(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> bool {
    // SAFETY: live classes.
    let (own, plain) = unsafe {
        (
            (*class.as_type_ptr()).tp_getattro,
            (*base.as_type_ptr()).tp_getattro,
        )
    };
    own.map(|function| function as usize) == plain.map(|function| function as usize)
}

/// Whether attributes are set the way `base` sets them (no `__setattr__` of its own).
fn is_set_as(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> bool {
    // SAFETY: live classes.
    let (own, plain) = unsafe {
        (
            (*class.as_type_ptr()).tp_setattro,
            (*base.as_type_ptr()).tp_setattro,
        )
    };
    own.map(|function| function as usize) == plain.map(|function| function as usize)
}

/// Whether instances are made the way `base` makes them (no `__new__` of its own).
fn is_made_as(class: &Bound<'_, PyType>, base: &Bound<'_, PyType>) -> bool {
    // SAFETY: live classes.
    let (own, plain) = unsafe { ((*class.as_type_ptr()).tp_new, (*base.as_type_ptr()).tp_new) };
    own.map(|function| function as usize) == plain.map(|function| function as usize)
}

/// Python's mark for the class as it is now, or 0 where it has none. No two classes share one.
pub fn version(class: &Bound<'_, PyType>) -> u32 {
    const VALID: std::ffi::c_ulong = 1 << 19;
    // Python puts its version together from text at every call.
    static TAG_IS_ENOUGH: PyOnceLock<bool> = PyOnceLock::new();
    let py = class.py();
    let tag_is_enough = *TAG_IS_ENOUGH.get_or_init(py, || py.version_info() >= (3, 12));
    // SAFETY: a live class.
    let (tag, flags) = unsafe {
        (
            (*class.as_type_ptr()).tp_version_tag,
            ffi::PyType_GetFlags(class.as_type_ptr()),
        )
    };
    if tag_is_enough || flags & VALID != 0 {
        tag
    } else {
        0
    }
}

struct Line {
    bytes: Box<[u8]>,
    value: Py<PyAny>,
    home: Home,
}

/// How globals (classes, mostly) are written, by address.
#[derive(Default)]
pub struct Globals(ShortMap<usize, Line>);

impl Globals {
    /// Show the collector what is kept alive.
    pub fn traverse(&self, visit: &pyo3::PyVisit<'_>) -> Result<(), pyo3::PyTraverseError> {
        self.0.values().try_for_each(|line| visit.call(&line.value))
    }

    /// The GLOBAL opcode for `value`; None where `pickle` has to find out.
    pub fn line(&mut self, value: &Bound<'_, PyAny>) -> PyResult<Option<&[u8]>> {
        let py = value.py();
        let address = value.as_ptr() as usize;
        let known = self.0.get(&address);
        if !known.is_some_and(|known| known.home.holds(py, &known.value)) {
            self.0.remove(&address);
            let Some(home) = Home::of(value)? else {
                return Ok(None);
            };
            let (module, name) = home.stored_names(py)?;
            let bytes = format!("c{module}\n{name}\n")
                .into_bytes()
                .into_boxed_slice();
            self.0.insert(
                address,
                Line {
                    bytes,
                    value: value.clone().unbind(),
                    home,
                },
            );
        }
        Ok(self.0.get(&address).map(|known| &*known.bytes))
    }
}

/// The attributes of a persistent object that are stored, in order.
pub fn stored_attributes<'py>(
    object: &Bound<'py, PyAny>,
) -> PyResult<Vec<(Bound<'py, PyAny>, Bound<'py, PyAny>)>> {
    let attributes = attributes(object)?;
    let mut stored = Vec::with_capacity(attributes.len());
    for (name, value) in attributes.iter() {
        if !is_volatile(&name) {
            stored.push((name, value));
        }
    }
    Ok(stored)
}

/// Whether an attribute of this name is never stored: `_v_…` and `_p_…`.
fn is_volatile(name: &Bound<'_, PyAny>) -> bool {
    let Ok(name) = name.cast::<pyo3::types::PyString>() else {
        return false;
    };
    name.to_str()
        .is_ok_and(|name| name.starts_with("_v_") || name.starts_with("_p_"))
}

/// What `obj.__reduce_ex__(3)` or the registered reducer of its class gives.
pub fn reduced<'py>(object: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    static TABLE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = object.py();
    let table = TABLE.import(py, "copyreg", "dispatch_table")?;
    let registered = match table.cast::<PyDict>() {
        Ok(table) => table.get_item(object.get_type())?,
        Err(_) => None,
    };
    match registered {
        Some(reduce) => reduce.call1((object,)),
        None => object.call_method1(intern!(py, "__reduce_ex__"), (3,)),
    }
}
