//! The writer: from a connection's objects to records.

use std::sync::{Mutex, MutexGuard, PoisonError};

use perdure_format::pickle::{Reference, references};
use pyo3::exceptions::{PyAttributeError, PyRecursionError, PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use pyo3::{PyTraverseError, PyVisit};

use super::connection::ConnectionBase;
use super::failure::{Attempt, Failure};
use super::intake::{Intake, Odd};
use super::kinds::stored_attributes;
use super::persistence::{self, Layout};
use super::pickler::{Pickler, Workshop};
use crate::storage::StorageView;

/// How many objects are taken in before other threads, and interrupts, get their turn.
const TAKEN_AT_ONCE: usize = 64;

/// Makes records of a connection's objects.
#[pyclass(subclass, frozen, module = "perdure._native")]
pub struct ObjectWriter {
    connection: Py<PyAny>,
    /// What is kept from record to record, where the connection has no place for it.
    workshop: Mutex<Option<Box<Workshop>>>,
    /// New objects that were met, in order.
    new: Mutex<Vec<Py<PyAny>>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl ObjectWriter {
    #[new]
    fn new(connection: Py<PyAny>) -> Self {
        Self {
            connection,
            workshop: Mutex::default(),
            new: Mutex::default(),
        }
    }

    /// The record of `obj`.
    fn serialize<'py>(
        &self,
        py: Python<'py>,
        obj: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        self.with_record(py, obj, |made, data| {
            Ok(made.unwrap_or_else(|| PyBytes::new(py, data)))
        })
    }

    /// Take the new objects at the end of `waiting` into a transaction, and what they reach.
    ///
    /// Stops at one that is not of the usual kind, and after some. Returns a record that needs a
    /// look before it is stored, if it has come to one: oid, serial, data, object.
    fn take_in<'py>(
        &self,
        py: Python<'py>,
        waiting: &Bound<'py, PyList>,
        intake: &Intake,
    ) -> PyResult<Option<Odd<'py>>> {
        let layout = layout(py)?;
        for _ in 0..TAKEN_AT_ONCE {
            let Some(last) = waiting.len().checked_sub(1) else {
                break;
            };
            let obj = waiting.get_item(last)?;
            let Some(fields) = layout.persistent(&obj) else {
                break;
            };
            let usual = self.with_workshop(py, |workshop| {
                intake.oid_of_usual(layout, &mut workshop.kinds, &obj)
            });
            let Some(oid) = usual? else { break };
            waiting.del_item(last)?;
            let odd = self.with_record(py, &obj, |_, data| {
                let reached = std::mem::take(&mut *locked(&self.new));
                intake.take(fields, oid, data, reached, waiting)
            });
            if let Some(odd) = odd? {
                return Ok(Some(odd));
            }
        }
        Ok(None)
    }

    /// Take the changed objects from `number` on in `registered` into a transaction.
    ///
    /// Returns the number of the first that was not taken, and a record that needs a look as
    /// `take_in` does. Stops, besides, at an object that is not of the usual kind, after some, and
    /// when new objects were met, which are then in `waiting`.
    fn take_over<'py>(
        &self,
        py: Python<'py>,
        registered: &Bound<'py, PyList>,
        number: usize,
        waiting: &Bound<'py, PyList>,
        intake: &Intake,
    ) -> PyResult<(usize, Option<Odd<'py>>)> {
        let layout = layout(py)?;
        for number in number..number.saturating_add(TAKEN_AT_ONCE) {
            // What the objects' classes do may change the list.
            if number >= registered.len() || !waiting.is_empty() {
                return Ok((number, None));
            }
            let obj = registered.get_item(number)?;
            let usual = self.with_workshop(py, |workshop| {
                intake.oid_of_changed(layout, &mut workshop.kinds, &obj)
            });
            let (Some(oid), Some(fields)) = (usual?, layout.persistent(&obj)) else {
                return Ok((number, None));
            };
            let odd = self.with_record(py, &obj, |_, data| {
                let reached = std::mem::take(&mut *locked(&self.new));
                intake.take(fields, oid, data, reached, waiting)
            })?;
            if odd.is_some() {
                return Ok((number + 1, odd));
            }
        }
        Ok((number.saturating_add(TAKEN_AT_ONCE), None))
    }

    /// Queue `obj` as if it had been met.
    fn put(&self, obj: Py<PyAny>) {
        locked(&self.new).push(obj);
    }

    /// The new objects that were met since the last call, in order.
    fn take_new<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let taken = std::mem::take(&mut *locked(&self.new));
        PyList::new(py, taken)
    }

    /// Have the vote of the view's transaction look for what the records refer to.
    ///
    /// That is all that was referred to since the last call, by any writer of the connection;
    /// with another storage's view it is forgotten.
    fn require_targets(&self, py: Python<'_>, view: &Bound<'_, PyAny>) -> PyResult<()> {
        let (loaded, unknown) = {
            let mut home = locked(self.workshop(py));
            let Some(workshop) = home.as_mut() else {
                return Ok(());
            };
            let workshop: &mut Workshop = workshop;
            (
                std::mem::take(&mut workshop.loaded),
                std::mem::take(&mut workshop.unknown),
            )
        };
        if loaded.is_empty() && unknown.is_empty() {
            return Ok(());
        }
        match view.cast::<StorageView>() {
            Ok(view) => view.get().require(py, loaded, unknown),
            Err(_) => Ok(()),
        }
    }

    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    /// The new object that was met last; those met meanwhile come first.
    fn __next__(&self) -> Option<Py<PyAny>> {
        locked(&self.new).pop()
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.connection)?;
        if let Ok(new) = self.new.try_lock() {
            for object in new.iter() {
                visit.call(object)?;
            }
        }
        Ok(())
    }

    fn __clear__(&self) {
        let new = std::mem::take(&mut *locked(&self.new));
        drop(new);
    }
}

