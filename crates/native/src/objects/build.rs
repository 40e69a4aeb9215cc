//! Filling what an unpickler has made.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyString, PyTuple, PyType};

use super::failure::{Attempt, Failure};
use super::persistence::new_object;

/// Append items to a list, or to what behaves like one.
pub fn append<'py>(
    container: &Bound<'py, PyAny>,
    items: impl ExactSizeIterator<Item = Bound<'py, PyAny>>,
) -> Attempt<()> {
    let py = container.py();
    if let Ok(list) = container.cast_exact::<PyList>() {
        for item in items {
            list.append(item)?;
        }
        return Ok(());
    }
    if let Some(extend) = container.getattr_opt(intern!(py, "extend"))? {
        extend.call1((PyList::new(py, items)?,))?;
        return Ok(());
    }
    let append = container.getattr(intern!(py, "append"))?;
    for item in items {
        append.call1((item,))?;
    }
    Ok(())
}

/// Set items (keys and values in turn) of a dictionary, or of what behaves like one.
pub fn set_items<'py>(
    container: &Bound<'py, PyAny>,
    mut items: impl ExactSizeIterator<Item = Bound<'py, PyAny>>,
) -> Attempt<()> {
    if !items.len().is_multiple_of(2) {
        return Err(Failure::Damaged("a key without a value"));
    }
    let dict = container.cast_exact::<PyDict>();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        match dict {
            Ok(dict) => dict.set_item(key, value)?,
            Err(_) => container.set_item(key, value)?,
        }
    }
    Ok(())
}

/// Add items to a set, or to what behaves like one.
pub fn add<'py>(
    container: &Bound<'py, PyAny>,
    items: impl Iterator<Item = Bound<'py, PyAny>>,
) -> Attempt<()> {
    if let Ok(set) = container.cast_exact::<PySet>() {
        for item in items {
            set.add(item)?;
        }
        return Ok(());
    }
    let add = container.getattr(intern!(container.py(), "add"))?;
    for item in items {
        add.call1((item,))?;
    }
    Ok(())
}

/// `cls.__new__(cls, *arguments)`.
pub fn new_instance<'py>(
    cls: &Bound<'py, PyAny>,
    arguments: &Bound<'py, PyAny>,
) -> Attempt<Bound<'py, PyAny>> {
    Ok(new_object(
        cls.cast::<PyType>()?,
        arguments.cast_exact::<PyTuple>()?,
    )?)
}

/// Module and name with a line feed between them.
pub fn global_names(module: &Bound<'_, PyAny>, name: &Bound<'_, PyAny>) -> Attempt<String> {
    let (module, name) = (
        module.cast_exact::<PyString>()?,
        name.cast_exact::<PyString>()?,
    );
    let (Ok(module), Ok(name)) = (module.to_str(), name.to_str()) else {
        return Err(Failure::Unsupported);
    };
    Ok(format!("{module}\n{name}"))
}

/// Give an object its state, as `pickle` does.
pub fn set_state<'py>(object: &Bound<'py, PyAny>, state: &Bound<'py, PyAny>) -> Attempt<()> {
    let py = object.py();
    if let Some(set_state) = object.getattr_opt(intern!(py, "__setstate__"))? {
        set_state.call1((state,))?;
        return Ok(());
    }
    let (attributes, slots) = match state.cast_exact::<PyTuple>() {
        Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, Some(pair.get_item(1)?)),
        _ => (state.clone(), None),
    };
    if !attributes.is_none() {
        let to = object.getattr(intern!(py, "__dict__"))?;
        for (name, value) in attributes.cast_exact::<PyDict>()?.iter() {
            to.set_item(interned(name), value)?;
        }
    }
    if let Some(slots) = slots.filter(|slots| !slots.is_none()) {
        for (name, value) in slots.cast_exact::<PyDict>()?.iter() {
            object.setattr(name.cast::<PyString>()?, value)?;
        }
    }
    Ok(())
}

/// An attribute's name, shared with all others of the same text.
fn interned(name: Bound<'_, PyAny>) -> Bound<'_, PyAny> {
    if !name.is_exact_instance_of::<PyString>() {
        return name;
    }
    let py = name.py();
    let mut pointer = name.into_ptr();
    // SAFETY: an owned reference to a string, which is replaced by one to its interned equal.
    unsafe {
        ffi::PyUnicode_InternInPlace(&raw mut pointer);
        Bound::from_owned_ptr(py, pointer)
    }
}
