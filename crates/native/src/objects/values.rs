//! Plain Python values from a pickle's bytes.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyFloat, PyInt, PyString};

use super::failure::{Attempt, Failure};

/// A text, from UTF-8 in which single surrogates may stand.
pub fn text<'py>(py: Python<'py>, utf8: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    let length = ffi::Py_ssize_t::try_from(utf8.len())?;
    // SAFETY: the pointer and length are those of a live slice; the name ends in a zero byte.
    unsafe {
        Bound::from_owned_ptr_or_err(
            py,
            ffi::PyUnicode_DecodeUTF8(utf8.as_ptr().cast(), length, c"surrogatepass".as_ptr()),
        )
    }
}

/// A string that Python 2 wrote: text if it is ASCII, otherwise bytes.
pub fn old_string<'py>(py: Python<'py>, bytes: &[u8]) -> Bound<'py, PyAny> {
    match std::str::from_utf8(bytes) {
        Ok(ascii) if ascii.is_ascii() => PyString::new(py, ascii).into_any(),
        _ => PyBytes::new(py, bytes).into_any(),
    }
}

/// A small number.
pub fn small(py: Python<'_>, number: i32) -> Bound<'_, PyAny> {
    PyInt::new(py, number).into_any()
}

/// A number of any size, from its two's complement, little-endian.
pub fn long<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    if bytes.len() <= 8 {
        let fill = if bytes.last().is_some_and(|&byte| byte >= 0x80) {
            0xff
        } else {
            0
        };
        let mut eight = [fill; 8];
        for (to, from) in eight.iter_mut().zip(bytes) {
            *to = *from;
        }
        return Ok(PyInt::new(py, i64::from_le_bytes(eight)).into_any());
    }
    let keywords = pyo3::types::PyDict::new(py);
    keywords.set_item(intern!(py, "signed"), true)?;
    let bytes = PyBytes::new(py, bytes);
    py.get_type::<PyInt>().call_method(
        intern!(py, "from_bytes"),
        (bytes, intern!(py, "little")),
        Some(&keywords),
    )
}

/// A floating point number, from its eight bytes, big-endian.
pub fn float(py: Python<'_>, bytes: [u8; 8]) -> Bound<'_, PyAny> {
    PyFloat::new(py, f64::from_be_bytes(bytes)).into_any()
}

/// Module and name of a global, from both with a line feed between them.
pub fn names(names: &[u8]) -> Attempt<(&str, &str)> {
    let text = std::str::from_utf8(names).map_err(|_| Failure::Damaged("a name isn't UTF-8"))?;
    text.split_once('\n').ok_or(Failure::Unsupported)
}
