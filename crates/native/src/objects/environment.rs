//! What a record is read for: a connection, its object cache and its classes.

use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyType};

use super::classes::Memory;
use super::failure::Attempt;
use super::persistence::{Cache, Layout, Persistent, new_object};
use super::values;

/// The connection that objects are made for.
pub struct Environment<'py> {
    /// The connection itself.
    pub connection: Bound<'py, PyAny>,
    /// The connection's object cache.
    pub cache: Cache<'py>,
    /// The layout of persistent objects.
    pub layout: &'py Layout,
}

impl<'py> Environment<'py> {
    fn py(&self) -> Python<'py> {
        self.connection.py()
    }

    /// The global that a record names as `names` (module and name, a line feed between them).
    pub fn global(&self, memory: &mut Memory, names: &[u8]) -> Attempt<Bound<'py, PyAny>> {
        let (module, name) = values::names(names)?;
        Ok(memory.class(self.layout, self.py(), names, || {
            self.connection
                .call_method1(intern!(self.py(), "_find_class"), (module, name))
        })?)
    }

    /// The object that a reference stands for.
    pub fn persistent(
        &self,
        memory: &mut Memory,
        reference: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(pair) = reference.cast_exact::<PyTuple>() {
            if pair.len() == 2 {
                let (oid, cls) = (pair.get_borrowed_item(0)?, pair.get_borrowed_item(1)?);
                if let (Ok(oid), Ok(cls)) = (oid.cast_exact::<PyBytes>(), cls.cast::<PyType>()) {
                    return self.with_class(memory, &oid, &cls);
                }
            }
        } else if let Ok(oid) = reference.cast_exact::<PyBytes>() {
            return match self.cache.get(oid)? {
                Some(found) => Ok(found),
                None => self.made_from_record(oid),
            };
        }
        self.other(reference)
    }

    /// The object with this oid, or a new ghost of this class.
    pub fn with_class(
        &self,
        memory: &mut Memory,
        oid: &Bound<'py, PyBytes>,
        cls: &Bound<'py, PyType>,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.cache.get(oid)? {
            Some(found) => Ok(found),
            None => self.new_with_class(memory, oid, cls),
        }
    }

    /// The object with this oid (or a new ghost of this class), and the oid as an object.
    pub fn referenced(
        &self,
        memory: &mut Memory,
        oid: [u8; 8],
        cls: &Bound<'py, PyType>,
    ) -> PyResult<(Bound<'py, PyAny>, Bound<'py, PyBytes>)> {
        let key = memory.key(self.py(), oid);
        let Some(found) = self.cache.get(&key)? else {
            return Ok((self.new_with_class(memory, &key, cls)?, key));
        };
        let known = self.layout.persistent(&found).and_then(Persistent::oid);
        match known.map(Bound::cast_into_exact::<PyBytes>) {
            Some(Ok(known)) => {
                memory.give_back(key);
                Ok((found, known))
            }
            _ => Ok((found, key)),
        }
    }

    fn new_with_class(
        &self,
        memory: &mut Memory,
        oid: &Bound<'py, PyBytes>,
        cls: &Bound<'py, PyType>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let kind = memory.kinds.of(self.layout, cls)?;
        if kind.is_broken {
            let reference = PyTuple::new(self.py(), [oid.as_any(), cls.as_any()])?;
            return self.other(&reference);
        }
        if kind.is_made_plainly {
            let fresh = new_object(cls, &PyTuple::empty(self.py()))?;
            return self.cache.add_ghost(self.layout, oid, fresh);
        }
        let ghost = match new_object(cls, &PyTuple::empty(self.py())) {
            Ok(ghost) => ghost,
            // Its class has come to need arguments: they are in the object's own record.
            Err(error) if error.is_instance_of::<PyTypeError>(self.py()) => {
                return self.made_from_record(oid);
            }
            Err(error) => return Err(error),
        };
        self.cache.new_ghost(self.layout, oid, &ghost)?;
        Ok(ghost)
    }

    fn made_from_record(&self, oid: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        self.connection
            .call_method1(intern!(self.py(), "get"), (oid,))
    }

    /// References of all other kinds: weak ones, to other databases, of old times.
    fn other(&self, reference: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let reader = self.connection.getattr(intern!(self.py(), "_reader"))?;
        reader.call_method1(intern!(self.py(), "_persistent_load"), (reference,))
    }
}
