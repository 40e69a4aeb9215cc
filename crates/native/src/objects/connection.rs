//! The base class of connections: finds, makes and fills their objects.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::{PyRuntimeError, PyTypeError, PyValueError};
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList, PyTuple, PyType};
use pyo3::{PyTraverseError, PyVisit};

use perdure_format::Oid;

use super::classes::Memory;
use super::environment::Environment;
use super::failure::{Attempt, Failure};
use super::kinds::version;
use super::loaded::Loaded;
use super::loading::{damaged, raised, read_by_standard_pickle, set_items, set_state, unloadable};
use super::persistence::{self, Persistent, new_object};
use super::pickler::Workshop;
use super::source::Source;
use super::unpickler::{State, Unpickler};
use crate::ids::PyTid;
use crate::storage::StorageView;

/// What the connection's constructor sets.
#[derive(Default)]
struct Parts {
    cache: Option<Py<PyAny>>,
    storage: Option<Py<PyAny>>,
    opened: Option<Py<PyAny>>,
    /// The mark of a class of views that have the native `load` (0: none seen yet).
    view_version: u32,
}

/// What a load needs of the connection.
struct AtWork<'py> {
    environment: Environment<'py>,
    storage: Bound<'py, PyAny>,
    is_open: bool,
    view_version: u32,
}

/// The base class of connections.
#[pyclass(subclass, frozen, module = "perdure._native")]
pub struct ConnectionBase {
    /// Guards the attributes; held only while one is read or replaced.
    parts: Mutex<Parts>,
    /// What was learnt from records; taken out while a record is read. In a box, so that an
    /// object whose memory is still all zeros can be shown to the collector.
    memory: Mutex<Option<Box<Memory>>>,
    /// What writing records needs from one to the next; taken out while one is written. (In a
    /// box for the same reason.)
    workshop: Mutex<Option<Box<Workshop>>>,
    /// Objects that aren't in the cache yet while they load themselves (persistent classes).
    making: Mutex<Vec<(Py<PyBytes>, Py<PyAny>)>>,
    /// Which objects of the cache may have a state. A leaf.
    loaded: Mutex<Loaded>,
    loads: AtomicU64,
}

/// The value that a lock guards; a panic elsewhere doesn't make it unusable.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[pymethods]
impl ConnectionBase {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyTuple>, _kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        Self {
            parts: Mutex::default(),
            memory: Mutex::default(),
            workshop: Mutex::default(),
            making: Mutex::default(),
            loaded: Mutex::default(),
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
    fn set_cache(&self, py: Python<'_>, cache: Option<Py<PyAny>>) {
        let loaded = Loaded::all_of(cache.as_ref().map(|cache| cache.bind(py)));
        let before = std::mem::replace(&mut locked(&self.parts).cache, cache);
        *locked(&self.loaded) = loaded;
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
        let work = Self::at_work(slf)?;
        let environment = &work.environment;
        let Some(ghost) = environment.layout.persistent(obj) else {
            return Self::load_persistent_class(slf, obj, &work);
        };
        let oid = ghost.oid().unwrap_or_else(|| py.None().into_bound(py));
        this.note_loaded(&oid);
        work.check_open(obj, &oid)?;
        let record = this.source(&work)?.load(py, &oid);
        let record = record.map_err(|error| Self::described(slf, obj, error))?;
        this.count_load();
        let data = record.as_slice();
        this.with_memory(|memory| {
            let kind = memory.kinds.of(environment.layout, &obj.get_type())?;
            let wants_items = kind.can_hold(obj);
            let state = Unpickler::state(environment, memory, data, wants_items);
            let state = state.or_else(|error| match error {
                Failure::Raised(error) => Err(unloadable(py, &error, Some(obj), data)?),
                Failure::Damaged(how) => Err(damaged(py, how, Some(obj), data)?),
                Failure::Unsupported => read_by_standard_pickle(slf, &record.to_python(py))
                    .map(State::Whole)
                    .map_err(|error| Self::refused(slf, &oid, error)),
            })?;
            let kind = memory.kinds.of(environment.layout, &obj.get_type())?;
            let is_blob = kind.is_blob;
            match state {
                State::Whole(state) => set_state(kind, obj, state)?,
                State::Items(room) => {
                    set_items(kind, obj, room.0.get(1..).unwrap_or_default(), data)?;
                    memory.keep_room(room);
                }
            }
            ghost.set_serial_and_size(record.serial, data.len());
            if is_blob {
                let serial = PyBytes::new(py, &record.serial);
                let loaded = (obj, oid, serial, record.to_python(py));
                slf.call_method1(intern!(py, "_blob_loaded"), loaded)?;
            }
            Ok(())
        })
    }

