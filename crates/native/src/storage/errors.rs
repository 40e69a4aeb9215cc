//! The engine's errors as the classes of `perdure.errors`.

use std::io;
use std::path::Path;

use perdure_engine::Error;
use perdure_format::Tid;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};

use crate::ids::{oid_bytes, tid_bytes};

/// The Python exception for an engine error.
pub(crate) fn to_python(py: Python<'_>, error: &Error) -> PyErr {
    build(py, error).unwrap_or_else(|failure| failure)
}

/// The exception for a call that isn't this transaction's turn.
pub(crate) fn out_of_order(py: Python<'_>, message: &str) -> PyErr {
    raised(py, "StorageTransactionError", vec![text(py, message)], &[])
        .unwrap_or_else(|failure| failure)
}

/// An instance of a class of `perdure.errors`.
fn raised(
    py: Python<'_>,
    class: &str,
    args: Vec<Bound<'_, PyAny>>,
    details: &[(&str, Bound<'_, PyAny>)],
) -> PyResult<PyErr> {
    let kwargs = PyDict::new(py);
    for (name, value) in details {
        kwargs.set_item(name, value)?;
    }
    let args = PyTuple::new(py, args)?;
    let class = py.import("perdure.errors")?.getattr(class)?;
    Ok(PyErr::from_value(class.call(args, Some(&kwargs))?))
}

fn text<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyAny> {
    PyString::new(py, text).into_any()
}

fn path_object<'py>(py: Python<'py>, path: &Path) -> PyResult<Bound<'py, PyAny>> {
    Ok(path.as_os_str().into_pyobject(py)?.into_any())
}

fn of_path(py: Python<'_>, class: &str, message: &str, path: &Path) -> PyResult<PyErr> {
    let path = path_object(py, path)?;
    raised(py, class, vec![text(py, message)], &[("path", path)])
}

fn build(py: Python<'_>, error: &Error) -> PyResult<PyErr> {
    let message = error.to_string();
    match error {
        Error::Io { path, source, .. } => io_error(py, message, path, source),
        Error::NotADatabase { path, .. } => of_path(py, "NotADatabase", &message, path),
        Error::RecordTooLarge { oid, .. } => {
            let oid = oid_bytes(py, *oid).into_any();
            let message = vec![text(py, &message)];
            raised(py, "UnreadableRecord", message, &[("oid", oid)])
        }
        Error::Newer { path, .. } => of_path(py, "FileStorageFormatError", &message, path),
        Error::Corrupted { path, position, .. } => {
            let position = position.into_pyobject(py)?.into_any();
            let path = path_object(py, path)?;
            raised(
                py,
                "CorruptedError",
                vec![text(py, &message)],
                &[("path", path), ("position", position)],
            )
        }
        Error::Locked { path, holder } => locked(py, &message, path, *holder),
        Error::Forked { path, opener } => locked(py, &message, path, Some(*opener)),
        Error::InDoubt {
            path, tid, decider, ..
        } => in_doubt(py, &message, path, *tid, decider),
        Error::NothingInDoubt { .. } => Ok(PyValueError::new_err(message)),
        Error::NoObject { oid } => {
            raised(py, "POSKeyError", vec![oid_bytes(py, *oid).into_any()], &[])
        }
        Error::NotAtSnapshot { oid, .. } => {
            let oid = oid_bytes(py, *oid).into_any();
            raised(
                py,
                "ReadConflictError",
                vec![text(py, &message)],
                &[("oid", oid)],
            )
        }
        Error::NoRevision { oid, tid } => raised(
            py,
            "POSKeyError",
            vec![
                oid_bytes(py, *oid).into_any(),
                tid_bytes(py, *tid).into_any(),
            ],
            &[],
        ),
        Error::ReadConflict {
            oid,
            committed,
            seen,
        } => {
            let serials = (tid_bytes(py, *committed), tid_bytes(py, *seen));
            let serials = serials.into_pyobject(py)?.into_any();
            let oid = oid_bytes(py, *oid).into_any();
            raised(
                py,
                "ReadConflictError",
                Vec::new(),
                &[("oid", oid), ("serials", serials)],
            )
        }
        Error::ReadOnly => raised(py, "ReadOnlyError", vec![text(py, &message)], &[]),
        Error::Closed | Error::Poisoned { .. } => {
            raised(py, "StorageError", vec![text(py, &message)], &[])
        }
        Error::QuotaExceeded { .. } => {
            raised(py, "FileStorageQuotaError", vec![text(py, &message)], &[])
        }
        Error::OutcomeUnknown { tid, path, .. } => {
            let tid = tid_bytes(py, *tid).into_any();
            let path = path_object(py, path)?;
            raised(
                py,
                "CommitOutcomeUnknown",
                vec![text(py, &message)],
                &[("tid", tid), ("path", path)],
            )
        }
        Error::PackedLater { .. } => {
            raised(py, "RedundantPackWarning", vec![text(py, &message)], &[])
        }
        Error::Pack { .. } | Error::References { .. } | Error::PackStopped => {
            raised(py, "PackError", vec![text(py, &message)], &[])
        }
        Error::MemberMissing { database, .. } => missing_member(py, &message, database),
        Error::PackedMeanwhile => raised(py, "ConflictError", vec![text(py, &message)], &[]),
        Error::NotUndoable { .. } => raised(py, "UndoError", vec![text(py, &message)], &[]),
        Error::TidNotLater { .. } | Error::MetadataTooLong { .. } => {
            Ok(PyValueError::new_err(message))
        }
    }
}