impl ObjectWriter {
    /// Make the record of `obj`, and hand it over: as an object, too, if it came as one.
    fn with_record<'py, T>(
        &self,
        py: Python<'py>,
        obj: &Bound<'py, PyAny>,
        use_it: impl FnOnce(Option<Bound<'py, PyBytes>>, &[u8]) -> PyResult<T>,
    ) -> PyResult<T> {
        self.with_workshop(py, |workshop| {
            workshop.out.clear();
            let mut state = None;
            let attempt = self.write(py, workshop, obj, &mut state);
            workshop.memo.clear();
            locked(&self.new).append(&mut workshop.new);
            match attempt {
                Ok(()) => use_it(None, &workshop.out),
                Err(Failure::Unsupported | Failure::Damaged(_)) => {
                    let record = self.write_by_standard_pickle(workshop, obj, state)?;
                    use_it(Some(record.clone()), record.as_bytes())
                }
                Err(Failure::Raised(error)) => Err(explained(py, error, obj, state)?),
            }
        })
    }

    /// Use what is kept from one record to the next.
    fn with_workshop<T>(&self, py: Python<'_>, work: impl FnOnce(&mut Workshop) -> T) -> T {
        let home = self.workshop(py);
        let mut workshop = locked(home).take().unwrap_or_default();
        let result = work(&mut workshop);
        workshop.tidy_up();
        let replaced = locked(home).replace(workshop);
        drop(replaced);
        result
    }

    /// Where what is needed from one record to the next is kept: with the connection, if it can.
    fn workshop<'a>(&'a self, py: Python<'a>) -> &'a Mutex<Option<Box<Workshop>>> {
        let connection = self.connection.bind(py).cast::<ConnectionBase>();
        connection.map_or(&self.workshop, |connection| connection.get().workshop())
    }

