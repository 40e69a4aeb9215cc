//! Checks from Python: progress, interrupts, and what was found.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use perdure_engine::{
    Broken, CheckSource, Checked, Finding, FindingKind, Gap, check_file,
    check_members as check_all, find_broken as find_broken_in,
};
use perdure_format::{Oid, Tid};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyTuple};

use super::PyStorage;
use super::errors::IntoPython;
use crate::ids::{PyOid, oid_bytes, tid_bytes};

/// How often the GIL is taken to report and to look for an interrupt.
const REPORT_PATIENCE: Duration = Duration::from_millis(100);

/// Tells a Python callable how far something is, and keeps what it raises.
pub(super) struct Reporter {
    progress: Option<Py<PyAny>>,
    /// When it was told last.
    reported: Option<Instant>,
    raised: Option<PyErr>,
}

impl Reporter {
    pub(super) fn new(progress: Option<Py<PyAny>>) -> Self {
        Self {
            progress,
            reported: None,
            raised: None,
        }
    }

    pub(super) fn report(&mut self, done: u64, total: u64) -> ControlFlow<()> {
        let is_told = |when: Instant| when.elapsed() < REPORT_PATIENCE;
        if self.reported.is_some_and(is_told) {
            return ControlFlow::Continue(());
        }
        self.reported = Some(Instant::now());
        let outcome = Python::attach(|py| {
            py.check_signals()?;
            match &self.progress {
                Some(progress) => progress.call1(py, (done, total)).map(drop),
                None => Ok(()),
            }
        });
        match outcome {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.raised = Some(error);
                ControlFlow::Break(())
            }
        }
    }

    /// The outcome, or what the callable raised.
    pub(super) fn outcome<T>(
        self,
        py: Python<'_>,
        result: perdure_engine::Result<T>,
    ) -> PyResult<T> {
        match self.raised {
            Some(raised) => Err(raised),
            None => result.into_python(py),
        }
    }
}

/// Check the data file at `path`, which may be damaged, without opening it as a database.
#[pyfunction]
#[pyo3(name = "check_file", signature = (path, progress=None, ways_to=None))]
pub(super) fn check_path(
    py: Python<'_>,
    path: PathBuf,
    progress: Option<Py<PyAny>>,
    ways_to: Option<Vec<PyOid>>,
) -> PyResult<Bound<'_, PyDict>> {
    let ways_to: Vec<_> = ways_to.into_iter().flatten().map(|oid| oid.0).collect();
    let mut reporter = Reporter::new(progress);
    let checked = py.detach(|| {
        check_file(&path, &ways_to, &mut |done, total| {
            reporter.report(done, total)
        })
    });
    let checked = reporter.outcome(py, checked)?;
    to_dict(py, &checked)
}

/// A member of a collection that is to be checked: an open storage, or a data file.
#[derive(FromPyObject)]
pub(super) enum Given<'py> {
    Storage(PyRef<'py, PyStorage>),
    Path(PathBuf),
}

/// Check all members of a collection at the same time; see `check_file`.
///
/// As "others", each has those references only whose target is in none of the members.
#[pyfunction]
#[pyo3(signature = (members, progress=None))]
pub(super) fn check_members<'py>(
    py: Python<'py>,
    members: Vec<(String, Given<'py>)>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<Bound<'py, PyDict>>> {
    let members = members.into_iter().map(|(name, given)| match given {
        Given::Storage(storage) => (name, CheckSource::Store(Arc::clone(&storage.store))),
        Given::Path(path) => (name, CheckSource::File(path)),
    });
    let members: Vec<_> = members.collect();
    let mut reporter = Reporter::new(progress);
    let checked =
        py.detach(|| check_all(&members, &mut |done, total| reporter.report(done, total)));
    let checked = reporter.outcome(py, checked)?;
    checked.iter().map(|each| to_dict(py, each)).collect()
}

/// Compare a damaged file with its checksums; `gaps` are those that `check_file` found.
#[pyfunction]
#[pyo3(signature = (path, gaps, progress=None))]
pub(super) fn find_broken(
    py: Python<'_>,
    path: PathBuf,
    gaps: Vec<(u64, u64, String)>,
    progress: Option<Py<PyAny>>,
) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let gaps = gaps.into_iter().map(|(start, end, problem)| Gap {
        start,
        end,
        problem,
    });
    let gaps: Vec<_> = gaps.collect();
    let mut reporter = Reporter::new(progress);
    let found = py.detach(|| {
        find_broken_in(&path, &gaps, &mut |done, total| {
            reporter.report(done, total)
        })
    });
    let found = reporter.outcome(py, found)?;
    found.iter().map(|each| broken_fields(py, each)).collect()
}

