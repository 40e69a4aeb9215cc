//! Why the native reader or writer did not do it.

use pyo3::prelude::*;

/// Why a record was not read or written natively.
pub enum Failure {
    /// Something outside the native repertoire: the standard `pickle` is to do it.
    Unsupported,
    /// The record is damaged in this way.
    Damaged(&'static str),
    /// Code that the record or the objects called for raised this.
    Raised(PyErr),
}

/// What native reading and writing gives.
pub type Attempt<T> = Result<T, Failure>;

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<pyo3::CastError<'_, '_>> for Failure {
    fn from(_: pyo3::CastError<'_, '_>) -> Self {
        Self::Unsupported
    }
}
