//! `perdure._native.Draft`: a transaction on its way into a storage.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use perdure_engine::{Basis, Decoder, Draft, Locked, Store, Targets, UndoAction, UndoStep, Voted};
use perdure_format::Tid;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::decoding::{ByCallable, Raised};
use super::errors::{IntoPython, out_of_order};
use super::undo_references::PyDraftReview;
use crate::ids::{PyOid, PyTid, oid_bytes, tid_bytes};

/// How long to wait for the commit lock before looking for an interrupt.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_millis(100);

const VOTED: &str = "the transaction was voted already";
const NOT_VOTED: &str = "the transaction has to be voted first";
const NOT_LOCKED: &str = "the transaction has to be locked first, and its conflicts resolved";

/// How far the transaction has come; each step consumes the one before.
#[derive(Debug)]
pub(crate) enum Step {
    Open(Draft),
    Locked(Locked),
    Voted(Voted),
    Over,
}

/// What came of a commit in which nobody else has a say.
enum Alone {
    Committed(Tid),
    Locked(Locked),
    Waiting(Draft),
}

/// A transaction on its way into a storage: put together, locked, written, finished.
///
/// Methods called out of this order raise `StorageTransactionError`, and change nothing.
#[pyclass(name = "Draft", module = "perdure._native", frozen)]
#[derive(Debug)]
pub(crate) struct PyDraft {
    store: Arc<Store>,
    /// Guards the step against two threads that share a transaction. Taken without the GIL only
    /// by who holds it across a wait.
    step: Mutex<Step>,
    /// Has a finish begun, whatever came of it?
    is_decided: AtomicBool,
}

impl PyDraft {
    pub(crate) fn new(store: Arc<Store>, draft: Draft) -> Self {
        Self {
            store,
            step: Mutex::new(Step::Open(draft)),
            is_decided: AtomicBool::new(false),
        }
    }

    fn step(&self) -> MutexGuard<'_, Step> {
        self.step.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Step {
        std::mem::replace(&mut *self.step(), Step::Over)
    }

    /// Take the step that the transaction stands at, if it is the right one; else leave it.
    fn take_if(&self, is_right: impl FnOnce(&Step) -> bool) -> Option<Step> {
        let mut step = self.step();
        is_right(&step).then(|| std::mem::replace(&mut *step, Step::Over))
    }

    /// Take the transaction out between its lock and its vote.
    pub(crate) fn take_locked(&self, py: Python<'_>) -> PyResult<Locked> {
        let is_ready = |step: &Step| match step {
            Step::Locked(locked) => locked.conflicts().is_empty(),
            _ => false,
        };
        match self.take_if(is_ready) {
            Some(Step::Locked(locked)) => Ok(locked),
            _ => Err(out_of_order(py, NOT_LOCKED)),
        }
    }

    /// Put the transaction back, locked.
    pub(crate) fn put_locked(&self, locked: Locked) {
        *self.step() = Step::Locked(locked);
    }

    /// Put the transaction back, voted.
    pub(crate) fn put_voted(&self, voted: Voted) {
        *self.step() = Step::Voted(voted);
    }

    /// Take the transaction out between its vote and its finish.
    pub(crate) fn take_voted(&self, py: Python<'_>) -> PyResult<Voted> {
        match self.take_if(|step| matches!(step, Step::Voted(_))) {
            Some(Step::Voted(voted)) => {
                self.is_decided.store(true, Ordering::Release);
                Ok(voted)
            }
            _ => Err(out_of_order(py, NOT_VOTED)),
        }
    }

    pub(crate) fn with_open<T>(&self, change: impl FnOnce(&mut Draft) -> T) -> PyResult<T> {
        match &mut *self.step() {
            Step::Open(draft) => Ok(change(draft)),
            _ => Err(Python::attach(|py| out_of_order(py, VOTED))),
        }
    }

    /// Add an object's new data.
    pub(crate) fn add(
        &self,
        py: Python<'_>,
        oid: PyOid,
        serial: PyTid,
        data: &[u8],
    ) -> PyResult<()> {
        if data.is_empty() {
            return Err(PyValueError::new_err("an empty record can't be stored"));
        }
        self.store.raise_max_oid(oid.0);
        self.put(py, |draft| {
            draft.store(oid.0, Basis::Revision(serial.0), data);
        })
    }