fn missing_member(py: Python<'_>, message: &str, database: &str) -> PyResult<PyErr> {
    let error = raised(py, "MissingMemberError", vec![text(py, message)], &[])?;
    error.value(py).setattr("database", database)?;
    Ok(error)
}

fn locked(py: Python<'_>, message: &str, path: &Path, holder: Option<u32>) -> PyResult<PyErr> {
    let holder = holder.into_pyobject(py)?.into_any();
    let details = [("path", path_object(py, path)?), ("pid", holder)];
    raised(py, "StorageLocked", vec![text(py, message)], &details)
}

fn in_doubt(
    py: Python<'_>,
    message: &str,
    path: &Path,
    tid: Tid,
    decider: &Path,
) -> PyResult<PyErr> {
    let details = [
        ("path", path_object(py, path)?),
        ("tid", tid_bytes(py, tid).into_any()),
        ("decider", path_object(py, decider)?),
    ];
    raised(py, "InDoubtError", vec![text(py, message)], &details)
}

/// The `OSError` for what the operating system said of a path.
pub(crate) fn os_error(py: Python<'_>, path: &Path, error: &io::Error) -> PyErr {
    let text = error.to_string();
    let text = text.split(" (os error ").next().unwrap_or_default();
    io_error(py, text.to_owned(), path, error).unwrap_or_else(|failure| failure)
}

/// An `OSError` with errno and file name, of the subclass that its errno asks for.
fn io_error(py: Python<'_>, message: String, path: &Path, source: &io::Error) -> PyResult<PyErr> {
    let Some(errno) = source.raw_os_error() else {
        return match source.kind() {
            io::ErrorKind::NotFound => Ok(pyo3::exceptions::PyFileNotFoundError::new_err(message)),
            _ => Ok(PyOSError::new_err(message)),
        };
    };
    let error = py
        .get_type::<PyOSError>()
        .call1((errno, message, path_object(py, path)?))?;
    Ok(PyErr::from_value(error))
}

/// Turn an engine result into a Python result.
pub(crate) trait IntoPython<T> {
    /// The value, or the Python exception for the error.
    fn into_python(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> IntoPython<T> for perdure_engine::Result<T> {
    fn into_python(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| to_python(py, &error))
    }
}
