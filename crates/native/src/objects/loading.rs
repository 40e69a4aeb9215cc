//! Steps of loading an object.

use pyo3::exceptions::PyException;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::environment::Environment;
use super::persistence;

/// Give a ghost its state: the way `Persistent.__setstate__` does, or by its own `__setstate__`.
pub fn set_state<'py>(
    environment: &Environment<'py>,
    obj: &Bound<'py, PyAny>,
    state: Bound<'py, PyAny>,
) -> PyResult<()> {
    static PLAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = obj.py();
    let name = intern!(py, "__setstate__");
    let plain = PLAIN.get_or_try_init(py, || {
        environment
            .layout
            .persistent_class(py)
            .getattr(name)
            .map(Bound::unbind)
    })?;
    if state.is_exact_instance_of::<PyDict>()
        && persistence::is_held_once(&state)
        && obj.get_type().getattr(name)?.is(plain)
        && persistence::set_attributes(obj, state.cast::<PyDict>()?)?
    {
        return Ok(());
    }
    match obj.call_method1(name, (state,)) {
        Ok(_) => Ok(()),
        Err(error) => Err(unloadable(&error, obj, b"")?),
    }
}

/// The error to raise for what reading a record has raised.
pub fn unloadable(error: &PyErr, obj: &Bound<'_, PyAny>, data: &[u8]) -> PyResult<PyErr> {
    let py = obj.py();
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