    /// Add a record; where there have come to be many, put them aside without the GIL.
    fn put(&self, py: Python<'_>, record: impl FnOnce(&mut Draft)) -> PyResult<()> {
        let is_large = self.with_open(|draft| {
            record(draft);
            draft.is_large()
        })?;
        if is_large {
            // The step is let go of before the GIL is asked for: who holds that may wait for it.
            py.detach(|| {
                if let Step::Open(draft) = &mut *self.step() {
                    draft.put_aside();
                }
            });
        }
        Ok(())
    }
}

impl PyDraft {
    /// Note what the transaction refers to.
    pub(crate) fn require(&self, targets: Targets) -> PyResult<()> {
        self.with_open(|draft| draft.require(targets))
    }

    /// Take the transaction out before its lock.
    fn take_open(&self, py: Python<'_>) -> PyResult<Draft> {
        match self.take_if(|step| matches!(step, Step::Open(_))) {
            Some(Step::Open(draft)) => Ok(draft),
            _ => Err(out_of_order(py, VOTED)),
        }
    }

    /// The same, with its storage.
    pub(crate) fn take_to_lock(&self, py: Python<'_>) -> PyResult<(Arc<Store>, Draft)> {
        Ok((Arc::clone(&self.store), self.take_open(py)?))
    }

    /// Does it change objects, and rely on none that it doesn't change, before its lock?
    pub(crate) fn only_writes(&self) -> bool {
        matches!(&*self.step(), Step::Open(draft) if draft.only_writes())
    }

    /// Take the commit lock, waiting without the GIL.
    fn wait_for_lock(&self, py: Python<'_>, mut draft: Draft) -> PyResult<Locked> {
        loop {
            let store = &self.store;
            match py
                .detach(|| store.lock(draft, LOCK_PATIENCE))
                .into_python(py)?
            {
                Ok(locked) => return Ok(locked),
                Err(unlocked) => draft = unlocked,
            }
            py.check_signals()?;
        }
    }

    /// Vote and finish at once, where nobody else has a say in the transaction.
    ///
    /// Returns its id when it is durable and visible. None where there are conflicts, or what it
    /// refers to is missing: then it stands as after `lock`.
    pub(crate) fn commit(&self, py: Python<'_>, now: f64) -> PyResult<Option<Tid>> {
        let mut draft = self.take_open(py)?;
        loop {
            match py
                .detach(|| self.commit_or_lock(draft, now))
                .into_python(py)?
            {
                Alone::Committed(tid) => return Ok(Some(tid)),
                Alone::Locked(locked) => {
                    *self.step() = Step::Locked(locked);
                    return Ok(None);
                }
                Alone::Waiting(unlocked) => draft = unlocked,
            }
            py.check_signals()?;
        }
    }

    /// One attempt at that, as long as the lock is worth waiting for.
    fn commit_or_lock(&self, draft: Draft, now: f64) -> perdure_engine::Result<Alone> {
        let locked = match self.store.lock(draft, LOCK_PATIENCE)? {
            Ok(locked) => locked,
            Err(unlocked) => return Ok(Alone::Waiting(unlocked)),
        };
        if !(locked.conflicts().is_empty() && locked.missing().is_empty()) {
            return Ok(Alone::Locked(locked));
        }
        let tid = locked.least_tid(now);
        let voted = locked.write(tid)?;
        self.is_decided.store(true, Ordering::Release);
        let finished = voted.finish(false)?;
        finished.wait_durable()?;
        finished.release();
        Ok(Alone::Committed(tid))
    }

    /// Note that the transaction relies on a revision being current.
    pub(crate) fn note_read(&self, oid: PyOid, serial: PyTid) -> PyResult<()> {
        self.with_open(|draft| draft.check_current(oid.0, serial.0))
    }
}

/// (oid, current tid, action, position, data before, data now) of an object to be undone.
type UndoFields<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    &'static str,
    u64,
    Option<Bound<'py, PyBytes>>,
    Option<Bound<'py, PyBytes>>,
);

