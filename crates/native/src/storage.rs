//! Placeholder that the classes of this module replace.

use pyo3::prelude::*;

/// Add this module's classes to `perdure._native`.
#[expect(clippy::unnecessary_wraps, reason = "registering classes can fail")]
pub fn register(_module: &Bound<'_, PyModule>) -> PyResult<()> {
    Ok(())
}
