//! Records looked at, and changed, as bytes: nothing that they name is run.

use std::collections::BTreeMap;

use perdure_format::Oid;
use perdure_format::pickle::{self, Reference};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::ids::{PyOid, oid_bytes};

/// Add this module's functions to `perdure._native`.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(all_references, module)?)?;
    module.add_function(wrap_pyfunction!(class_name, module)?)?;
    module.add_function(wrap_pyfunction!(verify_memo, module)?)?;
    module.add_function(wrap_pyfunction!(replace_references, module)?)
}

/// (kind, oid, name of the other database).
type ReferenceFields<'py> = (&'static str, Bound<'py, PyBytes>, Option<String>);

fn unreadable(error: pickle::ScanError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// All references of a record, in order, as (kind, oid, database or None).
#[pyfunction]
fn all_references<'py>(py: Python<'py>, data: &[u8]) -> PyResult<Vec<ReferenceFields<'py>>> {
    let mut found = Vec::new();
    pickle::references(data, |reference| {
        found.push(match reference {
            Reference::Same(oid) => ("same", oid_bytes(py, oid), None),
            Reference::Weak { oid, database } => ("weak", oid_bytes(py, oid), database.map(text)),
            Reference::Other { oid, database } => {
                ("other", oid_bytes(py, oid), Some(text(database)))
            }
        });
    })
    .map_err(unreadable)?;
    Ok(found)
}

/// The module and name of a record's class; None where it names none.
#[pyfunction]
fn class_name(data: &[u8]) -> PyResult<Option<(String, String)>> {
    let class = pickle::class_name(data).map_err(unreadable)?;
    Ok(class.map(|class| (text(class.module), text(class.name))))
}

/// Refuse a record that the standard unpickler would take more memory for than it is long; of
/// what has more behind its pickle, only that is looked at on request.
#[pyfunction]
#[pyo3(signature = (data, *, only_first=false))]
fn verify_memo(data: &[u8], only_first: bool) -> PyResult<()> {
    let verify = if only_first {
        pickle::verify_first_memo
    } else {
        pickle::verify_memo
    };
    verify(data).map_err(unreadable)
}

/// The record with each oid that it refers to within its database replaced.
///
/// `replacement(oid)` gives the new oid. References to other databases stay as they are.
#[pyfunction]
fn replace_references<'py>(
    py: Python<'py>,
    data: &[u8],
    replacement: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyBytes>> {
    let mut places: BTreeMap<usize, Option<Oid>> = BTreeMap::new();
    let mut shared = false;
    pickle::placed_references(data, |reference, place| {
        let own = match reference {
            Reference::Same(oid)
            | Reference::Weak {
                oid,
                database: None,
            } => Some(oid),
            _ => None,
        };
        shared |= places
            .insert(place, own)
            .is_some_and(|before| before != own);
    })
    .map_err(unreadable)?;
    if shared {
        let problem = "an object here and one of another database share the bytes of their oid";
        return Err(PyValueError::new_err(problem));
    }
    let mut result = data.to_vec();
    for (place, oid) in places {
        let Some(oid) = oid else { continue };
        let new = replacement
            .call1((oid_bytes(py, oid),))?
            .extract::<PyOid>()?;
        if let Some(slot) = result.get_mut(place..place + size_of::<Oid>()) {
            slot.copy_from_slice(&new.0.to_bytes());
        }
    }
    Ok(PyBytes::new(py, &result))
}