    /// The object at `oid`: from the cache, just added, or a new ghost.
    fn get<'py>(slf: &Bound<'py, Self>, oid: &Bound<'py, PyBytes>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        let work = Self::at_work(slf)?;
        if !work.is_open {
            return Err(raised(
                py,
                "ConnectionStateError",
                "The database connection is closed",
            ));
        }
        let environment = &work.environment;
        if let Some(found) = environment.cache.get(oid)? {
            return Ok(found);
        }
        if let Some(found) = Self::made_or_added(slf, oid)? {
            return Ok(found);
        }
        let record = this.source(&work)?.load(py, oid);
        let nothing = py.None().into_bound(py);
        let record = record.map_err(|error| Self::described(slf, &nothing, error))?;
        let ghost = this.ghost(environment, record.as_slice());
        let ghost = ghost.or_else(|error| match error {
            Failure::Raised(error) => Err(unloadable(py, &error, None, record.as_slice())?),
            Failure::Damaged(how) => Err(damaged(py, how, None, record.as_slice())?),
            Failure::Unsupported => slf
                .getattr(intern!(py, "_reader"))?
                .call_method1(intern!(py, "getGhost"), (record.to_python(py),)),
        });
        let ghost = ghost.map_err(|error| Self::refused(slf, oid, error))?;
        match this.keep_new_ghost(environment, oid, &ghost) {
            Ok(()) => Ok(ghost),
            Err(error) if error.is_instance_of::<PyTypeError>(py) => {
                let error = no_object(&ghost).unwrap_or(error);
                Err(unloadable(py, &error, None, record.as_slice())?)
            }
            Err(error) => Err(error),
        }
    }

    /// Note that `obj` is about to change.
    ///
    /// What was just added was noted then. The first one has the connection join the transaction.
    fn register(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = slf.py();
        let fields = persistence::layout(py)?.and_then(|layout| layout.persistent(obj));
        let oid = match fields {
            Some(fields) => fields.oid(),
            None => Some(obj.getattr(intern!(py, "_p_oid"))?),
        };
        let Some(oid) = oid.filter(|oid| !oid.is_none()) else {
            return Err(PyValueError::new_err(
                "assigning to _p_jar is not supported; use connection.add()",
            ));
        };
        let added = slf.getattr(intern!(py, "_added"))?;
        if added.cast::<PyDict>()?.contains(oid)? {
            return Ok(());
        }
        if slf.getattr(intern!(py, "_needs_to_join"))?.is_truthy()? {
            slf.call_method1(intern!(py, "_register"), (obj,))?;
            return Ok(());
        }
        let registered = slf.getattr(intern!(py, "_registered_objects"))?;
        registered.cast::<PyList>()?.append(obj)
    }

    /// Note that the states of `objects` are what the transaction `tid` wrote.
    fn _mark_stored(
        slf: &Bound<'_, Self>,
        objects: &Bound<'_, PyList>,
        tid: &Bound<'_, PyBytes>,
    ) -> PyResult<()> {
        let py = slf.py();
        let layout = persistence::layout(py)?
            .ok_or_else(|| PyRuntimeError::new_err("the installed `persistent` is not known"))?;
        let serial = tid.as_bytes().try_into()?;
        let home = &slf.get().workshop;
        let mut workshop = locked(home).take().unwrap_or_default();
        let marked = objects.iter().try_for_each(|obj| {
            let fields = layout.persistent(&obj);
            if let Some(oid) = fields.and_then(Persistent::oid) {
                slf.get().note_loaded(&oid);
            }
            if let Some(fields) = fields
                && workshop
                    .kinds
                    .of(layout, &obj.get_type())?
                    .is_marked_plainly
            {
                fields.mark_stored(serial);
                return Ok(());
            }
            let changed = intern!(py, "_p_changed");
            // A ghost (its conflict was resolved) will load what was stored.
            if !obj.is_none() && !obj.getattr(changed)?.is_none() {
                obj.setattr(changed, false)?;
                obj.setattr(intern!(py, "_p_serial"), tid)?;
            }
            Ok(())
        });
        let replaced = locked(home).replace(workshop);
        drop(replaced);
        marked
    }

