//! The base class of connections: finds, makes and fills their objects.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyString, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use super::classes::{Memory, is_broken};
use super::environment::Environment;
use super::failure::{Attempt, Failure};
use super::persistence::{self, new_object};
use super::unpickler::Unpickler;

/// What the connection's constructor sets.
#[derive(Default)]
struct Parts {
    cache: Option<Py<PyAny>>,
    storage: Option<Py<PyAny>>,
    opened: Option<Py<PyAny>>,
}

/// The base class of connections.
#[pyclass(subclass, dict, weakref, frozen, module = "perdure._native")]
pub struct ConnectionBase {
    /// Guards the attributes; held only while one is read or replaced.
    parts: Mutex<Parts>,
    /// What was learnt from records; taken out while a record is read.
    memory: Mutex<Option<Box<Memory>>>,
    /// Objects that aren't in the cache yet while they load themselves (persistent classes).
    making: Mutex<Vec<(Py<PyBytes>, Py<PyAny>)>>,
    loads: AtomicU64,
}

/// The value that a lock guards; a panic elsewhere doesn't make it unusable.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A record as the storage gave it, and the tid that wrote it.
struct Record<'py> {
    data: Bound<'py, PyBytes>,
    serial: Bound<'py, PyAny>,
}

#[pymethods]
impl ConnectionBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            parts: Mutex::default(),
            memory: Mutex::default(),
            making: Mutex::default(),
            loads: AtomicU64::new(0),
        }
    }

    #[getter(_cache)]
    fn cache(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        locked(&self.parts)
            .cache
            .as_ref()
            .map(|cache| cache.clone_ref(py))
    }

    #[setter(_cache)]
    fn set_cache(&self, cache: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut locked(&self.parts).cache, cache);
        drop(before);
    }

    #[getter(_storage)]
    fn storage(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        locked(&self.parts)
            .storage
            .as_ref()
            .map(|storage| storage.clone_ref(py))
    }

    #[setter(_storage)]
    fn set_storage(&self, storage: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut locked(&self.parts).storage, storage);
        drop(before);
    }

    #[getter]
    fn opened(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        locked(&self.parts)
            .opened
            .as_ref()
            .map(|opened| opened.clone_ref(py))
    }

    #[setter]
    fn set_opened(&self, opened: Option<Py<PyAny>>) {
        let before = std::mem::replace(&mut locked(&self.parts).opened, opened);
        drop(before);
    }

    #[getter(_load_count)]
    fn load_count(&self) -> u64 {
        self.loads.load(Ordering::Relaxed)
    }

    #[setter(_load_count)]
    fn set_load_count(&self, count: u64) {
        self.loads.store(count, Ordering::Relaxed);
    }

    /// Load the state of the ghost `obj`.
    fn setstate(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let environment = Self::environment(slf)?;
        let Some(ghost) = environment.layout.persistent(obj) else {
            return Self::load_persistent_class(slf, obj);
        };
        let oid = ghost.oid().unwrap_or_else(|| py.None().into_bound(py));
        this.check_open(py, obj, &oid)?;
        let record = this.load(py, &oid)?;
        let state = this
            .state(&environment, &record.data)
            .or_else(|error| match error {
                Failure::Raised(error) => Err(unloadable(&error, &record.data, obj)?),
                Failure::Unsupported => read_by_standard_pickle(slf, &record.data),
            })?;
        set_state(&environment, obj, state)?;
        match record
            .serial
            .cast_exact::<PyBytes>()
            .map(|serial| serial.as_bytes().try_into())
        {
            Ok(Ok(serial)) => ghost.set_serial_and_size(serial, record.data.as_bytes().len()),
            _ => return Err(PyTypeError::new_err("a serial is 8 bytes")),
        }
        if obj
            .get_type()
            .getattr_opt(intern!(py, "_p_blob_committed"))?
            .is_some()
        {
            slf.call_method1(intern!(py, "_blob_loaded"), (obj, oid, record.serial))?;
        }
        Ok(())
    }

    /// The object at `oid`: from the cache, just added, or a new ghost.
    fn get<'py>(slf: &Bound<'py, Self>, oid: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if locked(&this.parts).opened.is_none() {
            return Err(raised(
                py,
                "ConnectionStateError",
                "The database connection is closed",
            ));
        }
        let environment = Self::environment(slf)?;
        if let Some(found) = environment.cache.get(oid)? {
            return Ok(found);
        }
        if let Some(found) = Self::made_or_added(slf, oid)? {
            return Ok(found);
        }
        let record = this.load(py, oid.as_any())?;
        let ghost = this
            .ghost(&environment, &record.data)
            .or_else(|error| match error {
                Failure::Raised(error) => Err(error),
                Failure::Unsupported => slf
                    .getattr(intern!(py, "_reader"))?
                    .call_method1(intern!(py, "getGhost"), (&record.data,)),
            })?;
        this.keep_new_ghost(&environment, oid, &ghost)?;
        Ok(ghost)
    }

    fn __getitem__<'py>(
        slf: &Bound<'py, Self>,
        oid: &Bound<'py, PyBytes>,
    ) -> PyResult<Bound<'py, PyAny>> {
        slf.call_method1(intern!(slf.py(), "get"), (oid,))
            .map(Bound::into_any)
    }

    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        // The collector never waits: what is in use is not garbage.
        if let Ok(parts) = self.parts.try_lock() {
            visit.call(&parts.cache)?;
            visit.call(&parts.storage)?;
            visit.call(&parts.opened)?;
        }
        if let Ok(memory) = self.memory.try_lock()
            && let Some(memory) = memory.as_ref()
        {
            memory.traverse(&visit)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let parts = std::mem::take(&mut *locked(&self.parts));
        let memory = locked(&self.memory).take();
        drop((parts, memory));
    }
}

