//! Records that layers over a storage keep in another form, decoded by those layers.

use std::sync::{Arc, Mutex, PoisonError};

use perdure_engine::{Decoder, KeptRecord};
use perdure_format::Oid;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::ids::{oid_bytes, tid_bytes};

/// What Python raised first while the engine ran, on whichever thread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Raised(Arc<Mutex<Option<PyErr>>>);

impl Raised {
    /// Keep an error, unless there is one; its message.
    pub(crate) fn put(&self, error: PyErr) -> String {
        let message = error.to_string();
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get_or_insert(error);
        message
    }

    /// Take the error out.
    pub(crate) fn take(&self) -> Option<PyErr> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Decodes records by a callable, as `decode(data, oid, tid)`.
#[derive(Debug)]
pub(crate) struct ByCallable {
    pub(crate) decode: Py<PyAny>,
    pub(crate) raised: Raised,
}

impl Decoder for ByCallable {
    fn decode(&self, records: &mut [KeptRecord]) -> Result<(), (Oid, String)> {
        Python::attach(|py| {
            for record in records {
                let decoded = decoded(py, &self.decode, record);
                record.data = decoded.map_err(|error| (record.oid, self.raised.put(error)))?;
            }
            Ok(())
        })
    }
}

fn decoded(py: Python<'_>, decode: &Py<PyAny>, record: &KeptRecord) -> PyResult<Vec<u8>> {
    let data = PyBytes::new(py, &record.data);
    let decoded = decode.call1(
        py,
        (data, oid_bytes(py, record.oid), tid_bytes(py, record.tid)),
    )?;
    Ok(decoded.bind(py).cast::<PyBytes>()?.as_bytes().to_vec())
}
