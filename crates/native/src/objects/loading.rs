//! Steps of loading an object.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::kinds::Kind;
use super::persistence;

/// Give a ghost its state: the way `Persistent.__setstate__` does, or by its own `__setstate__`.
pub fn set_state<'py>(
    kind: &Kind,
    obj: &Bound<'py, PyAny>,
    state: Bound<'py, PyAny>,
) -> PyResult<()> {
    if kind.takes_plain_state
        && let Ok(attributes) = state.cast_exact::<PyDict>()
        && persistence::is_held_once(attributes)
    {
        return persistence::set_attributes(obj, attributes);
    }
    let name = intern!(obj.py(), "__setstate__");
    match obj.call_method1(name, (state,)) {
        Ok(_) => Ok(()),
        Err(error) => Err(unloadable(obj.py(), &error, Some(obj), b"")?),
    }
}

/// Give a ghost its attributes, whose names and values, in turn, the record `data` has.
pub fn set_items<'py>(
    kind: &mut Kind,
    obj: &Bound<'py, PyAny>,
    items: &[Bound<'py, PyAny>],
    data: &[u8],
) -> PyResult<()> {
    if kind.fill(obj, items)? {
        return Ok(());
    }
    let state = PyDict::new(obj.py());
    let (pairs, _) = items.as_chunks::<2>();
    for [key, value] in pairs {
        if let Err(error) = state.set_item(key, value) {
            return Err(unloadable(obj.py(), &error, Some(obj), data)?);
        }
    }
    set_state(kind, obj, state.into_any())
}

/// The error to raise for what reading a record has raised.
pub fn unloadable(
    py: Python<'_>,
    error: &PyErr,
    obj: Option<&Bound<'_, PyAny>>,
    data: &[u8],
) -> PyResult<PyErr> {
    if !error.is_instance_of::<PyException>(py) {
        return Ok(error.clone_ref(py));
    }
    let helper = py.import(intern!(py, "perdure.serialize.reader"))?;
    let made = helper.call_method1(
        intern!(py, "unloadable"),
        (error.value(py), obj, PyBytes::new(py, data)),
    )?;
    Ok(PyErr::from_value(made))
}

/// The error to raise for a damaged record.
pub fn damaged(
    py: Python<'_>,
    how: &str,
    obj: Option<&Bound<'_, PyAny>>,
    data: &[u8],
) -> PyResult<PyErr> {
    let class = py
        .import(intern!(py, "pickle"))?
        .getattr(intern!(py, "UnpicklingError"))?;
    let error = PyErr::from_value(class.call1((format!("the record is damaged: {how}"),))?);
    unloadable(py, &error, obj, data)
}

/// The state in a record, read by Python's `pickle`.
pub fn read_by_standard_pickle<'py>(
    connection: &Bound<'py, PyAny>,
    data: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    connection
        .getattr(intern!(connection.py(), "_reader"))?
        .call_method1(intern!(connection.py(), "getState"), (data,))
}

/// An error of `perdure.errors`.
pub fn raised(py: Python<'_>, class: &str, message: &str) -> PyErr {
    let made = py
        .import(intern!(py, "perdure.errors"))
        .and_then(|errors| errors.getattr(PyString::new(py, class)))
        .and_then(|class| class.call1((message,)));
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}
