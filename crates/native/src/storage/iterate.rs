//! Walking over transactions and records from Python.

use std::sync::{Mutex, PoisonError};

use perdure_engine::{RecordView, Records, TransactionRecord, Transactions};
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::errors::IntoPython;
use crate::ids::{oid_bytes, tid_bytes};

/// How far into a record its class's name may stand.
const BLOB_RECORD_LEN_MAX: usize = 64;

/// (tid, status, user, description, extension, position, end, records) of a transaction.
type TransactionFields<'py> = (
    Bound<'py, PyBytes>,
    &'static str,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    u64,
    u64,
    RecordIterator,
);

/// One revision of one object, as an iteration meets it.
#[pyclass(
    name = "DataRecord",
    module = "perdure._native",
    subclass,
    get_all,
    set_all
)]
pub(crate) struct PyDataRecord {
    oid: Py<PyBytes>,
    tid: Py<PyBytes>,
    data: Option<Py<PyBytes>>,
    data_txn: Option<Py<PyBytes>>,
    pos: u64,
    prev: u64,
}

/// Yields each transaction as
/// (tid, status, user, description, extension, position, end, records).
#[pyclass(module = "perdure._native", frozen)]
pub(crate) struct TransactionIterator {
    /// Guards the place. A leaf.
    transactions: Mutex<Transactions>,
    backwards: bool,
}

/// Yields each record.
#[pyclass(module = "perdure._native", frozen)]
pub(crate) struct RecordIterator {
    /// Guards the place. A leaf.
    records: Mutex<Records>,
}

impl TransactionIterator {
    pub(crate) fn new(transactions: Transactions, backwards: bool) -> Self {
        Self {
            transactions: Mutex::new(transactions),
            backwards,
        }
    }
}

fn fields<'py>(
    py: Python<'py>,
    transaction: &TransactionRecord,
    records: Records,
) -> TransactionFields<'py> {
    let status = match transaction.header.status {
        perdure_format::file::Status::Packed => "p",
        _ => " ",
    };
    (
        tid_bytes(py, transaction.header.tid),
        status,
        PyBytes::new(py, transaction.user()),
        PyBytes::new(py, transaction.description()),
        PyBytes::new(py, transaction.extension()),
        transaction.position,
        transaction.end(),
        RecordIterator {
            records: Mutex::new(records),
        },
    )
}

#[pymethods]
impl TransactionIterator {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<TransactionFields<'py>>> {
        let next = py.detach(|| {
            let mut transactions = self
                .transactions
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let next = if self.backwards {
                transactions.retreat()
            } else {
                transactions.advance()
            };
            let Some(transaction) = next? else {
                return Ok(None);
            };
            let records = transactions.records_of(&transaction);
            Ok(Some((transaction, records)))
        });
        let next = next.into_python(py)?;
        Ok(next.map(|(transaction, records)| fields(py, &transaction, records)))
    }
}

#[pymethods]
impl PyDataRecord {
    /// No record belongs to a version: what ZODB once called so is gone.
    #[classattr]
    #[pyo3(name = "version")]
    const VERSION: &'static str = "";

    #[new]
    #[pyo3(signature = (oid, tid, data, data_txn=None, pos=0, prev=0))]
    fn new(
        oid: Py<PyBytes>,
        tid: Py<PyBytes>,
        data: Option<Py<PyBytes>>,
        data_txn: Option<Py<PyBytes>>,
        pos: u64,
        prev: u64,
    ) -> Self {
        Self {
            oid,
            tid,
            data,
            data_txn,
            pos,
            prev,
        }
    }
}

impl PyDataRecord {
    fn of(py: Python<'_>, record: RecordView<'_>) -> Self {
        Self {
            oid: oid_bytes(py, record.header.oid).unbind(),
            tid: tid_bytes(py, record.header.tid).unbind(),
            data: record.data.map(|data| PyBytes::new(py, data).unbind()),
            data_txn: record.data_tid.map(|tid| tid_bytes(py, tid).unbind()),
            pos: record.position,
            prev: record.header.previous,
        }
    }
}

#[pymethods]
impl RecordIterator {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyDataRecord>> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records
            .advance_with(|record| PyDataRecord::of(py, record))
            .into_python(py)
    }

    /// The next record that may be a blob's; the others before it are passed over.
    fn next_blob(&self, py: Python<'_>) -> PyResult<Option<PyDataRecord>> {
        let next = py.detach(|| {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(found) = records.advance_with(|record| {
                let may_be = record.data.is_some_and(may_be_blob);
                may_be.then(|| record.to_record())
            })? {
                if found.is_some() {
                    return Ok(found);
                }
            }
            Ok(None)
        });
        let next = next.into_python(py)?;
        Ok(next.map(|record| PyDataRecord::of(py, record.view())))
    }
}

/// Does the class description seem to be a blob's? It is short, and comes first.
fn may_be_blob(data: &[u8]) -> bool {
    const NAME: &[u8] = b"ZODB.blob";
    let beginning = data.get(..BLOB_RECORD_LEN_MAX).unwrap_or(data);
    beginning.windows(NAME.len()).any(|part| part == NAME)
}
