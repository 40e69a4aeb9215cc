//! Loaded objects count as old for the cyclic collector from the start.
//!
//! What a connection loads stays for long: its object cache holds it. The collector can't know
//! and walks it as young, as older, and again each time that it looks at everything. So what was
//! loaded is kept in a list of the connection's own, apart from the collector's three: young
//! collections take it for what it is, old. A collection of everything gets all of it back first
//! (`gc.callbacks`), except what a connection holds that is just loading: it is in use, so nothing
//! that it holds can be garbage.
//!
//! An object in the list is tracked, as any other, and leaves the list when it is freed. Only the
//! list is not the collector's. This relies on the two words before each tracked object that link
//! it to its neighbours, which Python 3.10 to 3.13 have alike; they are tried out before they are
//! relied on, and elsewhere nothing is kept apart.

use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList};

/// How many collections of everything in a row a connection that is loading may keep its own from.
const PASSED_OVER_MAX: u32 = 16;

/// The oldest generation.
const EVERYTHING: i64 = 2;

/// The bits of `previous` that are no address.
const FLAGS: usize = 3;

/// The one of them that stays when an object changes its list: that it was finalised.
const FINALIZED: usize = 1;

/// `PyGC_Head`.
#[repr(C)]
struct Links {
    next: usize,
    previous: usize,
}

/// What one connection has loaded since the last collection of everything.
pub struct Tenured {
    /// The list's head; all zeros until the first object comes. Used with the GIL held only.
    head: UnsafeCell<Links>,
    is_usable: bool,
    /// How many loads are under way.
    loads: AtomicUsize,
    passed_over: AtomicU32,
}

// SAFETY: the list is only touched with the GIL held (there is none without it: `is_usable`).
unsafe impl Send for Tenured {}
// SAFETY: as above.
unsafe impl Sync for Tenured {}

/// A load under way: the connection is in use until this is dropped.
pub struct Loading(Arc<Tenured>);

static ALL: Mutex<Vec<Weak<Tenured>>> = Mutex::new(Vec::new());

fn all() -> MutexGuard<'static, Vec<Weak<Tenured>>> {
    ALL.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tenured {
    /// An empty list, which the collector will ask for at its next collection of everything.
    pub fn new(py: Python<'_>) -> PyResult<Arc<Self>> {
        static USABLE: PyOnceLock<bool> = PyOnceLock::new();
        let is_usable = *USABLE.get_or_try_init(py, || links_are_as_expected(py))?;
        let made = Self::empty(is_usable);
        if is_usable {
            be_called_by_the_collector(py)?;
            let mut known = all();
            known.retain(|each| each.strong_count() > 0);
            known.push(Arc::downgrade(&made));
        }
        Ok(made)
    }

    fn empty(is_usable: bool) -> Arc<Self> {
        Arc::new(Self {
            head: UnsafeCell::new(Links {
                next: 0,
                previous: 0,
            }),
            is_usable,
            loads: AtomicUsize::new(0),
            passed_over: AtomicU32::new(0),
        })
    }

    /// Note that a load begins.
    pub fn loading(self: &Arc<Self>) -> Loading {
        self.loads.fetch_add(1, Ordering::Relaxed);
        Loading(Arc::clone(self))
    }

    /// Keep `object`, which was just loaded, in the list, if the collector knows it.
    pub fn take(&self, object: &Bound<'_, PyAny>) {
        // SAFETY: the GIL is held; the object is tracked, so it has links, which are valid: no
        // collection is between its steps while code other than its own runs.
        unsafe {
            if self.is_usable && ffi::PyObject_GC_IsTracked(object.as_ptr()) != 0 {
                let links = object.as_ptr().cast::<Links>().sub(1);
                unlink(links);
                self.append(links);
            }
        }
    }

    /// # Safety
    /// The GIL is held, and `links` are those of a live object in no list.
    unsafe fn append(&self, links: *mut Links) {
        let head = self.head.get();
        // SAFETY: what the caller warrants. This list stays where it is as long as it has objects.
        unsafe {
            if (*head).next == 0 {
                (*head).next = head as usize;
                (*head).previous = head as usize;
            }
            let last = (*head).previous as *mut Links;
            (*last).next = links as usize;
            (*links).previous = last as usize | ((*links).previous & FINALIZED);
            (*links).next = head as usize;
            (*head).previous = links as usize;
        }
    }

    /// Give everything back to the collector, as young.
    fn give_back(&self, _py: Python<'_>) {
        self.passed_over.store(0, Ordering::Relaxed);
        let head = self.head.get();
        // SAFETY: the GIL is held; the list holds live, tracked objects, each behind its links,
        // and each step takes the first one out (this is what Python does to free an object).
        unsafe {
            loop {
                let first = (*head).next as *mut Links;
                if first.is_null() || ptr::eq(first, head) {
                    break;
                }
                let object = first.add(1).cast();
                ffi::PyObject_GC_UnTrack(object);
                ffi::PyObject_GC_Track(object);
            }
        }
    }

    /// Whether the next collection of everything can do without what is here.
    fn is_passed_over(&self) -> bool {
        self.loads.load(Ordering::Relaxed) > 0
            && self.passed_over.fetch_add(1, Ordering::Relaxed) < PASSED_OVER_MAX
    }
}

