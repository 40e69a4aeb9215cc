//! Walking over transactions and records from Python.

use std::sync::{Mutex, PoisonError};

use perdure_engine::{DataRecord, Records, TransactionRecord, Transactions};
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

/// (oid, tid, data, data tid, position, previous position) of a record.
type RecordFields<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Option<Bound<'py, PyBytes>>,
    Option<Bound<'py, PyBytes>>,
    u64,
    u64,
);

/// Yields each transaction as
/// (tid, status, user, description, extension, position, end, records).
#[pyclass(module = "perdure._native", frozen)]
pub(crate) struct TransactionIterator {
    /// Guards the place. A leaf.
    transactions: Mutex<Transactions>,
    backwards: bool,
}

/// Yields each record as (oid, tid, data, data tid, position, previous position).
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
impl RecordIterator {
    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<RecordFields<'py>>> {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let record = records.advance().into_python(py)?;
        Ok(record.map(|record| record_fields(py, &record)))
    }

    /// The next record that may be a blob's; the others before it are passed over.
    fn next_blob<'py>(&self, py: Python<'py>) -> PyResult<Option<RecordFields<'py>>> {
        let next = py.detach(|| {
            let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
            while let Some(record) = records.advance()? {
                if record.data.as_deref().is_some_and(may_be_blob) {
                    return Ok(Some(record));
                }
            }
            Ok(None)
        });
        Ok(next
            .into_python(py)?
            .map(|record| record_fields(py, &record)))
    }
}

/// Does the class description seem to be a blob's? It is short, and comes first.
fn may_be_blob(data: &[u8]) -> bool {
    const NAME: &[u8] = b"ZODB.blob";
    let beginning = data.get(..BLOB_RECORD_LEN_MAX).unwrap_or(data);
    beginning.windows(NAME.len()).any(|part| part == NAME)
}

fn record_fields<'py>(py: Python<'py>, record: &DataRecord) -> RecordFields<'py> {
    (
        oid_bytes(py, record.header.oid),
        tid_bytes(py, record.header.tid),
        record.data.as_deref().map(|data| PyBytes::new(py, data)),
        record.data_tid.map(|tid| tid_bytes(py, tid)),
        record.position,
        record.header.previous,
    )
}