fn undo_fields(py: Python<'_>, step: UndoStep) -> UndoFields<'_> {
    let (action, position, before, now) = match step.action {
        UndoAction::Point(position) => ("point", position, None, None),
        UndoAction::Remove => ("remove", 0, None, None),
        UndoAction::Merge { before, now } => ("merge", 0, Some(before), Some(now)),
        UndoAction::Blocked => ("blocked", 0, None, None),
        UndoAction::Gone => ("gone", 0, None, None),
    };
    let data = |bytes: Option<Vec<u8>>| bytes.map(|bytes| PyBytes::new(py, &bytes));
    let (oid, current) = (oid_bytes(py, step.oid), tid_bytes(py, step.current));
    (oid, current, action, position, data(before), data(now))
}

#[pymethods]
impl PyDraft {
    /// Add an object's new data, made from the revision `serial`.
    fn store(&self, py: Python<'_>, oid: PyOid, serial: PyTid, data: &[u8]) -> PyResult<()> {
        self.add(py, oid, serial, data)
    }

    /// Say that an object does not exist any more; its current revision has to be `serial`.
    fn delete(&self, oid: PyOid, serial: PyTid) -> PyResult<()> {
        self.with_open(|draft| draft.delete(oid.0, Basis::Revision(serial.0)))
    }

    /// Add a copy of a record committed elsewhere; `data` None: the object does not exist.
    ///
    /// Where `previous` names a transaction that holds the same data of the object, the record
    /// refers to them.
    #[pyo3(signature = (oid, data, previous=None))]
    fn restore(
        &self,
        py: Python<'_>,
        oid: PyOid,
        data: Option<&[u8]>,
        previous: Option<PyTid>,
    ) -> PyResult<()> {
        if data.is_some_and(<[u8]>::is_empty) {
            return Err(PyValueError::new_err("an empty record can't be stored"));
        }
        let oid = oid.0;
        let known = match previous {
            Some(tid) => {
                let draft = |draft: &mut Draft| self.store.same_data(draft, oid, tid.0, data);
                self.with_open(draft)?.into_python(py)?
            }
            None => None,
        };
        self.store.raise_max_oid(oid);
        self.put(py, |draft| match (known, data) {
            (Some(position), _) => draft.point(oid, Basis::Copy, position),
            (None, Some(data)) => draft.store(oid, Basis::Copy, data),
            (None, None) => draft.delete(oid, Basis::Copy),
        })
    }

    /// Note that the transaction relies on the revision `serial` of an object being current.
    fn check_current(&self, oid: PyOid, serial: PyTid) -> PyResult<()> {
        self.note_read(oid, serial)
    }

    /// Say how to undo the transaction `tid`, object by object, on top of what was added so far.
    ///
    /// A list of (oid, current tid, action, position, before, now); the action is "point" (to the
    /// data at the position), "remove", "merge" (the data before and now), "blocked" (later
    /// transactions changed an object that it created) or "gone" (no data to merge).
    fn plan_undo<'py>(&self, py: Python<'py>, tid: PyTid) -> PyResult<Vec<UndoFields<'py>>> {
        let store = &self.store;
        let steps = self
            .with_open(|draft| store.plan_undo(draft, tid.0))?
            .into_python(py)?;
        Ok(steps
            .into_iter()
            .map(|step| undo_fields(py, step))
            .collect())
    }

    /// Undo the transaction `tid` where that takes no merging; return the oids that it changes.
    ///
    /// None, and nothing is added, where it does, or where something is in the way.
    fn undo_as_it_is<'py>(
        &self,
        py: Python<'py>,
        tid: PyTid,
    ) -> PyResult<Option<Vec<Bound<'py, PyBytes>>>> {
        let store = &self.store;
        let undo = |draft: &mut Draft| {
            let steps = store.plan_undo(draft, tid.0)?;
            let is_simple =
                |step: &UndoStep| matches!(step.action, UndoAction::Point(_) | UndoAction::Remove);
            if !steps.iter().all(is_simple) {
                return Ok(None);
            }
            for step in &steps {
                match step.action {
                    UndoAction::Point(at) => draft.undo_to(step.oid, step.current, at),
                    _ => draft.delete(step.oid, Basis::Revision(step.current)),
                }
            }
            Ok(Some(steps))
        };
        let steps = py.detach(|| self.with_open(undo))?.into_python(py)?;
        let oids = |steps: Vec<UndoStep>| {
            let steps = steps.iter();
            steps.map(|step| oid_bytes(py, step.oid)).collect()
        };
        Ok(steps.map(oids))
    }

    /// Add a record whose data stand at a position that `plan_undo` gave.
    fn undo_to(&self, oid: PyOid, current: PyTid, position: u64) -> PyResult<()> {
        self.with_open(|draft| draft.undo_to(oid.0, current.0, position))
    }

    /// Whether objects are deleted, before the lock.
    fn deletes(&self) -> PyResult<bool> {
        self.with_open(|draft| draft.deletes())
    }

    /// See what the transaction does to references, for a database that is called `name`.
    ///
    /// `decode(data, oid, tid)` gives a record back as it was before layers put it into another
    /// form; the tid of what the transaction itself has is zero.
    #[pyo3(signature = (name, decode=None))]
    fn review(
        &self,
        py: Python<'_>,
        name: &str,
        decode: Option<Py<PyAny>>,
    ) -> PyResult<PyDraftReview> {
        let raised = Raised::default();
        let decoder = decode.map(|decode| ByCallable {
            decode,
            raised: raised.clone(),
        });
        let look = || {
            let step = self.step();
            let draft = match &*step {
                Step::Open(draft) => draft,
                Step::Locked(locked) => locked.draft(),
                _ => return Ok(None),
            };
            let decoder = decoder.as_ref().map(|decoder| decoder as &dyn Decoder);
            self.store.review(draft, name.as_bytes(), decoder).map(Some)
        };
        // A decoder needs the GIL, which who waits for the step may have.
        let outcome = if decoder.is_some() {
            look()
        } else {
            py.detach(look)
        };
        if let Some(error) = raised.take() {
            return Err(error);
        }
        match outcome.into_python(py)? {
            Some(review) => Ok(PyDraftReview {
                store: Arc::clone(&self.store),
                review,
            }),
            None => Err(out_of_order(py, VOTED)),
        }
    }

    /// How many records were added.
    fn __len__(&self) -> PyResult<usize> {
        match &*self.step() {
            Step::Locked(locked) => Ok(locked.len()),
            Step::Open(draft) => Ok(draft.len()),
            _ => Err(Python::attach(|py| out_of_order(py, VOTED))),
        }
    }

    /// Take the commit lock, if it has not been taken, and look for conflicts: a list of (record,
    /// oid, committed, seen).
    ///
    /// Waits, without the GIL, for a transaction between vote and finish; can be interrupted.
    fn lock<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let is_locked = matches!(&*self.step(), Step::Locked(_));
        if !is_locked {
            let draft = self.take_open(py)?;
            self.put_locked(self.wait_for_lock(py, draft)?);
        }
        self.conflicts(py)
    }

    /// Take the commit lock and, where nothing is in the way, write the transaction, not finished.
    ///
    /// Returns its id, the least that it can have at `now` (seconds since the epoch). None where
    /// the lock had to be waited for, there are conflicts, or what it refers to is missing: then
    /// it stands as after `lock`.
    fn vote<'py>(&self, py: Python<'py>, now: f64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let draft = self.take_open(py)?;
        let store = &self.store;
        let step = py.detach(|| match store.lock(draft, Duration::ZERO)? {
            Ok(locked) if locked.conflicts().is_empty() && locked.missing().is_empty() => {
                let tid = locked.least_tid(now);
                locked.write(tid).map(Step::Voted)
            }
            Ok(locked) => Ok(Step::Locked(locked)),
            Err(unlocked) => Ok(Step::Open(unlocked)),
        });
        let step = match step.into_python(py)? {
            Step::Open(draft) => Step::Locked(self.wait_for_lock(py, draft)?),
            step => step,
        };
        let tid = match &step {
            Step::Voted(voted) => Some(tid_bytes(py, voted.tid())),
            _ => None,
        };
        *self.step() = step;
        Ok(tid)
    }

    /// The conflicts that are not resolved yet: a list of (record, oid, committed, seen).
    fn conflicts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let found: Vec<_> = match &*self.step() {
            Step::Locked(locked) => locked.conflicts().to_vec(),
            _ => return Err(out_of_order(py, NOT_LOCKED)),
        };
        let conflicts = PyList::empty(py);
        for conflict in found {
            conflicts.append((
                conflict.record,
                oid_bytes(py, conflict.oid),
                tid_bytes(py, conflict.committed),
                tid_bytes(py, conflict.seen),
            ))?;
        }
        Ok(conflicts)
    }

    /// What the transaction refers to and doesn't exist, as far as that was asked to be looked up.
    fn missing<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        match &*self.step() {
            Step::Locked(locked) => {
                let missing = locked.missing().iter();
                Ok(missing.map(|oid| oid_bytes(py, *oid)).collect())
            }
            _ => Err(out_of_order(py, NOT_LOCKED)),
        }
    }

    /// The data of the record with this number; None where it has none of its own.
    fn data<'py>(&self, py: Python<'py>, record: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let step = self.step();
        let data = match &*step {
            Step::Open(draft) => draft.data(record),
            Step::Locked(locked) => locked.data(record),
            _ => return Err(out_of_order(py, VOTED)),
        };
        let data = data.into_python(py)?;
        Ok(data.map(|data| PyBytes::new(py, &data)))
    }

    /// The data of the newest revision of a record's object, whether it is visible or not.
    fn committed_data<'py>(
        &self,
        py: Python<'py>,
        record: usize,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        match &*self.step() {
            Step::Locked(locked) => {
                let data = locked.committed_data(record).into_python(py)?;
                Ok(data.map(|data| PyBytes::new(py, &data)))
            }
            _ => Err(out_of_order(py, NOT_LOCKED)),
        }
    }

    /// Settle a conflict by data made from both revisions.
    fn resolve(&self, py: Python<'_>, record: usize, data: &[u8]) -> PyResult<()> {
        if data.is_empty() {
            return Err(PyValueError::new_err("an empty record can't be stored"));
        }
        match &mut *self.step() {
            Step::Locked(locked) => locked.resolve(record, data).into_python(py),
            _ => Err(out_of_order(py, NOT_LOCKED)),
        }
    }

    /// The least id that the transaction can have at `now` (seconds since the epoch).
    fn least_tid<'py>(&self, py: Python<'py>, now: f64) -> PyResult<Bound<'py, PyBytes>> {
        match &*self.step() {
            Step::Locked(locked) => Ok(tid_bytes(py, locked.least_tid(now))),
            _ => Err(out_of_order(py, NOT_LOCKED)),
        }
    }

    /// Write the transaction, not finished: with the least id at `now`, or with the id `tid`.
    #[pyo3(signature = (now, tid=None))]
    fn write<'py>(
        &self,
        py: Python<'py>,
        now: f64,
        tid: Option<PyTid>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let locked = self.take_locked(py)?;
        let tid: Tid = tid.map_or_else(|| locked.least_tid(now), |tid| tid.0);
        let voted = py.detach(|| locked.write(tid)).into_python(py)?;
        *self.step() = Step::Voted(voted);
        Ok(tid_bytes(py, tid))
    }

    /// Commit; returns the transaction's id when it is durable and visible.
    ///
    /// `callback` is called with the id when the transaction is durable, before it is visible;
    /// other threads that read as of it meanwhile wait.
    #[pyo3(signature = (callback=None))]
    pub(crate) fn finish<'py>(
        &self,
        py: Python<'py>,
        callback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let voted = self.take_voted(py)?;
        let tid = tid_bytes(py, voted.tid());
        let held = callback.is_some();
        let finished = py
            .detach(|| {
                let finished = voted.finish(held)?;
                finished.wait_durable()?;
                if held {
                    finished.announce();
                } else {
                    finished.release();
                }
                Ok(finished)
            })
            .into_python(py)?;
        let Some(callback) = callback else {
            return Ok(tid);
        };
        // The transaction is durable: it becomes visible whatever the callback does.
        let called = callback.call1((&tid,));
        py.detach(|| finished.release());
        called.map(|_| tid)
    }

    /// Forget the transaction, wherever it stands.
    fn abort(&self, py: Python<'_>) {
        let step = self.take();
        py.detach(|| drop(step));
    }

    /// Has a finish begun, so that it may be permanent even where that failed?
    fn may_be_committed(&self) -> bool {
        self.is_decided.load(Ordering::Acquire)
    }
}
