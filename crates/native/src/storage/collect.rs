//! Garbage collection over a collection, from Python.

use std::sync::Arc;

use perdure_engine::{Collector, Decoder, Member};
use pyo3::prelude::*;

use super::PyStorage;
use super::decoding::{ByCallable, Raised};
use super::draft::PyDraft;
use super::errors::IntoPython;
use super::pack::Watch;
use crate::ids::PyTid;

/// What a member of a collection is called, its storage, and what decodes its records as
/// `decode(data, oid, tid)`; None where they are kept as they are.
pub(crate) type MemberFields<'py> = (String, PyRef<'py, PyStorage>, Option<Py<PyAny>>);

/// A member of a collection; what its decoder raises is put into `raised`.
pub(crate) fn member_of(fields: MemberFields<'_>, raised: &Raised) -> Member {
    let (name, storage, decode) = fields;
    let decoder = decode.map(|decode| -> Arc<dyn Decoder> {
        let raised = raised.clone();
        Arc::new(ByCallable { decode, raised })
    });
    Member {
        name: name.into_bytes(),
        store: Arc::clone(&storage.store),
        decoder,
    }
}

/// What a garbage collection over several storages knows; they aren't packed while it lives.
#[pyclass(name = "Collector", module = "perdure._native")]
pub(crate) struct PyCollector {
    collector: Collector,
    raised: Raised,
}

#[pymethods]
impl PyCollector {
    /// Mark what was reachable in each member before a transaction, and what was written since.
    ///
    /// `members` are their names, storages and decoders, and those transactions. `progress(phase, done, total)`
    /// is called now and then; what it raises stops the marking.
    #[new]
    #[pyo3(signature = (members, progress=None))]
    fn new(
        py: Python<'_>,
        members: Vec<(MemberFields<'_>, PyTid)>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let raised = Raised::default();
        let members = members.into_iter();
        let members = members
            .map(|(fields, before)| (member_of(fields, &raised), before.0))
            .collect();
        let mut watch = Watch::new(None, progress, raised.clone());
        let marked = py.detach(|| Collector::mark(members, &mut watch));
        let collector = watch.outcome(marked).into_python(py)??;
        Ok(Self { collector, raised })
    }

    /// How many unreachable objects were found.
    fn __len__(&self) -> usize {
        self.collector.len()
    }

    /// How many objects of each member are marked as reachable.
    fn reachable(&self) -> Vec<u64> {
        self.collector.reachable()
    }

    /// Put the deletion of a member's objects from `start` to `stop` into a draft; how many.
    fn stage(&self, start: usize, stop: usize, member: usize, draft: &PyDraft) -> PyResult<usize> {
        draft.with_open(|draft| self.collector.stage(&(start..stop), member, draft))
    }

    /// Take what was finished since the last time for reachable; what is not visible, too, with
    /// `settled`, while no member can commit.
    fn catch_up(&mut self, py: Python<'_>, settled: bool) -> PyResult<()> {
        let mut watch = Watch::new(None, None, self.raised.clone());
        let caught_up = py.detach(|| self.collector.catch_up(settled, &mut watch));
        watch.outcome(caught_up).into_python(py)?
    }

    /// How many objects from `start` to `stop` are garbage still.
    fn still_garbage(&self, start: usize, stop: usize) -> usize {
        self.collector.still_garbage(&(start..stop))
    }

    /// Count the garbage from `start` to `stop` as deleted.
    fn count(&mut self, start: usize, stop: usize) {
        self.collector.count(&(start..stop));
    }

    /// What was counted: (number of the member, class, how many).
    fn counts(&self) -> Vec<(usize, String, u64)> {
        let counts = self.collector.counts().into_iter();
        counts
            .map(|each| (each.member, each.class, each.count))
            .collect()
    }
}