impl Drop for Tenured {
    fn drop(&mut self) {
        // What loaded objects are made of may outlive them.
        // SAFETY: whoever has a handle of this (the connection, a load, the collector) drops it
        // with the GIL held.
        self.give_back(unsafe { Python::assume_attached() });
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.0.loads.fetch_sub(1, Ordering::Relaxed);
    }
}

/// # Safety
/// The GIL is held, and `links` are those of a live object in a list.
unsafe fn unlink(links: *mut Links) {
    // SAFETY: what the caller warrants: both neighbours are links of the same list.
    unsafe {
        let next = (*links).next as *mut Links;
        let previous = ((*links).previous & !FLAGS) as *mut Links;
        (*previous).next = next as usize;
        (*next).previous = previous as usize | ((*next).previous & FLAGS);
    }
}

/// Whether tracked objects are linked as this module expects.
fn links_are_as_expected(py: Python<'_>) -> PyResult<bool> {
    let system = py.import("sys")?;
    let text: String = system.getattr("version")?.extract()?;
    let name: String = system
        .getattr("implementation")?
        .getattr("name")?
        .extract()?;
    let version = py.version_info();
    let is_known = name == "cpython" && version.major == 3 && (10..=13).contains(&version.minor);
    if !is_known || text.contains("free-threading") {
        return Ok(false);
    }
    let object = PyList::empty(py).into_any();
    // SAFETY: in these versions a tracked object has two words before it, and both point to such
    // words, whatever object they belong to. They are only looked at until they are found to fit.
    let is_linked = unsafe {
        let links = object.as_ptr().cast::<Links>().sub(1);
        let next = (*links).next as *mut Links;
        let previous = ((*links).previous & !FLAGS) as *mut Links;
        ffi::PyObject_GC_IsTracked(object.as_ptr()) != 0
            && (*previous).next == links as usize
            && ((*next).previous & !FLAGS) == links as usize
    };
    if !is_linked {
        return Ok(false);
    }
    let trial = Tenured::empty(true);
    trial.take(&object);
    // SAFETY: a live object; untracking it is what shows that the list is one to Python, too.
    unsafe { ffi::PyObject_GC_UnTrack(object.as_ptr().cast()) };
    let head = trial.head.get();
    // SAFETY: the head of the list on trial, which nobody else knows.
    Ok(unsafe { ptr::eq((*head).next as *mut Links, head) })
}

/// Have the collector call `before_collection`, if it doesn't yet (or any more).
fn be_called_by_the_collector(py: Python<'_>) -> PyResult<()> {
    static CALLED: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let called = CALLED
        .get_or_try_init(py, || {
            let called = wrap_pyfunction!(before_collection, py)?.into_any();
            let at_exit = wrap_pyfunction!(give_all_back, py)?;
            py.import("atexit")?.call_method1("register", (at_exit,))?;
            PyResult::Ok(called.unbind())
        })?
        .bind(py);
    let callbacks = py.import("gc")?.getattr("callbacks")?;
    let callbacks = callbacks.cast::<PyList>()?;
    if !callbacks.iter().any(|each| each.is(called)) {
        callbacks.append(called)?;
    }
    Ok(())
}

/// What the collector calls before and after each collection.
#[pyfunction]
fn before_collection(phase: &str, info: &Bound<'_, PyDict>) -> PyResult<()> {
    let py = info.py();
    let generation = info.get_item(intern!(py, "generation"))?;
    if phase == "start" && generation.is_some_and(|it| it.eq(EVERYTHING).unwrap_or(true)) {
        give_back_unless(py, Tenured::is_passed_over);
    }
    Ok(())
}

#[pyfunction]
fn give_all_back(py: Python<'_>) {
    give_back_unless(py, |_| false);
}

fn give_back_unless(py: Python<'_>, is_kept: impl Fn(&Tenured) -> bool) {
    // Dropping the last handle of one runs code: not with the lock held.
    let known: Vec<_> = all().iter().filter_map(Weak::upgrade).collect();
    for tenured in known {
        if !is_kept(&tenured) {
            tenured.give_back(py);
        }
    }
}
