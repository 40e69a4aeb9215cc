//! How records become objects and objects become records.

mod build;
mod classes;
mod connection;
mod cursor;
mod environment;
mod failure;
mod intake;
mod kinds;
mod loaded;
mod loading;
mod memo;
mod oids;
mod persistence;
mod pickler;
mod reducing;
mod room;
mod source;
mod unpickler;
mod values;
mod writer;

use perdure_format::pickle::{self, Reference};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::ids::oid_bytes;

/// The oids that a record refers to within its database, in order, repeated ones too.
///
/// Raises `ValueError` where the data are not a record, or not one of the usual kind.
#[pyfunction]
fn references<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Bound<'py, PyList>> {
    let found = PyList::empty(py);
    let mut added = Ok(());
    pickle::references(data, |reference| {
        if let Reference::Same(oid) = reference
            && added.is_ok()
        {
            added = found.append(oid_bytes(py, oid));
        }
    })
    .map_err(|error| PyValueError::new_err(error.to_string()))?;
    added.map(|()| found)
}

/// Add this module's classes to `perdure._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<connection::ConnectionBase>()?;
    module.add_class::<writer::ObjectWriter>()?;
    module.add_class::<intake::Intake>()?;
    module.add_class::<oids::OidSet>()?;
    module.add_function(wrap_pyfunction!(references, module)?)?;
    module.add_function(wrap_pyfunction!(connection::native_objects, module)?)
}
