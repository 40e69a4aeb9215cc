//! `perdure._native.StorageView`: what one connection reads through, at one snapshot.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perdure_engine::{Draft, Error, Found, Located, Metadata, Patience, Store, Targets};
use perdure_format::{Oid, Tid};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple};

use super::PyStorage;
use super::draft::PyDraft;
use super::errors::{IntoPython, to_python};
use crate::ids::{PyOid, PyTid, oid_bytes, tid_bytes};

/// Buffers are kept for the next read unless a large record made them this large.
const KEPT_BUFFER_BYTES_MAX: usize = 1 << 20;

/// The data of a record, in a buffer that goes back to its view when this is dropped.
pub(crate) struct RecordBytes<'a> {
    view: &'a StorageView,
    buffer: Vec<u8>,
    located: Located,
}

impl RecordBytes<'_> {
    /// The data.
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.buffer
            .get(self.located.start..self.located.end)
            .unwrap_or_default()
    }
}

impl Drop for RecordBytes<'_> {
    fn drop(&mut self) {
        self.view.give_back(std::mem::take(&mut self.buffer));
    }
}

/// One consistent view of a storage: it reads at `snapshot`, and writes one transaction at a time.
#[pyclass(module = "perdure._native", subclass, dict, weakref, frozen)]
#[derive(Debug)]
pub(crate) struct StorageView {
    store: Arc<Store>,
    snapshot: AtomicU64,
    /// The view's own last transaction.
    own: AtomicU64,
    /// A historical view stays where it is.
    fixed: bool,
    /// The storage's garbage collections when the view was made: what it has seen since may be
    /// gone without a transaction that says so.
    collections: u64,
    /// A buffer for the next read. A leaf.
    spare: Mutex<Vec<u8>>,
    /// The transaction that is being stored. A leaf.
    storing: Mutex<Storing>,
}

/// The transaction that a view is storing.
#[derive(Debug, Default)]
enum Storing {
    /// There is none.
    #[default]
    Nothing,
    /// It has no draft yet; what it refers to.
    Expected(Option<Targets>),
    /// It is put together in this draft.
    Into(Py<PyDraft>),
    /// It is permanent already; its id.
    Committed(Tid),
}

impl StorageView {
    fn snapshot_tid(&self) -> Tid {
        Tid(self.snapshot.load(Ordering::Acquire))
    }

