//! Where a connection's records come from.

use perdure_format::Oid;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCFunction};

use super::{kinds, persistence};
use crate::storage::{RecordBytes, StorageView};

/// What a connection reads through.
pub enum Source<'a, 'py> {
    /// One of perdure's own views, asked directly.
    View(&'a StorageView),
    /// Anything else with a method `load`.
    Other(&'a Bound<'py, PyAny>),
}

/// The current revision of an object.
pub struct Record<'a, 'py> {
    data: Data<'a, 'py>,
    /// The transaction that wrote it.
    pub serial: [u8; 8],
}

enum Data<'a, 'py> {
    Buffer(RecordBytes<'a>),
    Python(Bound<'py, PyBytes>),
}

impl<'a, 'py> Source<'a, 'py> {
    /// How to read through `storage`.
    ///
    /// A view's `load` is passed by only while it is the view's own: one that was overridden or
    /// replaced is called.
    pub fn of(storage: &'a Bound<'py, PyAny>) -> PyResult<Self> {
        if let Ok(view) = storage.cast::<StorageView>() {
            let load = storage.getattr(intern!(storage.py(), "load"))?;
            if let Ok(load) = load.cast_exact::<PyCFunction>()
                // SAFETY: a live built-in function; who it belongs to is only compared.
                && unsafe { ffi::PyCFunction_GetSelf(load.as_ptr()) } == storage.as_ptr()
            {
                return Ok(Self::View(view.get()));
            }
        }
        Ok(Self::Other(storage))
    }

    /// `storage` as a view whose `load` is its own, where its class is marked as `version` and
    /// such a view was seen of that class.
    pub fn known_view(storage: &'a Bound<'py, PyAny>, version: u32) -> Option<Self> {
        let view = storage.cast::<StorageView>().ok()?;
        let is_known = version != 0 && kinds::version(&storage.get_type()) == version;
        if !is_known {
            return None;
        }
        let own = persistence::attributes(storage).ok()?;
        let is_replaced = own.contains(intern!(storage.py(), "load")).ok()?;
        (!is_replaced).then(|| Self::View(view.get()))
    }

    /// The current revision of the object with this oid.
    pub fn load(&self, py: Python<'py>, oid: &Bound<'py, PyAny>) -> PyResult<Record<'a, 'py>> {
        if let Self::View(view) = self
            && let Ok(bytes) = oid.cast::<PyBytes>()
            && let Ok(bytes) = bytes.as_bytes().try_into()
        {
            let (record, tid) = view.load_record(py, Oid::from_bytes(bytes))?;
            return Ok(Record {
                data: Data::Buffer(record),
                serial: tid.to_bytes(),
            });
        }
        let Self::Other(storage) = self else {
            return Err(PyTypeError::new_err("an oid is 8 bytes"));
        };
        let pair = storage.call_method1(intern!(py, "load"), (oid,))?;
        let (data, serial): (Bound<'py, PyAny>, Bound<'py, PyBytes>) = pair.extract()?;
        let serial = serial.as_bytes().try_into();
        Ok(Record {
            data: Data::Python(data.cast_into().map_err(PyErr::from)?),
            serial: serial.map_err(|_| PyTypeError::new_err("a serial is 8 bytes"))?,
        })
    }
}

impl<'py> Record<'_, 'py> {
    /// The record's data.
    pub fn as_slice(&self) -> &[u8] {
        match &self.data {
            Data::Buffer(buffer) => buffer.as_slice(),
            Data::Python(bytes) => bytes.as_bytes(),
        }
    }

    /// The record's data, for Python.
    pub fn to_python(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        match &self.data {
            Data::Buffer(buffer) => PyBytes::new(py, buffer.as_slice()),
            Data::Python(bytes) => bytes.clone(),
        }
    }
}
