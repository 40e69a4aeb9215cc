//! How records become objects and objects become records.

mod build;
mod classes;
mod connection;
mod cursor;
mod environment;
mod failure;
mod persistence;
mod unpickler;
mod values;

use pyo3::prelude::*;

/// Add this module's classes to `perdure._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<connection::ConnectionBase>()?;
    module.add_function(wrap_pyfunction!(connection::native_objects, module)?)
}
