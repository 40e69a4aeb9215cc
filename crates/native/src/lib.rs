//! `perdure._native`: the border between Python objects and the engine.

#![allow(
    clippy::needless_pass_by_value,
    reason = "PyO3 hands arguments over by value"
)]

mod blob_files;
mod ids;
mod objects;
mod records;
mod storage;

use pyo3::prelude::*;

// Objects and object caches are handled through their C structures, under the GIL.
#[pymodule(gil_used = true)]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    blob_files::register(module)?;
    storage::register(module)?;
    objects::register(module)?;
    records::register(module)?;
    Ok(())
}
