//! Joint commits from Python: several drafts, one transaction.

use std::path::PathBuf;

use perdure_engine::disk::OsDisk;
use perdure_engine::{
    Gate, InDoubt, Store, find_in_doubt, finish_all, prepare_all, release_all, settle_in_doubt,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::PyStorage;
use super::draft::PyDraft;
use super::errors::IntoPython;
use crate::ids::{PyTid, tid_bytes};

/// What a collection's members share: joint transactions pass through it one at a time.
#[pyclass(name = "Gate", module = "perdure._native", frozen)]
#[derive(Debug, Default)]
pub(crate) struct PyGate(Gate);

#[pymethods]
impl PyGate {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// The last visible transaction of each storage, of one moment.
    fn snapshots<'py>(
        &self,
        py: Python<'py>,
        storages: Vec<PyRef<'py, PyStorage>>,
    ) -> Vec<Bound<'py, PyBytes>> {
        let stores: Vec<&Store> = storages
            .iter()
            .map(|storage| storage.store.as_ref())
            .collect();
        let snapshots = py.detach(|| self.0.snapshots(&stores));
        snapshots
            .into_iter()
            .map(|tid| tid_bytes(py, tid))
            .collect()
    }

    /// Finish drafts that `prepare_together` wrote; the first one's storage decides.
    ///
    /// Returns the tid when the transaction is durable, and visible in all storages.
    fn finish_together<'py>(
        &self,
        py: Python<'py>,
        drafts: Vec<PyRef<'py, PyDraft>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let voted = drafts
            .iter()
            .map(|draft| draft.take_voted(py))
            .collect::<PyResult<Vec<_>>>()?;
        let Some(tid) = voted.first().map(perdure_engine::Voted::tid) else {
            return Err(PyValueError::new_err("no transaction to finish"));
        };
        py.detach(|| {
            let finished = finish_all(voted)?;
            release_all(&finished, &self.0);
            Ok(())
        })
        .into_python(py)?;
        Ok(tid_bytes(py, tid))
    }
}

/// Write locked drafts of several storages as one transaction, durable and not finished.
///
/// The first one's storage decides. Nothing is left anywhere where one cannot be written.
#[pyfunction]
pub(crate) fn prepare_together(
    py: Python<'_>,
    drafts: Vec<PyRef<'_, PyDraft>>,
    tid: PyTid,
) -> PyResult<()> {
    let locked = drafts
        .iter()
        .map(|draft| draft.take_locked(py))
        .collect::<PyResult<Vec<_>>>()?;
    let voted = py.detach(|| prepare_all(locked, tid.0)).into_python(py)?;
    for (draft, voted) in drafts.iter().zip(voted) {
        draft.put_voted(voted);
    }
    Ok(())
}

/// (tid, paths of the members' data files, own number) of a transaction in doubt; the first member
/// decides.
type InDoubtFields<'py> = (Bound<'py, PyBytes>, Vec<String>, u16);

fn fields(py: Python<'_>, found: InDoubt) -> InDoubtFields<'_> {
    (tid_bytes(py, found.tid), found.mark.members, found.mark.own)
}

/// The joint transaction in doubt at the end of a data file, or None. Changes nothing.
#[pyfunction]
pub(crate) fn in_doubt(py: Python<'_>, path: PathBuf) -> PyResult<Option<InDoubtFields<'_>>> {
    let found = py
        .detach(|| find_in_doubt(&OsDisk, &path))
        .into_python(py)?;
    Ok(found.map(|found| fields(py, found)))
}

/// Say what becomes of the transaction in doubt at the end of a data file that is not open.
#[pyfunction]
pub(crate) fn settle_in_doubt_by_hand(
    py: Python<'_>,
    path: PathBuf,
    commit: bool,
) -> PyResult<InDoubtFields<'_>> {
    let settled = py
        .detach(|| settle_in_doubt(&OsDisk, &path, commit))
        .into_python(py)?;
    Ok(fields(py, settled))
}
