//! `perdure._native.Storage`: a storage of the engine, open.

mod check;
mod collect;
mod decoding;
mod draft;
mod errors;
mod history;
mod iterate;
mod joint;
mod pack;
mod undo_references;
mod view;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use perdure_engine::{
    Draft, Error, Found, Metadata, Options, PackOptions, Packed, Patience, Store,
};
use perdure_format::file::Status;
use perdure_format::{Oid, Tid, timestamp};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use check::Reporter;
use decoding::Raised;
pub(crate) use draft::PyDraft;
pub(crate) use errors::os_error;
use errors::{IntoPython, to_python};
use iterate::{PyDataRecord, RecordIterator, TransactionIterator};
use pack::Watch;
pub(crate) use view::{RecordBytes, StorageView};

use crate::ids::{PyOid, PyTid, oid_bytes, tid_bytes};

/// Add this module's classes to `perdure._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyStorage>()?;
    module.add_class::<PyDraft>()?;
    module.add_class::<StorageView>()?;
    module.add_class::<TransactionIterator>()?;
    module.add_class::<RecordIterator>()?;
    module.add_class::<PyDataRecord>()?;
    module.add_class::<joint::PyGate>()?;
    module.add_class::<collect::PyCollector>()?;
    module.add_class::<undo_references::PyDraftReview>()?;
    module.add_class::<undo_references::PyLaterReferrers>()?;
    module.add_function(wrap_pyfunction!(joint::prepare_together, module)?)?;
    module.add_function(wrap_pyfunction!(joint::vote_together, module)?)?;
    module.add_function(wrap_pyfunction!(joint::in_doubt, module)?)?;
    module.add_function(wrap_pyfunction!(joint::settle_in_doubt_by_hand, module)?)?;
    module.add_function(wrap_pyfunction!(check::check_path, module)?)?;
    module.add_function(wrap_pyfunction!(check::check_members, module)?)?;
    module.add_function(wrap_pyfunction!(check::find_broken, module)?)?;
    module.add_function(wrap_pyfunction!(tid_of_time, module)?)?;
    module.add_function(wrap_pyfunction!(time_of_tid, module)?)
}

/// Return the tid (8 bytes) of a time in seconds since the epoch (UTC).
#[pyfunction]
fn tid_of_time(py: Python<'_>, seconds: f64) -> Bound<'_, PyBytes> {
    tid_bytes(py, timestamp::tid_of_time(seconds))
}

/// Return the time, in seconds since the epoch (UTC), of a tid (8 bytes).
#[pyfunction]
fn time_of_tid(tid: PyTid) -> f64 {
    timestamp::time_of_tid(tid.0)
}

/// The revision that a new object is stored with may be None, empty or zeros.
pub(crate) fn serial_of(serial: &Bound<'_, PyAny>) -> PyResult<Tid> {
    if serial.is_none() {
        return Ok(Tid::ZERO);
    }
    if let Ok(bytes) = serial.cast::<PyBytes>()
        && bytes.as_bytes().is_empty()
    {
        return Ok(Tid::ZERO);
    }
    serial.extract::<PyTid>().map(|tid| tid.0)
}

/// The error for a call that belongs to a transaction when there is none.
pub(crate) fn no_transaction(py: Python<'_>) -> PyErr {
    let class = py
        .import("perdure.errors")
        .and_then(|m| m.getattr("StorageTransactionError"));
    match class.and_then(|class| class.call1(("no transaction was begun here",))) {
        Ok(error) => PyErr::from_value(error),
        Err(failure) => failure,
    }
}

/// (data, tid, next tid) of a revision.
type RecordBefore<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
);

/// (oid, tid, data, next oid) of a record.
type RecordAndNext<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
);

/// (tid, oids) of a transaction.
type ChangeFields<'py> = (Bound<'py, PyBytes>, Vec<Bound<'py, PyBytes>>);

/// (verified, unverified, damaged) of a comparison with the checksums.
type ChecksumFields<'py> = (u64, u64, Vec<DamageFields<'py>>);

/// Of a damaged transaction: position, tid, whose record it is, and what is wrong.
type DamageFields<'py> = (
    u64,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
    String,
);