impl ConnectionBase {
    fn environment<'py>(slf: &Bound<'py, Self>) -> PyResult<Environment<'py>> {
        let py = slf.py();
        let layout = persistence::layout(py)?;
        let cache = locked(&slf.get().parts)
            .cache
            .as_ref()
            .map(|cache| cache.bind(py).clone());
        let cache = layout
            .zip(cache)
            .and_then(|(layout, cache)| layout.cache(&cache));
        match (layout, cache) {
            (Some(layout), Some(cache)) => Ok(Environment {
                connection: slf.as_any().clone(),
                cache,
                layout,
            }),
            _ => Err(PyRuntimeError::new_err(
                "_cache is no persistent.PickleCache",
            )),
        }
    }

    fn check_open(
        &self,
        py: Python<'_>,
        obj: &Bound<'_, PyAny>,
        oid: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        if locked(&self.parts).opened.is_some() {
            return Ok(());
        }
        let class = obj.get_type().fully_qualified_name()?;
        let oid = oid.repr()?;
        let message = format!("can't load the state of {class} {oid}: the connection is closed");
        Err(raised(py, "ConnectionStateError", &message))
    }

    /// The current record at this connection's snapshot.
    fn load<'py>(&self, py: Python<'py>, oid: &Bound<'py, PyAny>) -> PyResult<Record<'py>> {
        let storage = self
            .storage(py)
            .ok_or_else(|| PyRuntimeError::new_err("no storage"))?;
        let pair = storage.bind(py).call_method1(intern!(py, "load"), (oid,))?;
        self.loads.fetch_add(1, Ordering::Relaxed);
        let (data, serial): (Bound<'py, PyAny>, Bound<'py, PyAny>) = pair.extract()?;
        Ok(Record {
            data: data.cast_into().map_err(PyErr::from)?,
            serial,
        })
    }

    /// Use what was learnt from records so far, and keep what `read` adds.
    fn with_memory<T>(&self, read: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = locked(&self.memory).take().unwrap_or_default();
        let result = read(&mut memory);
        let replaced = locked(&self.memory).replace(memory);
        drop(replaced);
        result
    }

    fn state<'py>(
        &self,
        environment: &Environment<'py>,
        data: &Bound<'py, PyBytes>,
    ) -> Attempt<Bound<'py, PyAny>> {
        self.with_memory(|memory| Unpickler::state(environment, memory, data.as_bytes()))
    }

    /// A new object of the class that a record describes.
    fn ghost<'py>(
        &self,
        environment: &Environment<'py>,
        data: &Bound<'py, PyBytes>,
    ) -> Attempt<Bound<'py, PyAny>> {
        let py = data.py();
        let described = self
            .with_memory(|memory| Unpickler::description(environment, memory, data.as_bytes()))?;
        let (class, arguments) = match described.cast_exact::<PyTuple>() {
            Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, pair.get_item(1)?),
            _ => (described, py.None().into_bound(py)),
        };
        let class = class.cast::<PyType>()?;
        if is_broken(class)? {
            return Err(Failure::Unsupported);
        }
        if arguments.is_none() {
            return Ok(new_object(class, &PyTuple::empty(py))?);
        }
        Ok(new_object(class, arguments.cast_exact::<PyTuple>()?)?)
    }

    fn keep_new_ghost<'py>(
        &self,
        environment: &Environment<'py>,
        oid: &Bound<'py, PyBytes>,
        ghost: &Bound<'py, PyAny>,
    ) -> PyResult<()> {
        if environment.layout.persistent(ghost).is_some() {
            return environment.cache.new_ghost(environment.layout, oid, ghost);
        }
        // A persistent class loads its state at once, and that may refer back to it.
        locked(&self.making).push((oid.clone().unbind(), ghost.clone().unbind()));
        let kept = environment.cache.new_ghost(environment.layout, oid, ghost);
        let made = locked(&self.making).pop();
        drop(made);
        kept
    }

    fn made_or_added<'py>(
        slf: &Bound<'py, Self>,
        oid: &Bound<'py, PyBytes>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = slf.py();
        for (known, object) in locked(&slf.get().making).iter() {
            if known.as_bytes(py) == oid.as_bytes() {
                return Ok(Some(object.bind(py).clone()));
            }
        }
        match slf.getattr_opt(intern!(py, "_added"))? {
            Some(added) => added.cast::<PyDict>()?.get_item(oid),
            None => Ok(None),
        }
    }

    /// Load an object that isn't an instance of `Persistent`: a persistent class.
    fn load_persistent_class(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let oid = obj.getattr(intern!(py, "_p_oid"))?;
        slf.get().check_open(py, obj, &oid)?;
        let record = slf.get().load(py, &oid)?;
        let reader = slf.getattr(intern!(py, "_reader"))?;
        reader.call_method1(intern!(py, "setGhostState"), (obj, &record.data))?;
        obj.setattr(intern!(py, "_p_serial"), &record.serial)
    }
}

