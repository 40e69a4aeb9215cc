//! How records become objects and objects become records.

mod build;
mod classes;
mod connection;
mod cursor;
mod environment;
mod failure;
mod kinds;
mod loading;
mod memo;
mod persistence;
mod pickler;
mod reducing;
mod source;
mod unpickler;
mod values;
mod writer;

use pyo3::prelude::*;

/// Add this module's classes to `perdure._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<connection::ConnectionBase>()?;
    module.add_class::<writer::ObjectWriter>()?;
    module.add_function(wrap_pyfunction!(connection::native_objects, module)?)
}
