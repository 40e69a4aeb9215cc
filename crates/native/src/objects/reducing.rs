//! Writing objects: references to persistent ones, classes, and instances in place.

use perdure_format::Oid;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyFunction, PyString, PyTuple, PyType};

use super::failure::{Attempt, Failure};
use super::kinds::{reduced, version};
use super::persistence::Persistent;
use super::pickler::Pickler;

/// How many items of a list or dictionary are written between two marks.
const BATCH: usize = 1000;

impl<'py> Pickler<'_, 'py> {
    /// Write the reference to a persistent object.
    pub(super) fn save_reference(&mut self, object: &Bound<'py, PyAny>) -> Attempt<()> {
        let Some(fields) = self.layout.persistent(object) else {
            return Err(Failure::Unsupported);
        };
        if fields.oid().is_none() {
            self.adopt(object)?;
        }
        if !fields.jar().is_some_and(|jar| jar.is(self.connection)) {
            let py = self.py;
            let reference = self
                .connection
                .call_method1(intern!(py, "_foreign_reference"), (object,))?;
            self.save(&reference)?;
            self.write(b"Q");
            return Ok(());
        }
        let oid = fields.oid().ok_or(Failure::Unsupported)?;
        let oid = oid.cast_exact::<PyBytes>()?;
        if let Ok(packed) = oid.as_bytes().try_into() {
            let target = Oid(u64::from_be_bytes(packed));
            if fields.is_ghost() {
                self.workshop.unknown.push(target);
            } else if !fields.is_new() {
                self.workshop.loaded.push(target);
            }
        }
        match self.workshop.memo.place(oid) {
            Some(place) => self.write_get(place),
            None => self.save_bytes(oid)?,
        }
        let class = object.get_type();
        let kind = self.workshop.kinds.of(self.layout, &class)?;
        if !kind.has_new_arguments {
            self.save(&class)?;
            self.write(b"\x86");
            let place = self.workshop.memo.put_unnamed();
            self.write_put(place);
        }
        self.write(b"Q");
        Ok(())
    }

    fn adopt(&mut self, object: &Bound<'py, PyAny>) -> PyResult<()> {
        if !self.adopt_plainly(object)? {
            self.connection
                .call_method1(intern!(self.py, "_adopt"), (object,))?;
        }
        let adopted = self.layout.persistent(object).and_then(Persistent::jar);
        if adopted.is_some_and(|jar| jar.is(self.connection)) {
            self.workshop.new.push(object.clone().unbind());
        }
        Ok(())
    }

    /// Do what the connection's `_adopt` does, if it is not another than usual.
    fn adopt_plainly(&mut self, object: &Bound<'py, PyAny>) -> PyResult<bool> {
        let class = self.connection.get_type();
        let version = version(&class);
        if version == 0 || version != self.workshop.adopts_plainly {
            if !adopts_plainly(&class)? {
                return Ok(false);
            }
            self.workshop.adopts_plainly = version;
        }
        let placing = self.connection.getattr_opt(intern!(self.py, "_placing"))?;
        if placing.is_some_and(|placing| !placing.is_none()) {
            return Ok(false);
        }
        let storage = self.connection.getattr(intern!(self.py, "_storage"))?;
        let oid = storage.call_method0(intern!(self.py, "new_oid"))?;
        let fields = self.layout.persistent(object);
        Ok(match (fields, oid.cast_exact::<PyBytes>()) {
            (Some(fields), Ok(oid)) => fields.adopt(oid, self.connection),
            _ => false,
        })
    }

    /// Write a class by its name; a persistent class is left to `pickle`.
    pub(super) fn save_class(&mut self, class: &Bound<'py, PyType>) -> Attempt<()> {
        if !class.get_type().is(self.py.get_type::<PyType>())
            && let Some(oid) = class.getattr_opt(intern!(self.py, "_p_oid"))?
            && (oid.is_none() || oid.is_instance_of::<PyBytes>())
        {
            return Err(Failure::Unsupported);
        }
        if self.workshop.kinds.of(self.layout, class)?.is_broken {
            return self.save_missing_class(class);
        }
        self.save_global(class)
    }

    /// Write a class that can't be imported as what it stands for.
    fn save_missing_class(&mut self, class: &Bound<'py, PyType>) -> Attempt<()> {
        let (module, name) = (class.module()?, class.name()?);
        self.write(format!("c{module}\n{name}\n").as_bytes());
        self.memoize(class);
        Ok(())
    }

    /// Write something that its module has under its name.
    fn save_global(&mut self, value: &Bound<'py, PyAny>) -> Attempt<()> {
        let line = self
            .workshop
            .globals
            .line(value)?
            .ok_or(Failure::Unsupported)?;
        self.workshop.out.extend_from_slice(line);
        self.memoize(value);
        Ok(())
    }

    /// Write an object in place, by what it reduces to.
    pub(super) fn save_instance(&mut self, object: &Bound<'py, PyAny>) -> Attempt<()> {
        let class = object.get_type();
        let is_disguised = self
            .workshop
            .kinds
            .of(self.layout, &class)?
            .may_be_disguised;
        let is_disguised =
            is_disguised && !object.getattr(intern!(self.py, "__class__"))?.is(&class);
        if is_disguised || class.is_subclass(weak_reference(self.py)?)? {
            return Err(Failure::Unsupported);
        }
        if object.is_exact_instance_of::<PyFunction>() {
            return self.save_global(object);
        }
        let reduced = reduced(object)?;
        let parts = reduced.cast_exact::<PyTuple>()?;
        let mut parts = parts.iter();
        let (Some(callable), Some(arguments)) = (parts.next(), parts.next()) else {
            return Err(Failure::Unsupported);
        };
        let mut given = || parts.next().filter(|part| !part.is_none());
        let (state, items, pairs, setter) = (given(), given(), given(), given());
        if setter.is_some() || parts.next().is_some() {
            return Err(Failure::Unsupported);
        }
        self.save_making(object, &callable, arguments.cast_exact::<PyTuple>()?)?;
        if !self.memoize_made(object) {
            return Ok(());
        }
        if let Some(items) = items {
            self.save_items_of(&items)?;
        }
        if let Some(pairs) = pairs {
            self.save_pairs_of(&pairs)?;
        }
        if let Some(state) = state {
            self.save(&state)?;
            self.write(b"b");
        }
        Ok(())
    }

    /// Write the call that makes an object.
    fn save_making(
        &mut self,
        object: &Bound<'py, PyAny>,
        callable: &Bound<'py, PyAny>,
        arguments: &Bound<'py, PyTuple>,
    ) -> Attempt<()> {
        if !is_new_object(callable)? {
            self.save(callable)?;
            self.save(arguments)?;
            self.write(b"R");
            return Ok(());
        }
        let class = arguments.get_item(0).map_err(|_| Failure::Unsupported)?;
        if !class.is(object.get_type()) {
            return Err(Failure::Unsupported);
        }
        self.save(&class)?;
        self.save(&arguments.get_slice(1, arguments.len()))?;
        self.write(b"\x81");
        Ok(())
    }

    /// Write the items of something like a list.
    fn save_items_of(&mut self, items: &Bound<'py, PyAny>) -> Attempt<()> {
        self.save_batches(items, b"a", b"e", Self::save)
    }

    /// Write the keys and values of something like a dictionary.
    fn save_pairs_of(&mut self, pairs: &Bound<'py, PyAny>) -> Attempt<()> {
        self.save_batches(pairs, b"s", b"u", |this, pair| {
            let pair = pair.cast_exact::<PyTuple>()?;
            if pair.len() != 2 {
                return Err(Failure::Unsupported);
            }
            this.save(&pair.get_item(0)?)?;
            this.save(&pair.get_item(1)?)
        })
    }

    fn save_batches(
        &mut self,
        iterable: &Bound<'py, PyAny>,
        one: &[u8],
        many: &[u8],
        save: impl Fn(&mut Self, &Bound<'py, PyAny>) -> Attempt<()>,
    ) -> Attempt<()> {
        let mut items = iterable.try_iter()?;
        loop {
            let Some(first) = items.next().transpose()? else {
                return Ok(());
            };
            let Some(second) = items.next().transpose()? else {
                save(self, &first)?;
                self.write(one);
                return Ok(());
            };
            self.write(b"(");
            save(self, &first)?;
            let mut written = 1;
            let mut next = Some(second);
            while let Some(item) = next {
                save(self, &item)?;
                written += 1;
                if written == BATCH {
                    break;
                }
                next = items.next().transpose()?;
            }
            self.write(many);
            if written < BATCH {
                return Ok(());
            }
        }
    }
}

