//! Joint commits from Python: several drafts, one transaction.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use perdure_engine::disk::OsDisk;
use perdure_engine::{
    Gate, InDoubt, Store, Voted, find_in_doubt, finish_all, prepare_all, release_all,
    settle_in_doubt, vote_all,
};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use super::PyStorage;
use super::draft::{LOCK_PATIENCE, PyDraft};
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

    /// The last visible transaction of each storage, of one moment; by names, as the storages.
    fn snapshots<'py>(
        &self,
        py: Python<'py>,
        storages: &Bound<'py, PyDict>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut members = Vec::with_capacity(storages.len());
        for (name, storage) in storages.iter() {
            members.push((name, storage.cast_into::<PyStorage>()?));
        }
        let stores: Vec<&Store> = members
            .iter()
            .map(|(_, storage)| storage.get().store.as_ref())
            .collect();
        let snapshots = py.detach(|| self.0.snapshots(&stores));
        let found = PyDict::new(py);
        for ((name, _), tid) in members.iter().zip(snapshots) {
            found.set_item(name, tid_bytes(py, tid))?;
        }
        Ok(found)
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
        let Some(tid) = voted.first().map(Voted::tid) else {
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

/// Vote with drafts of several storages as one transaction, where nothing is in the way.
///
/// Returns its id, the least that it can have at `now` (seconds since the epoch); it is then as
/// after `prepare_together`. None where one has nothing to write, or relies on what it does not
/// write: then nothing has happened; and where there are conflicts, or what one refers to is
/// missing: then each stands as after `lock`. Waits, without the GIL; can be interrupted.
#[pyfunction]
pub(crate) fn vote_together<'py>(
    py: Python<'py>,
    drafts: Vec<PyRef<'py, PyDraft>>,
    now: f64,
) -> PyResult<Option<Bound<'py, PyBytes>>> {
    if !drafts.iter().all(|draft| draft.only_writes()) {
        return Ok(None);
    }
    let mut open = drafts
        .iter()
        .map(|draft| draft.take_to_lock(py))
        .collect::<PyResult<VecDeque<_>>>()?;
    let mut locked = Vec::with_capacity(drafts.len());
    let (began, mut patience) = (Instant::now(), Duration::ZERO);
    let voted = loop {
        let waited = || match patience {
            Duration::ZERO => 0.0,
            _ => began.elapsed().as_secs_f64(),
        };
        let vote = || vote_all(&mut open, &mut locked, || now + waited(), patience);
        let voted = py.detach(vote).into_python(py)?;
        if voted.is_some() || open.is_empty() {
            break voted;
        }
        py.check_signals()?;
        patience = LOCK_PATIENCE;
    };
    let Some(voted) = voted else {
        for (draft, locked) in drafts.iter().zip(locked) {
            draft.put_locked(locked);
        }
        return Ok(None);
    };
    let tid = voted.first().map(Voted::tid);
    put_back(&drafts, voted);
    Ok(tid.map(|tid| tid_bytes(py, tid)))
}

/// Put transactions back that were voted together.
fn put_back(drafts: &[PyRef<'_, PyDraft>], voted: Vec<Voted>) {
    for (draft, voted) in drafts.iter().zip(voted) {
        draft.put_voted(voted);
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
    put_back(&drafts, voted);
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