fn broken_fields<'py>(py: Python<'py>, broken: &Broken) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("position", broken.position)?;
    dict.set_item("end", broken.end)?;
    dict.set_item("tid", tid_bytes(py, broken.tid))?;
    dict.set_item("status", char::from(broken.status.to_byte()))?;
    let [user, description, extension] = &broken.texts;
    let texts = [user, description, extension].map(|text| PyBytes::new(py, text));
    dict.set_item("texts", PyTuple::new(py, texts)?)?;
    dict.set_item("header_is_right", broken.header_is_right)?;
    dict.set_item("is_unlocated", broken.is_unlocated)?;
    dict.set_item("is_unfinished", broken.is_unfinished)?;
    dict.set_item("intact", &broken.intact)?;
    let damaged = broken.damaged.iter();
    let damaged: Vec<_> = damaged
        .map(|(position, oid)| (*position, oid_bytes(py, *oid)))
        .collect();
    dict.set_item("damaged", damaged)?;
    dict.set_item("lost", broken.lost)?;
    Ok(dict)
}

const fn name_of(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Damaged => "damaged",
        FindingKind::Unfinished => "unfinished",
        FindingKind::Previous => "previous",
        FindingKind::DataPosition => "data-position",
        FindingKind::Unreadable => "unreadable",
        FindingKind::Missing => "missing",
    }
}

/// Everything that a check found, by name.
pub(super) fn to_dict<'py>(py: Python<'py>, checked: &Checked) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("bytes", checked.bytes)?;
    dict.set_item("transactions", checked.transactions)?;
    dict.set_item("records", checked.records)?;
    dict.set_item("objects", checked.objects)?;
    dict.set_item("findings_total", checked.findings_total)?;
    let findings: PyResult<Vec<_>> = checked
        .findings
        .iter()
        .map(|each| fields(py, each))
        .collect();
    dict.set_item("findings", findings?)?;
    let gaps = checked.gaps.iter();
    let gaps: Vec<_> = gaps
        .map(|gap| (gap.start, gap.end, gap.problem.clone()))
        .collect();
    dict.set_item("gaps", gaps)?;
    let others = checked.others.iter();
    let others: Vec<_> = others
        .map(|((database, oid), referrer)| {
            (
                database.clone(),
                oid_bytes(py, *oid),
                oid_bytes(py, *referrer),
            )
        })
        .collect();
    dict.set_item("others", others)?;
    let ways = PyDict::new(py);
    for (oid, way) in &checked.ways {
        ways.set_item(oid_bytes(py, *oid), way_of(py, way))?;
    }
    dict.set_item("ways", ways)?;
    Ok(dict)
}

fn fields<'py>(py: Python<'py>, finding: &Finding) -> PyResult<Bound<'py, PyDict>> {
    let oid =
        |oid: Option<Oid>| -> Option<Bound<'py, PyBytes>> { oid.map(|oid| oid_bytes(py, oid)) };
    let tid = |tid: Option<Tid>| tid.map(|tid| tid_bytes(py, tid));
    let dict = PyDict::new(py);
    dict.set_item("kind", name_of(finding.kind))?;
    dict.set_item("position", finding.position)?;
    dict.set_item("tid", tid(finding.tid))?;
    dict.set_item("oid", oid(finding.oid))?;
    dict.set_item("class_name", &finding.class)?;
    dict.set_item("target", oid(finding.target))?;
    dict.set_item("problem", &finding.problem)?;
    dict.set_item("path", way_of(py, &finding.path))?;
    Ok(dict)
}

fn way_of<'py>(py: Python<'py>, way: &[(Oid, String)]) -> Vec<(Bound<'py, PyBytes>, String)> {
    let steps = way.iter();
    let steps = steps.map(|(oid, class)| (oid_bytes(py, *oid), class.clone()));
    steps.collect()
}