/// Give a ghost its state: the way `Persistent.__setstate__` does, or by its own `__setstate__`.
fn set_state<'py>(
    environment: &Environment<'py>,
    obj: &Bound<'py, PyAny>,
    state: Bound<'py, PyAny>,
) -> PyResult<()> {
    static PLAIN: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let py = obj.py();
    let name = intern!(py, "__setstate__");
    let plain = PLAIN.get_or_try_init(py, || {
        environment
            .layout
            .persistent_class(py)
            .getattr(name)
            .map(Bound::unbind)
    })?;
    if state.is_exact_instance_of::<PyDict>()
        && persistence::is_held_once(&state)
        && obj.get_type().getattr(name)?.is(plain)
        && persistence::set_attributes(obj, state.cast::<PyDict>()?)?
    {
        return Ok(());
    }
    match obj.call_method1(name, (state,)) {
        Ok(_) => Ok(()),
        Err(error) => Err(unloadable_object(&error, obj)?),
    }
}

/// The error to raise for what reading a record has raised.
fn unloadable(error: &PyErr, data: &Bound<'_, PyBytes>, obj: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    let py = obj.py();
    let helper = py.import(intern!(py, "perdure.serialize.reader"))?;
    let made = helper.call_method1(intern!(py, "unloadable"), (error.value(py), obj, data))?;
    Ok(PyErr::from_value(made))
}

fn unloadable_object(error: &PyErr, obj: &Bound<'_, PyAny>) -> PyResult<PyErr> {
    unloadable(error, &PyBytes::new(obj.py(), b""), obj)
}

fn read_by_standard_pickle<'py>(
    slf: &Bound<'py, ConnectionBase>,
    data: &Bound<'py, PyBytes>,
) -> PyResult<Bound<'py, PyAny>> {
    slf.getattr(intern!(slf.py(), "_reader"))?
        .call_method1(intern!(slf.py(), "getState"), (data,))
}

/// An error of `perdure.errors`.
fn raised(py: Python<'_>, class: &str, message: &str) -> PyErr {
    let made = py
        .import(intern!(py, "perdure.errors"))
        .and_then(|errors| errors.getattr(PyString::new(py, class)))
        .and_then(|class| class.call1((message,)));
    match made {
        Ok(error) => PyErr::from_value(error),
        Err(error) => error,
    }
}

/// Whether native connections work with the installed `persistent`.
#[pyfunction]
pub fn native_objects(py: Python<'_>) -> PyResult<bool> {
    Ok(persistence::layout(py)?.is_some())
}