/// Pairs within the database, and those to others by their names.
type PairsFields<'py> = (Bound<'py, PyBytes>, BTreeMap<String, Bound<'py, PyBytes>>);

/// A storage of the engine, in a file or in memory.
#[pyclass(name = "Storage", module = "perdure._native", frozen)]
#[derive(Debug)]
pub(crate) struct PyStorage {
    pub(crate) store: Arc<Store>,
}

impl PyStorage {
    fn read(&self, py: Python<'_>, oid: Oid, snapshot: Tid) -> PyResult<(Found, Vec<u8>)> {
        let mut buffer = Vec::new();
        let found = py.detach(|| self.store.load(oid, snapshot, &mut buffer, Patience::Wait));
        Ok((found.into_python(py)?, buffer))
    }

    /// The last visible transaction, when all is visible that somebody who reads up to `snapshot`
    /// may have been told of.
    fn visible_for(&self, py: Python<'_>, snapshot: Tid) -> Tid {
        if self.store.has_announced(snapshot) {
            return py.detach(|| self.store.visible_for(snapshot));
        }
        self.store.last_transaction()
    }
}

fn slice<'py>(
    py: Python<'py>,
    buffer: &[u8],
    located: perdure_engine::Located,
) -> Bound<'py, PyBytes> {
    PyBytes::new(
        py,
        buffer.get(located.start..located.end).unwrap_or_default(),
    )
}

#[pymethods]
impl PyStorage {
    /// Open or create a storage in the file `path`.
    #[staticmethod]
    #[pyo3(signature = (path, *, create=false, read_only=false, stop=None, quota_bytes=None, verify_reads=false, record_bytes_max=None))]
    #[expect(clippy::too_many_arguments, reason = "keywords in Python")]
    fn open(
        py: Python<'_>,
        path: PathBuf,
        create: bool,
        read_only: bool,
        stop: Option<PyTid>,
        quota_bytes: Option<u64>,
        verify_reads: bool,
        record_bytes_max: Option<u64>,
    ) -> PyResult<Self> {
        let stop = stop.map(|tid| tid.0);
        let options = Options {
            create,
            read_only,
            stop,
            quota_bytes,
            verify_reads,
            record_bytes_max,
        };
        let store = py.detach(|| Store::open(&path, options)).into_python(py)?;
        Ok(Self {
            store: Arc::new(store),
        })
    }

    /// A new storage in memory.
    #[staticmethod]
    fn in_memory(py: Python<'_>, name: &str) -> PyResult<Self> {
        Ok(Self {
            store: Arc::new(Store::in_memory(name).into_python(py)?),
        })
    }

    /// What was cut off at open: (position, length, file that keeps it, reason), or None.
    #[getter]
    fn cut(&self) -> Option<(u64, u64, PathBuf, String)> {
        let cut = self.store.cut()?;
        Some((
            cut.position,
            cut.len,
            cut.kept_in.clone(),
            cut.reason.clone(),
        ))
    }

    /// Can nothing be committed here?
    #[getter]
    fn read_only(&self) -> bool {
        self.store.is_read_only()
    }

