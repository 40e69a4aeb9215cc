//! Taking objects straight into a transaction: no Python frame, no copy of the record.

use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyList};

use perdure_format::{Oid, Tid};

use super::kinds::Kinds;
use super::oids::OidSet;
use super::persistence::{Layout, Persistent};
use crate::ids::{PyOid, PyTid};
use crate::storage::PyDraft;

/// A record that needs a look before it is stored: oid, serial, data, object.
pub type Odd<'py> = (
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyBytes>,
    Bound<'py, PyAny>,
);

/// Where objects go that a commit stores.
#[pyclass(frozen, module = "perdure._native")]
pub struct Intake {
    connection: Py<PyAny>,
    draft: Py<PyDraft>,
    cache: Py<PyAny>,
    creating: Py<PyDict>,
    missing: Py<PyList>,
    large_bytes: usize,
    done: Py<OidSet>,
    stored: Py<PyList>,
    objects: Py<PyList>,
}

#[pymethods]
impl Intake {
    #[new]
    fn new(
        connection: &Bound<'_, PyAny>,
        draft: Py<PyDraft>,
        done: Py<OidSet>,
        stored: Py<PyList>,
        objects: Py<PyList>,
    ) -> PyResult<Self> {
        let py = connection.py();
        let creating = connection.getattr(intern!(py, "_creating"))?;
        let missing = connection.getattr(intern!(py, "_missing"))?;
        let large_bytes = connection.getattr(intern!(py, "large_record_size"))?;
        Ok(Self {
            connection: connection.clone().unbind(),
            draft,
            cache: connection.getattr(intern!(py, "_cache"))?.unbind(),
            creating: creating.cast_into()?.unbind(),
            missing: missing.cast_into()?.unbind(),
            large_bytes: large_bytes.extract()?,
            done,
            stored,
            objects,
        })
    }
}

impl Intake {
    /// The oid of `object`, if it is of the usual kind: new, reached, and known to be so.
    pub fn oid_of_usual<'py>(
        &self,
        layout: &Layout,
        kinds: &mut Kinds,
        object: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let py = object.py();
        let Some(fields) = layout.persistent(object) else {
            return Ok(None);
        };
        let oid = fields.oid().map(Bound::cast_into_exact::<PyBytes>);
        let Some(Ok(oid)) = oid else {
            return Ok(None);
        };
        let kind = kinds.of(layout, &object.get_type())?;
        let is_usual = kind.is_ordinary
            && !kind.is_blob
            && !kind.is_broken
            && fields.is_new()
            && fields.jar().is_some_and(|jar| jar.is(&self.connection))
            && self.creating.bind(py).contains(&oid)?;
        Ok(is_usual.then_some(oid))
    }

    /// The oid of `object`, if it is of the usual kind: changed, and not stored yet.
    pub fn oid_of_changed<'py>(
        &self,
        layout: &Layout,
        kinds: &mut Kinds,
        object: &Bound<'py, PyAny>,
    ) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Some(fields) = layout.persistent(object) else {
            return Ok(None);
        };
        let oid = fields.oid().map(Bound::cast_into_exact::<PyBytes>);
        let Some(Ok(oid)) = oid else {
            return Ok(None);
        };
        let kind = kinds.of(layout, &object.get_type())?;
        let is_usual = kind.is_ordinary
            && !kind.is_blob
            && !kind.is_broken
            && fields.is_changed()
            && !fields.is_new()
            && fields.jar().is_some_and(|jar| jar.is(&self.connection))
            && !self.done.get().has(oid.as_bytes());
        Ok(is_usual.then_some(oid))
    }

    /// Store the record of `object`, and put what it has reached into `waiting`.
    ///
    /// A record that is large, or refers to what isn't there, is returned instead.
    pub fn take<'py>(
        &self,
        fields: Persistent<'_, 'py>,
        oid: Bound<'py, PyBytes>,
        data: &[u8],
        reached: Vec<Py<PyAny>>,
        waiting: &Bound<'py, PyList>,
    ) -> PyResult<Option<Odd<'py>>> {
        let py = waiting.py();
        fields.set_size(data.len());
        self.done.get().insert(oid.as_bytes());
        for object in reached {
            self.add(object.bind(py))?;
            waiting.append(object)?;
        }
        let object = fields.object().clone();
        if data.len() >= self.large_bytes || !self.missing.bind(py).is_empty() {
            let serial = PyBytes::new(py, &fields.serial());
            return Ok(Some((oid, serial, PyBytes::new(py, data), object)));
        }
        let id = PyOid(Oid::from_bytes(oid.as_bytes().try_into()?));
        let serial = PyTid(Tid::from_bytes(fields.serial()));
        self.stored.bind(py).append(oid)?;
        self.objects.bind(py).append(object)?;
        self.draft.bind(py).get().add(py, id, serial, data)?;
        Ok(None)
    }

    /// Note that `object` is created, and put it into the cache.
    fn add(&self, object: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = object.py();
        let oid = object.getattr(intern!(py, "_p_oid"))?;
        let creating = self.creating.bind(py);
        // SAFETY: a dictionary, and live objects; what comes back is borrowed and not looked at.
        let kept = unsafe {
            let because_reached = PyBool::new(py, true).as_ptr();
            ffi::PyDict_SetDefault(creating.as_ptr(), oid.as_ptr(), because_reached)
        };
        if kept.is_null() {
            return Err(PyErr::fetch(py));
        }
        match self.cache.bind(py).set_item(&oid, object) {
            Err(error) if error.is_instance_of::<PyTypeError>(py) => {
                // An object wrapped for acquisition.
                py.import(intern!(py, "perdure.connection.commit"))?
                    .call_method1(intern!(py, "into_cache"), (&self.connection, oid, object))?;
                Ok(())
            }
            other => other,
        }
    }
}
