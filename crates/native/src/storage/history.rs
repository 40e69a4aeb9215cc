//! What an object's history tells Python of its revisions.

use perdure_engine::HistoryEntry;
use perdure_format::{seal, timestamp};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::ids::tid_bytes;

/// A dictionary for each revision. `annotations` makes one of a transaction's extension.
pub(super) fn described<'py>(
    py: Python<'py>,
    entries: &[HistoryEntry],
    annotations: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyList>> {
    let described = PyList::empty(py);
    for entry in entries {
        described.append(description(py, entry, annotations)?)?;
    }
    Ok(described)
}

fn description<'py>(
    py: Python<'py>,
    entry: &HistoryEntry,
    annotations: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyDict>> {
    let transaction = &entry.transaction;
    let extension = transaction.extension();
    // What describes the revision is not hidden by annotations of the same names.
    let found = if seal::unsealed(extension).is_empty() {
        PyDict::new(py)
    } else {
        let bytes = PyBytes::new(py, extension);
        annotations.call1((bytes,))?.cast_into::<PyDict>()?
    };
    let tid = tid_bytes(py, transaction.header.tid);
    let time = timestamp::time_of_tid(transaction.header.tid);
    found.set_item(intern!(py, "time"), time)?;
    found.set_item(intern!(py, "tid"), &tid)?;
    found.set_item(intern!(py, "serial"), &tid)?;
    let user = PyBytes::new(py, transaction.user());
    found.set_item(intern!(py, "user_name"), user)?;
    let text = PyBytes::new(py, transaction.description());
    found.set_item(intern!(py, "description"), text)?;
    found.set_item(intern!(py, "size"), entry.data_len)?;
    Ok(found)
}
