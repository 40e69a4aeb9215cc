//! `perdure._native`: the border between Python objects and the engine.

mod objects;
mod storage;

use pyo3::prelude::*;

#[pymodule]
fn _native(module: &Bound<'_, PyModule>) -> PyResult<()> {
    storage::register(module)?;
    objects::register(module)?;
    Ok(())
}