    /// Write the record of `obj`; `state` is set once the object was asked for it.
    fn write<'py>(
        &self,
        py: Python<'py>,
        workshop: &mut Workshop,
        obj: &Bound<'py, PyAny>,
        state: &mut Option<Bound<'py, PyAny>>,
    ) -> Attempt<()> {
        let layout = layout(py)?;
        let class = obj.get_type();
        let kind = workshop.kinds.of(layout, &class)?;
        let (is_plain, is_ordinary) = (kind.has_plain_state, kind.is_ordinary);
        let has_new_arguments = kind.has_new_arguments;
        let is_described_plainly = kind.is_described_plainly && !kind.is_broken;
        let connection = self.connection.bind(py);
        let mut pickler = Pickler {
            py,
            layout,
            connection,
            workshop,
            depth: 0,
        };
        if is_ordinary && !has_new_arguments && is_plain {
            pickler.dump(&class)?;
            if layout
                .persistent(obj)
                .is_some_and(persistence::Persistent::is_ghost)
            {
                obj.call_method0(intern!(py, "_p_activate"))?;
            }
            return pickler.dump_attributes(stored_attributes(obj)?);
        }
        if is_described_plainly {
            pickler.dump(&class)?;
        } else {
            pickler.dump(&description(obj)?)?;
        }
        let found = state.insert(obj.call_method0(intern!(py, "__getstate__"))?);
        pickler.dump(found)
    }

    fn write_by_standard_pickle<'py>(
        &self,
        workshop: &mut Workshop,
        obj: &Bound<'py, PyAny>,
        state: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let py = obj.py();
        let module = py.import(intern!(py, "perdure.serialize.writer"))?;
        let writer = module
            .getattr(intern!(py, "StandardObjectWriter"))?
            .call1((self.connection.bind(py),))?;
        let state = match state {
            Some(state) => state,
            None => obj.call_method0(intern!(py, "__getstate__"))?,
        };
        let record = writer.call_method1(intern!(py, "dump"), (obj, state));
        let new: Vec<Py<PyAny>> = writer.call_method0(intern!(py, "take_new"))?.extract()?;
        locked(&self.new).extend(new);
        let record = record?.cast_into::<PyBytes>()?;
        // What can't be read here has no references of the usual kind.
        let _ = references(record.as_bytes(), |reference| {
            if let Reference::Same(oid) = reference {
                workshop.unknown.push(oid);
            }
        });
        Ok(record)
    }
}

fn layout(py: Python<'_>) -> PyResult<&Layout> {
    persistence::layout(py)?
        .ok_or_else(|| PyRuntimeError::new_err("the installed `persistent` is not known"))
}

/// The class description of an object's record.
fn description<'py>(obj: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    let py = obj.py();
    py.import(intern!(py, "perdure.serialize.writer"))?
        .call_method1(intern!(py, "describe"), (obj,))
}

/// The error to raise for what pickling has raised: one that leads to the culprit.
fn explained<'py>(
    py: Python<'py>,
    error: PyErr,
    obj: &Bound<'py, PyAny>,
    state: Option<Bound<'py, PyAny>>,
) -> PyResult<PyErr> {
    let pickling_error = py
        .import(intern!(py, "pickle"))?
        .getattr(intern!(py, "PicklingError"))?;
    let is_of_pickling = error.is_instance_of::<PyTypeError>(py)
        || error.is_instance_of::<PyAttributeError>(py)
        || error.is_instance_of::<PyRecursionError>(py)
        || error.matches(py, pickling_error)?;
    if !is_of_pickling {
        return Ok(error);
    }
    let state = match state {
        Some(state) => state,
        None => obj.call_method0(intern!(py, "__getstate__"))?,
    };
    let module = py.import(intern!(py, "perdure.serialize.unpicklable"))?;
    let made = module.call_method1(intern!(py, "explanation"), (error.value(py), obj, state))?;
    Ok(PyErr::from_value(made))
}