    fn storing(&self) -> MutexGuard<'_, Storing> {
        self.storing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_buffer(&self) -> Vec<u8> {
        std::mem::take(&mut *self.spare.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn give_back(&self, buffer: Vec<u8>) {
        if buffer.capacity() <= KEPT_BUFFER_BYTES_MAX {
            *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = buffer;
        }
    }

    /// Read, keeping the GIL unless the read has to wait for the device.
    fn find(&self, py: Python<'_>, oid: Oid, snapshot: Tid) -> PyResult<(Found, Vec<u8>)> {
        let mut buffer = self.take_buffer();
        let found = self.store.load(oid, snapshot, &mut buffer, Patience::Once);
        let found = match found.into_python(py)? {
            Found::WouldWait => {
                let store = &self.store;
                py.detach(|| store.load(oid, snapshot, &mut buffer, Patience::Wait))
                    .into_python(py)?
            }
            found => found,
        };
        Ok((found, buffer))
    }

    /// Have the vote look for objects that the transaction refers to; ignored without one.
    ///
    /// `loaded` were there at the snapshot, of `unknown` nothing is known.
    pub(crate) fn require(
        &self,
        py: Python<'_>,
        loaded: Vec<Oid>,
        unknown: Vec<Oid>,
    ) -> PyResult<()> {
        let targets = Targets {
            loaded,
            unknown,
            snapshot: self.snapshot_tid(),
            collections: self.collections,
        };
        match &mut *self.storing() {
            Storing::Into(draft) => draft.bind(py).get().require(targets)?,
            Storing::Expected(before) => targets.add_to(before),
            Storing::Nothing | Storing::Committed(_) => (),
        }
        Ok(())
    }

    /// Move to the newest snapshot, or to `at`, forth or back; those of the oids that others
    /// changed since that are `wanted`.
    pub(crate) fn move_on<'py>(
        &self,
        py: Python<'py>,
        at: Option<Tid>,
        wanted: impl Fn(Oid) -> bool,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let before = self.snapshot_tid();
        let last = self.store.last_transaction();
        let target = at.map_or(last, |at| at.min(last));
        if self.fixed || target == before {
            return Ok(Vec::new());
        }
        let (first, last) = (before.min(target), before.max(target));
        let (_, changes) = self.store.changes_since(first).into_python(py)?;
        // Only now: where it isn't known what changed, the next attempt has to ask again.
        self.snapshot.store(target.0, Ordering::Release);
        // Going back, the view's own transactions are undone in what it shows.
        let own = Tid(if target > before {
            self.own.load(Ordering::Acquire)
        } else {
            0
        });
        let seen = changes.iter().take_while(|published| published.tid <= last);
        Ok(seen
            .filter(|published| published.tid != own)
            .flat_map(|published| published.oids.iter())
            .filter(|oid| wanted(**oid))
            .map(|oid| oid_bytes(py, *oid))
            .collect())
    }

    /// Why there is no revision at the snapshot.
    fn missing(&self, oid: Oid, found: Found) -> Error {
        let exists = found == Found::Nothing
            && !self.fixed
            && self
                .store
                .position(oid)
                .is_ok_and(|position| position.is_some());
        if exists {
            Error::NotAtSnapshot {
                oid,
                snapshot: self.snapshot_tid(),
            }
        } else {
            Error::NoObject { oid }
        }
    }

    /// The data of an object's revision at the snapshot, and its tid.
    ///
    /// Raises `POSKeyError` where the object does not exist there.
    pub(crate) fn load_record(&self, py: Python<'_>, oid: Oid) -> PyResult<(RecordBytes<'_>, Tid)> {
        match self.find(py, oid, self.snapshot_tid())? {
            (Found::Record(located), buffer) => Ok((
                RecordBytes {
                    view: self,
                    buffer,
                    located,
                },
                located.tid,
            )),
            (found, buffer) => {
                self.give_back(buffer);
                Err(to_python(py, &self.missing(oid, found)))
            }
        }
    }
}

/// What a transaction tells of itself, which may be text.
fn text_or_bytes(value: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    if let Ok(text) = value.cast::<PyString>() {
        return Ok(text.to_str()?.as_bytes().to_vec());
    }
    value.extract()
}

/// A transaction's extension as it is stored: see `perdure.storage.records`.
fn extension_of(transaction: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let py = transaction.py();
    let pickled = transaction.getattr_opt(intern!(py, "extension_bytes"))?;
    if let Some(pickled) = pickled
        && let Ok(pickled) = pickled.cast::<PyBytes>()
    {
        return Ok(pickled.as_bytes().to_vec());
    }
    py.import(intern!(py, "perdure.storage.records"))?
        .call_method1(intern!(py, "extension_bytes_of"), (transaction,))?
        .extract()
}

#[pymethods]
impl StorageView {
    /// A view of `storage`; with `snapshot`, one that stays there.
    #[new]
    #[pyo3(signature = (storage, snapshot=None, *_args, **_kwargs))]
    fn new(
        storage: PyRef<'_, PyStorage>,
        snapshot: Option<PyTid>,
        _args: &Bound<'_, PyTuple>,
        _kwargs: Option<&Bound<'_, PyDict>>,
    ) -> Self {
        let store = Arc::clone(&storage.store);
        let fixed = snapshot.is_some();
        let snapshot = snapshot.map_or_else(|| store.last_transaction(), |tid| tid.0);
        Self {
            collections: store.collections(),
            store,
            snapshot: AtomicU64::new(snapshot.0),
            own: AtomicU64::new(0),
            fixed,
            spare: Mutex::default(),
            storing: Mutex::default(),
        }
    }

    /// The transaction up to which the view sees.
    #[getter]
    fn snapshot<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        tid_bytes(py, self.snapshot_tid())
    }