    /// The current data and tid of an object; POSKeyError where it does not exist.
    fn load<'py>(
        &self,
        py: Python<'py>,
        oid: PyOid,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        match self.read(py, oid.0, self.visible_for(py, Tid::MAX))? {
            (Found::Record(located), buffer) => {
                Ok((slice(py, &buffer, located), tid_bytes(py, located.tid)))
            }
            _ => Err(to_python(py, &Error::NoObject { oid: oid.0 })),
        }
    }

    /// Data, tid and next tid (None: current) of an object's revision before `tid`; None where
    /// there was none yet. POSKeyError where the object never existed, or was gone by then.
    fn load_before<'py>(
        &self,
        py: Python<'py>,
        oid: PyOid,
        tid: PyTid,
    ) -> PyResult<Option<RecordBefore<'py>>> {
        let asked = Tid(tid.0.0.saturating_sub(1));
        let visible = self.visible_for(py, asked);
        let snapshot = asked.min(visible);
        match self.read(py, oid.0, snapshot)? {
            (Found::Record(located), buffer) => {
                let next = located.next.filter(|next| *next <= visible);
                let next = next.map(|next| tid_bytes(py, next));
                Ok(Some((
                    slice(py, &buffer, located),
                    tid_bytes(py, located.tid),
                    next,
                )))
            }
            (Found::Nothing, _) if self.store.position(oid.0).into_python(py)?.is_none() => {
                Err(to_python(py, &Error::NoObject { oid: oid.0 }))
            }
            (Found::Deleted(tid), _) => Err(to_python(py, &Error::NoRevision { oid: oid.0, tid })),
            _ => Ok(None),
        }
    }

    /// The data of exactly one revision; POSKeyError where there is none.
    fn load_serial<'py>(
        &self,
        py: Python<'py>,
        oid: PyOid,
        tid: PyTid,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let mut buffer = Vec::new();
        let found = py.detach(|| self.store.load_revision(oid.0, tid.0, &mut buffer));
        match found.into_python(py)? {
            Found::Record(located) => Ok(slice(py, &buffer, located)),
            _ => Err(to_python(
                py,
                &Error::NoRevision {
                    oid: oid.0,
                    tid: tid.0,
                },
            )),
        }
    }

    /// The tid of an object's current revision; POSKeyError where it does not exist.
    fn current_tid<'py>(&self, py: Python<'py>, oid: PyOid) -> PyResult<Bound<'py, PyBytes>> {
        self.visible_for(py, Tid::MAX);
        match py
            .detach(|| self.store.current_tid(oid.0))
            .into_python(py)?
        {
            Some(tid) => Ok(tid_bytes(py, tid)),
            None => Err(to_python(py, &Error::NoObject { oid: oid.0 })),
        }
    }

    /// Descriptions of the last `size` revisions of an object, newest first.
    ///
    /// `annotations` makes a dictionary of a transaction's extension, where there is one.
    fn history<'py>(
        &self,
        py: Python<'py>,
        oid: PyOid,
        size: usize,
        annotations: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyList>> {
        let entries = py
            .detach(|| self.store.history(oid.0, size))
            .into_python(py)?;
        history::described(py, &entries, annotations)
    }

    /// The transactions from `start` to `stop`, both included where they exist.
    #[pyo3(signature = (start=None, stop=None))]
    fn transactions(
        &self,
        py: Python<'_>,
        start: Option<PyTid>,
        stop: Option<PyTid>,
    ) -> PyResult<TransactionIterator> {
        let start = start.map_or(Tid::ZERO, |tid| tid.0);
        let stop = stop.map_or(Tid::MAX, |tid| tid.0);
        let found = py.detach(|| self.store.transactions()?.between(start, stop));
        let found = found.into_python(py)?;
        Ok(TransactionIterator::new(found, false))
    }

    /// All transactions, the last one first.
    fn transactions_backwards(&self, py: Python<'_>) -> PyResult<TransactionIterator> {
        let found = self.store.transactions().into_python(py)?;
        Ok(TransactionIterator::new(found, true))
    }

    /// The transactions that changed an object after `tid`, oldest first.
    fn revisions_after<'py>(
        &self,
        py: Python<'py>,
        oid: PyOid,
        tid: PyTid,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let later = py
            .detach(|| self.store.revisions_after(oid.0, tid.0))
            .into_python(py)?;
        Ok(later.into_iter().map(|tid| tid_bytes(py, tid)).collect())
    }

    /// (oid, tid, data, next oid) of the first existing object at or after `oid`; None behind the
    /// last one. The next oid is None for the last object.
    fn next_record<'py>(
        &self,
        py: Python<'py>,
        oid: PyOid,
    ) -> PyResult<Option<RecordAndNext<'py>>> {
        let snapshot = self.store.last_transaction();
        let mut buffer = Vec::new();
        let found = py.detach(|| self.store.record_at_or_after(oid.0, snapshot, &mut buffer));
        let Some((oid, located, next)) = found.into_python(py)? else {
            return Ok(None);
        };
        Ok(Some((
            oid_bytes(py, oid),
            tid_bytes(py, located.tid),
            slice(py, &buffer, located),
            next.map(|next| oid_bytes(py, next)),
        )))
    }

    /// The last `count` transactions, oldest first, each as (tid, oids that it changed).
    fn last_changes<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Vec<ChangeFields<'py>>> {
        let changes = py
            .detach(|| self.store.last_changes(count))
            .into_python(py)?;
        let fields = |change: &perdure_engine::Published| {
            let oids = change.oids.iter().map(|oid| oid_bytes(py, *oid)).collect();
            (tid_bytes(py, change.tid), oids)
        };
        Ok(changes.iter().map(fields).collect())
    }

    /// The position of an object's newest record in the data file; None where there is none.
    fn position(&self, py: Python<'_>, oid: PyOid) -> PyResult<Option<u64>> {
        py.detach(|| self.store.position(oid.0)).into_python(py)
    }

    /// What changes whenever objects are removed: the last transaction that deleted some, and the
    /// number of packs that dropped garbage.
    fn removals<'py>(&self, py: Python<'py>) -> (Bound<'py, PyBytes>, u64) {
        let last = self.store.last_deletion();
        (tid_bytes(py, last), self.store.collections())
    }

    /// Whether no object was deleted after a transaction, as far as is known since the opening.
    fn is_whole_since(&self, tid: PyTid) -> bool {
        self.store.is_whole_since(tid.0)
    }

    /// Wait, without the GIL, until all transactions that are finished now are visible.
    fn catch_up(&self, py: Python<'_>) {
        py.detach(|| self.store.catch_up());
    }

    /// Have no transaction up to `tid` become visible after this.
    ///
    /// Waits, without the GIL, for what is on its way with such an id; can be interrupted.
    fn settle_past(&self, py: Python<'_>, tid: PyTid) -> PyResult<()> {
        let store = &self.store;
        while !py.detach(|| store.settle_past(tid.0, draft::LOCK_PATIENCE)) {
            py.check_signals()?;
        }
        Ok(())
    }

    /// The last visible transaction; zeros where there is none.
    fn last_transaction<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        tid_bytes(py, self.store.last_transaction())
    }

    /// How many objects have a record.
    fn object_count(&self) -> u64 {
        self.store.object_count()
    }

    /// The length of the data file in bytes.
    fn size_bytes(&self) -> u64 {
        self.store.size_bytes()
    }

    /// An oid that no object has.
    fn new_oid<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        self.store
            .new_oid()
            .into_python(py)
            .map(|oid| oid_bytes(py, oid))
    }

    /// The greatest oid ever given out.
    #[getter]
    fn max_oid<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        oid_bytes(py, self.store.max_oid())
    }

    /// Give out only oids greater than this one from now on.
    fn raise_max_oid(&self, oid: PyOid) {
        self.store.raise_max_oid(oid.0);
    }

    /// Begin a transaction; with `tid` and `status`, a copy of one committed elsewhere.
    #[pyo3(signature = (user, description, extension, tid=None, status=" "))]
    fn begin(
        &self,
        py: Python<'_>,
        user: Vec<u8>,
        description: Vec<u8>,
        extension: Vec<u8>,
        tid: Option<PyTid>,
        status: &str,
    ) -> PyResult<PyDraft> {
        let metadata = Metadata {
            user,
            description,
            extension,
        };
        let draft = match tid {
            None => Draft::new(metadata),
            Some(tid) => Draft::copy_of(metadata, tid.0, status_of(status)?),
        };
        let mut draft = draft.into_python(py)?;
        self.store.lend_room(&mut draft);
        Ok(PyDraft::new(Arc::clone(&self.store), draft))
    }

    /// Drop revisions not current at `until`, and with `collect_garbage` unreachable objects.
    ///
    /// `references(data, oids)` adds a record's references to a list; None: the records are plain
    /// pickles. `progress(phase, done, total)` is called now and then; what it raises stops the
    /// pack. `members`, names, storages and decoders, are the databases of its collection in the order in
    /// which they are locked: what they lead to is no garbage; None: others do not count. Returns
    /// (bytes before, bytes after, objects before, objects after), or None where there was nothing
    /// to do.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a keyword of the Python method"
    )]
    #[pyo3(signature = (
        until, *, collect_garbage=true, keep_old=true, references=None, progress=None, members=None
    ))]
    fn pack(
        &self,
        py: Python<'_>,
        until: PyTid,
        collect_garbage: bool,
        keep_old: bool,
        references: Option<Py<PyAny>>,
        progress: Option<Py<PyAny>>,
        members: Option<Vec<collect::MemberFields<'_>>>,
    ) -> PyResult<Option<(u64, u64, u64, u64)>> {
        let options = PackOptions {
            until: until.0,
            collect_garbage,
            keep_old,
        };
        let raised = Raised::default();
        let members = members.unwrap_or_default().into_iter();
        let members: Vec<_> = members
            .map(|fields| collect::member_of(fields, &raised))
            .collect();
        let mut watch = Watch::new(references, progress, raised.clone());
        let packed = py.detach(|| self.store.pack(options, &members, &mut watch));
        let packed = watch.outcome(packed).into_python(py)??;
        let sizes = |packed: Packed| {
            (
                packed.bytes_before,
                packed.bytes_after,
                packed.objects_before,
                packed.objects_after,
            )
        };
        Ok(packed.map(sizes))
    }

    /// Put a file that somebody else packed, with the suffix `.pack`, in place of the data file.
    ///
    /// Returns the same as `pack`.
    fn adopt_packed(&self, py: Python<'_>, keep_old: bool) -> PyResult<(u64, u64, u64, u64)> {
        let packed = py
            .detach(|| self.store.adopt_packed(keep_old))
            .into_python(py)?;
        Ok((
            packed.bytes_before,
            packed.bytes_after,
            packed.objects_before,
            packed.objects_after,
        ))
    }

    /// Read everything and say what is wrong; `progress(done, total)` is called now and then.
    #[pyo3(signature = (progress=None))]
    fn check<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<Bound<'py, PyDict>> {
        let mut reporter = Reporter::new(progress);
        let checked = py.detach(|| {
            self.store
                .check(&mut |done, total| reporter.report(done, total))
        });
        let checked = reporter.outcome(py, checked)?;
        check::to_dict(py, &checked)
    }

    /// Compare everything with the checksums beside the file: (verified transactions, those of
    /// which no checksums are known, and (position, tid, problem) of each that is damaged).
    fn check_checksums<'py>(&self, py: Python<'py>) -> PyResult<ChecksumFields<'py>> {
        let found = py.detach(|| self.store.check_checksums()).into_python(py)?;
        let damaged = found.damaged.into_iter();
        let damaged = damaged
            .map(|each| {
                let oid = each.oid.map(|oid| oid_bytes(py, oid));
                (each.position, tid_bytes(py, each.tid), oid, each.problem)
            })
            .collect();
        Ok((found.verified, found.unverified, damaged))
    }

    /// Who refers to whom: pairs of the target's and the referrer's oid, sorted, 16 bytes a pair;
    /// those within the database, and those to each other member of a collection by its name.
    #[pyo3(signature = (progress=None))]
    fn reference_pairs<'py>(
        &self,
        py: Python<'py>,
        progress: Option<Py<PyAny>>,
    ) -> PyResult<PairsFields<'py>> {
        let mut reporter = Reporter::new(progress);
        let pairs = py.detach(|| {
            self.store
                .reference_pairs(&mut |done, total| reporter.report(done, total))
        });
        let pairs = reporter.outcome(py, pairs)?;
        let others = pairs.others.into_iter();
        let others = others.map(|(name, pairs)| (name, PyBytes::new(py, &pairs)));
        Ok((PyBytes::new(py, &pairs.own), others.collect()))
    }

    /// The distinct first halves of `pairs` that are the oids of no object, sorted.
    fn missing_targets<'py>(
        &self,
        py: Python<'py>,
        pairs: &[u8],
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        let missing = py.detach(|| self.store.missing_targets(pairs));
        let missing = missing.into_python(py)?.into_iter();
        Ok(missing.map(|oid| oid_bytes(py, oid)).collect())
    }

    /// Save the index now.
    fn save_index(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.store.save_index()).into_python(py)
    }

    /// In a process that was forked: hold no lock for the one that opened the storage.
    fn forked(&self) {
        self.store.forked();
    }

    /// Save the index and free the lock; a closed storage raises StorageError when it is used.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.store.close()).into_python(py)
    }
}

fn status_of(status: &str) -> PyResult<Status> {
    match status {
        " " => Ok(Status::Committed),
        "p" => Ok(Status::Packed),
        other => Err(PyValueError::new_err(format!(
            "a transaction's status is ' ' or 'p', not {other:?}"
        ))),
    }
}