/// Whether `callable` is `copyreg.__newobj__`, which has an opcode of its own.
fn is_new_object(callable: &Bound<'_, PyAny>) -> Attempt<bool> {
    if !callable.is_exact_instance_of::<PyFunction>() {
        return Ok(false);
    }
    let name = callable.getattr(intern!(callable.py(), "__name__"))?;
    let name = name.cast::<PyString>()?.to_str()?;
    if name == "__newobj_ex__" {
        return Err(Failure::Unsupported);
    }
    Ok(name == "__newobj__")
}

fn weak_reference(py: Python<'_>) -> PyResult<&Bound<'_, PyType>> {
    static WEAK_REFERENCE: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    WEAK_REFERENCE.import(py, "persistent.wref", "WeakRef")
}

/// Whether connections of this class give new objects their place as `ConnectionHooks` does.
fn adopts_plainly(class: &Bound<'_, PyType>) -> PyResult<bool> {
    static USUAL: PyOnceLock<Py<PyType>> = PyOnceLock::new();
    let py = class.py();
    let usual = USUAL.import(py, "perdure.serialize.hooks", "ConnectionHooks")?;
    for name in [intern!(py, "_adopt"), intern!(py, "new_oid")] {
        if !class.getattr(name)?.is(&usual.getattr(name)?) {
            return Ok(false);
        }
    }
    Ok(true)
}