    /// Move `view` to the newest snapshot, or to `at`; the oids of what others changed since, but
    /// for objects that are known to be ghosts.
    #[pyo3(signature = (view, at=None))]
    fn _advance<'py>(
        &self,
        py: Python<'py>,
        view: &Bound<'py, StorageView>,
        at: Option<PyTid>,
    ) -> PyResult<Vec<Bound<'py, PyBytes>>> {
        // Not locked throughout: what Python does meanwhile may load objects.
        let may_be_loaded = |oid: Oid| locked(&self.loaded).may_have(&oid.to_bytes());
        view.get().move_on(py, at.map(|at| at.0), may_be_loaded)
    }

    /// Those of `oids` whose objects may have a state in the cache; the others are ghosts, if they
    /// are there at all.
    fn _loaded_among<'py>(&self, oids: &Bound<'py, PyList>) -> PyResult<Bound<'py, PyList>> {
        let py = oids.py();
        let found = PyList::empty(py);
        let loaded = locked(&self.loaded);
        for oid in oids {
            if oid
                .cast::<PyBytes>()
                .is_ok_and(|oid| !loaded.may_have(oid.as_bytes()))
            {
                continue;
            }
            found.append(oid)?;
        }
        Ok(found)
    }

    /// Have what was learnt of objects that have left the cache take no more memory.
    fn _tidy_up(&self, py: Python<'_>) -> PyResult<()> {
        let cache = self.cache(py);
        let Some(cache) = cache.as_ref().map(|cache| cache.bind(py)) else {
            return Ok(());
        };
        if locked(&self.loaded).is_stale(cache.len()?) {
            let loaded = Loaded::all_of(Some(cache));
            *locked(&self.loaded) = loaded;
        }
        Ok(())
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
        if let Ok(workshop) = self.workshop.try_lock()
            && let Some(workshop) = workshop.as_ref()
        {
            workshop.traverse(&visit)?;
        }
        Ok(())
    }

    fn __clear__(&self) {
        let parts = std::mem::take(&mut *locked(&self.parts));
        let memory = locked(&self.memory).take();
        let workshop = locked(&self.workshop).take();
        drop((parts, memory, workshop));
    }
}

