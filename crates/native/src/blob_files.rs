//! `perdure._native.BlobPlaces`: where the files of blobs are put, and made safe.

use std::path::PathBuf;

use perdure_engine::{BlobFiles, PathError};
use pyo3::prelude::*;

use crate::storage::os_error;

/// Add this module's class to `perdure._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<BlobPlaces>()
}

/// Puts the files of one blob directory where they belong, and waits for the disk.
#[pyclass(frozen)]
struct BlobPlaces(BlobFiles);

fn raised<T>(py: Python<'_>, result: Result<T, PathError>) -> PyResult<T> {
    result.map_err(|(path, error)| os_error(py, &path, &error))
}

#[pymethods]
impl BlobPlaces {
    #[new]
    fn new() -> Self {
        Self(BlobFiles::default())
    }

    /// Make a directory and those above it, where they aren't there.
    fn make(&self, py: Python<'_>, directory: PathBuf) -> PyResult<()> {
        let made = py.detach(|| self.0.make(&directory));
        raised(py, made)
    }

    /// Move files (from, to), and protect them from writing; return how many could be renamed.
    fn place(&self, py: Python<'_>, moves: Vec<(PathBuf, PathBuf)>) -> PyResult<usize> {
        let placed = py.detach(|| self.0.place(&moves));
        raised(py, placed)
    }

    /// Wait until files, and the names that lead to them and to directories, are on the disk.
    fn make_safe(
        &self,
        py: Python<'_>,
        files: Vec<PathBuf>,
        directories: Vec<PathBuf>,
    ) -> PyResult<()> {
        let safe = py.detach(|| self.0.make_safe(&files, &directories));
        raised(py, safe)
    }
}