    /// The object's data and tid at the snapshot; POSKeyError where it does not exist there.
    #[pyo3(signature = (oid, version=""))]
    fn load<'py>(
        &self,
        py: Python<'py>,
        oid: PyOid,
        version: &str,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let _ = version;
        let (record, tid) = self.load_record(py, oid.0)?;
        Ok((PyBytes::new(py, record.as_slice()), tid_bytes(py, tid)))
    }

    /// Do nothing: the newest state is always known.
    #[pyo3(signature = (force=true))]
    fn sync(&self, force: bool) {
        let _ = (self, force);
    }

    /// Take note that a transaction has ended.
    #[pyo3(name = "afterCompletion")]
    fn after_completion(&self) {
        let _ = self;
    }

    /// Move to the newest snapshot; the oids that others changed since.
    ///
    /// With `at`, move to that transaction instead, forth or back.
    #[pyo3(signature = (at=None))]
    fn advance<'py>(
        &self,
        py: Python<'py>,
        at: Option<PyTid>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        self.move_on(py, at.map(|at| at.0), |_| true)
    }

    /// Note the tid of a transaction of the view's own, which will be no news to it.
    fn note_own(&self, tid: PyTid) {
        self.own.store(tid.0.0, Ordering::Release);
    }

    /// Begin to store `transaction`: with a draft that has its user, description and extension.
    fn _begin(&self, py: Python<'_>, transaction: &Bound<'_, PyAny>) -> PyResult<()> {
        let metadata = Metadata {
            user: text_or_bytes(&transaction.getattr(intern!(py, "user"))?)?,
            description: text_or_bytes(&transaction.getattr(intern!(py, "description"))?)?,
            extension: extension_of(transaction)?,
        };
        let mut draft = Draft::new(metadata).into_python(py)?;
        self.store.lend_room(&mut draft);
        let draft = Py::new(py, PyDraft::new(Arc::clone(&self.store), draft))?;
        self.attach(py, draft)
    }

    /// Begin to store a transaction whose draft will be attached before its vote.
    fn expect_draft(&self) {
        *self.storing() = Storing::Expected(None);
    }

    /// Begin to store a transaction, whose draft `begin` made.
    fn attach(&self, py: Python<'_>, draft: Py<PyDraft>) -> PyResult<()> {
        let attached = Storing::Into(draft.clone_ref(py));
        let before = std::mem::replace(&mut *self.storing(), attached);
        match before {
            Storing::Expected(Some(targets)) => draft.bind(py).get().require(targets),
            _ => Ok(()),
        }
    }

    /// The draft of the transaction that is being stored; None where there is none.
    #[getter]
    fn draft(&self, py: Python<'_>) -> Option<Py<PyDraft>> {
        match &*self.storing() {
            Storing::Into(draft) => Some(draft.clone_ref(py)),
            _ => None,
        }
    }

    /// Vote and finish the transaction that is being stored, where nobody else has a say in it.
    ///
    /// Returns its id when it is durable and visible: there is nothing to `finish` then. None
    /// where there are conflicts, or what it refers to is missing: its draft stands as after
    /// `lock`.
    fn commit<'py>(&self, py: Python<'py>, now: f64) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Some(draft) = self.draft(py) else {
            return Err(super::no_transaction(py));
        };
        let Some(tid) = draft.bind(py).get().commit(py, now)? else {
            return Ok(None);
        };
        *self.storing() = Storing::Committed(tid);
        self.own.store(tid.0, Ordering::Release);
        Ok(Some(tid_bytes(py, tid)))
    }

    /// The id of the last transaction, if it was `commit` that made it permanent, else None.
    #[getter]
    fn committed<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        match *self.storing() {
            Storing::Committed(tid) => Some(tid_bytes(py, tid)),
            _ => None,
        }
    }

    /// Finish the transaction that is being stored; see `Draft.finish`.
    ///
    /// What it changed is no news when the view next advances.
    #[pyo3(signature = (callback=None))]
    fn finish<'py>(
        &self,
        py: Python<'py>,
        callback: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let Some(draft) = self.detach() else {
            return Err(super::no_transaction(py));
        };
        let tid = draft.bind(py).get().finish(py, callback)?;
        self.own.store(
            u64::from_be_bytes(tid.as_bytes().try_into()?),
            Ordering::Release,
        );
        Ok(tid)
    }

    /// Take away and return the draft of the transaction that is being stored.
    fn detach(&self) -> Option<Py<PyDraft>> {
        match std::mem::take(&mut *self.storing()) {
            Storing::Into(draft) => Some(draft),
            _ => None,
        }
    }

    /// An oid that no object has.
    fn new_oid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let oid = self.store.new_oid().into_python(py)?;
        Ok(oid_bytes(py, oid))
    }

    /// Add an object's new data, made from the revision `serial`, to the transaction.
    #[pyo3(signature = (oid, serial, data, version="", transaction=None))]
    fn store(
        &self,
        py: Python<'_>,
        oid: PyOid,
        serial: &Bound<'_, PyAny>,
        data: &[u8],
        version: &str,
        transaction: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = (version, transaction);
        let serial = super::serial_of(serial)?;
        match &*self.storing() {
            Storing::Into(draft) => draft.bind(py).get().add(py, oid, PyTid(serial), data),
            _ => Err(super::no_transaction(py)),
        }
    }

    /// Note that the transaction relies on the revision `serial` of an object being current.
    #[pyo3(name = "checkCurrentSerialInTransaction", signature = (oid, serial, transaction=None))]
    fn check_current(
        &self,
        py: Python<'_>,
        oid: PyOid,
        serial: PyTid,
        transaction: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let _ = transaction;
        match &*self.storing() {
            Storing::Into(draft) => draft.bind(py).get().note_read(oid, serial),
            _ => Err(super::no_transaction(py)),
        }
    }
}
