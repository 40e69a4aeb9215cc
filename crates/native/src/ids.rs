//! Ids as Python sees them: eight bytes.

use perdure_format::{Oid, Tid};
use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

/// The eight bytes of an id, as Python gives them.
fn eight_bytes(value: &Bound<'_, PyAny>, what: &str) -> PyResult<[u8; 8]> {
    let Ok(bytes) = value.cast::<PyBytes>() else {
        let kind = value.get_type().name()?;
        return Err(PyTypeError::new_err(format!(
            "{what} has to be 8 bytes, not {kind}"
        )));
    };
    bytes.as_bytes().try_into().map_err(|_| {
        let len = bytes.as_bytes().len();
        PyValueError::new_err(format!("{what} has to be 8 bytes, not {len}"))
    })
}

/// An oid that Python gives.
#[derive(Clone, Copy)]
pub(crate) struct PyOid(pub(crate) Oid);

/// A tid that Python gives.
#[derive(Clone, Copy)]
pub(crate) struct PyTid(pub(crate) Tid);

impl<'py> FromPyObject<'_, 'py> for PyOid {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        eight_bytes(&value, "an oid").map(|bytes| Self(Oid::from_bytes(bytes)))
    }
}

impl<'py> FromPyObject<'_, 'py> for PyTid {
    type Error = PyErr;

    fn extract(value: Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        eight_bytes(&value, "a tid").map(|bytes| Self(Tid::from_bytes(bytes)))
    }
}

/// An oid for Python.
pub(crate) fn oid_bytes(py: Python<'_>, oid: Oid) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &oid.to_bytes())
}

/// A tid for Python.
pub(crate) fn tid_bytes(py: Python<'_>, tid: Tid) -> Bound<'_, PyBytes> {
    PyBytes::new(py, &tid.to_bytes())
}