impl ConnectionBase {
    fn at_work<'py>(slf: &Bound<'py, Self>) -> PyResult<AtWork<'py>> {
        let py = slf.py();
        let bound = |part: &Option<Py<PyAny>>| part.as_ref().map(|part| part.bind(py).clone());
        let parts = locked(&slf.get().parts);
        let (cache, storage) = (bound(&parts.cache), bound(&parts.storage));
        let (is_open, view_version) = (parts.opened.is_some(), parts.view_version);
        drop(parts);
        let layout = persistence::layout(py)?;
        let cache = layout
            .zip(cache)
            .and_then(|(layout, cache)| Some((layout, layout.cache(cache)?)));
        let Some((layout, cache)) = cache else {
            return Err(PyRuntimeError::new_err(
                "_cache is no persistent.PickleCache",
            ));
        };
        Ok(AtWork {
            environment: Environment {
                connection: slf.as_any().clone(),
                cache,
                layout,
            },
            storage: match storage {
                Some(storage) => storage,
                // A connection that is let go: the one who asked is told that it is closed.
                None if !is_open => py.None().into_bound(py),
                None => return Err(PyRuntimeError::new_err("no storage")),
            },
            is_open,
            view_version,
        })
    }

    /// How to read through the connection's storage.
    fn source<'a, 'py>(&self, work: &'a AtWork<'py>) -> PyResult<Source<'a, 'py>> {
        if let Some(view) = Source::known_view(&work.storage, work.view_version) {
            return Ok(view);
        }
        let source = Source::of(&work.storage)?;
        if matches!(source, Source::View(_)) {
            locked(&self.parts).view_version = version(&work.storage.get_type());
        }
        Ok(source)
    }

    /// The error of a load, after the connection has told it what it knows of the object (None:
    /// nothing but its oid).
    fn described(slf: &Bound<'_, Self>, obj: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
        let py = slf.py();
        let told = slf.call_method1(intern!(py, "_describe_failure"), (error.value(py), obj));
        told.err().unwrap_or(error)
    }

    /// The error of reading a record, which tells its oid if a class was refused.
    fn refused(slf: &Bound<'_, Self>, oid: &Bound<'_, PyAny>, error: PyErr) -> PyErr {
        let py = slf.py();
        let told = slf.call_method1(intern!(py, "_describe_refusal"), (error.value(py), oid));
        told.err().unwrap_or(error)
    }

    /// Where what writing needs is kept from one record to the next.
    pub fn workshop(&self) -> &Mutex<Option<Box<Workshop>>> {
        &self.workshop
    }

    /// Note that an object may have a state from now on.
    fn note_loaded(&self, oid: &Bound<'_, PyAny>) {
        let oid = oid.cast::<PyBytes>().map_or(&[][..], |oid| oid.as_bytes());
        locked(&self.loaded).note(oid);
    }

    fn count_load(&self) {
        self.loads.fetch_add(1, Ordering::Relaxed);
    }

    /// Use what was learnt from records so far, and keep what `read` adds.
    fn with_memory<T>(&self, read: impl FnOnce(&mut Memory) -> T) -> T {
        let mut memory = locked(&self.memory).take().unwrap_or_default();
        let result = read(&mut memory);
        let replaced = locked(&self.memory).replace(memory);
        drop(replaced);
        result
    }

    /// A new object of the class that a record describes.
    fn ghost<'py>(
        &self,
        environment: &Environment<'py>,
        data: &[u8],
    ) -> Attempt<Bound<'py, PyAny>> {
        let py = environment.connection.py();
        self.with_memory(|memory| {
            let described = Unpickler::description(environment, memory, data)?;
            let (class, arguments) = match described.cast_exact::<PyTuple>() {
                Ok(pair) if pair.len() == 2 => (pair.get_item(0)?, pair.get_item(1)?),
                _ => (described, py.None().into_bound(py)),
            };
            let class = class.cast::<PyType>()?;
            if memory.kinds.of(environment.layout, class)?.is_broken {
                return Err(Failure::Unsupported);
            }
            if arguments.is_none() {
                return Ok(new_object(class, &PyTuple::empty(py))?);
            }
            Ok(new_object(class, arguments.cast_exact::<PyTuple>()?)?)
        })
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
    fn load_persistent_class<'py>(
        slf: &Bound<'py, Self>,
        obj: &Bound<'py, PyAny>,
        work: &AtWork<'py>,
    ) -> PyResult<()> {
        let py = slf.py();
        let oid = obj.getattr(intern!(py, "_p_oid"))?;
        slf.get().note_loaded(&oid);
        work.check_open(obj, &oid)?;
        let record = slf.get().source(work)?.load(py, &oid)?;
        let reader = slf.getattr(intern!(py, "_reader"))?;
        reader.call_method1(intern!(py, "setGhostState"), (obj, record.to_python(py)))?;
        slf.get().count_load();
        obj.setattr(intern!(py, "_p_serial"), PyBytes::new(py, &record.serial))
    }
}

impl<'py> AtWork<'py> {
    fn check_open(&self, obj: &Bound<'py, PyAny>, oid: &Bound<'py, PyAny>) -> PyResult<()> {
        if self.is_open {
            return Ok(());
        }
        let class = obj.get_type().fully_qualified_name()?;
        let oid = oid.repr()?;
        let message = format!("can't load the state of {class} {oid}: the connection is closed");
        Err(raised(obj.py(), "ConnectionStateError", &message))
    }
}

/// Whether native connections work with the installed `persistent`.
#[pyfunction]
pub fn native_objects(py: Python<'_>) -> PyResult<bool> {
    Ok(persistence::layout(py)?.is_some())
}

/// Why a cache doesn't take what a record describes, if that isn't a persistent class.
fn no_object(made: &Bound<'_, PyAny>) -> Option<PyErr> {
    if made.is_instance_of::<PyType>() {
        return None;
    }
    let class = made.get_type().fully_qualified_name().ok()?;
    Some(PyTypeError::new_err(format!(
        "its class is {class}, which is not persistent"
    )))
}
