//! Packing from Python: references, progress and interrupts.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use perdure_engine::{PackPhase, PackWatch, Result as EngineResult};
use perdure_format::Oid;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use super::decoding::Raised;
use crate::ids::PyOid;

/// How often the GIL is taken to report and to look for an interrupt.
const REPORT_PATIENCE: Duration = Duration::from_millis(100);

/// Watches a pack that runs without the GIL.
pub(crate) struct Watch {
    references: Option<Py<PyAny>>,
    progress: Option<Py<PyAny>>,
    /// What was reported last, and when.
    reported: Option<(PackPhase, Instant)>,
    /// What a callable or a signal handler raised.
    raised: Raised,
}

impl Watch {
    pub(crate) fn new(
        references: Option<Py<PyAny>>,
        progress: Option<Py<PyAny>>,
        raised: Raised,
    ) -> Self {
        Self {
            references,
            progress,
            reported: None,
            raised,
        }
    }

    /// Was this phase reported a short while ago?
    fn is_told(&self, phase: PackPhase) -> bool {
        let told =
            |(last, when): (PackPhase, Instant)| last == phase && when.elapsed() < REPORT_PATIENCE;
        self.reported.is_some_and(told)
    }

    /// What was watched has ended: an error that Python raised comes before the engine's.
    pub(crate) fn outcome<T>(self, ended: EngineResult<T>) -> EngineResult<PyResult<T>> {
        match (ended, self.raised.take()) {
            (Err(_), Some(raised)) => Ok(Err(raised)),
            (ended, _) => ended.map(Ok),
        }
    }
}

const fn name_of(phase: PackPhase) -> &'static str {
    match phase {
        PackPhase::Scan => "scan",
        PackPhase::Mark => "mark",
        PackPhase::Copy => "copy",
    }
}

/// Ask a Python callable, as `referencesf(data, oids)`, for the references of a record.
fn asked(py: Python<'_>, ask: &Py<PyAny>, data: &[u8], found: &mut Vec<Oid>) -> PyResult<()> {
    let oids = PyList::empty(py);
    ask.call1(py, (PyBytes::new(py, data), &oids))?;
    for oid in oids.iter() {
        found.push(oid.extract::<PyOid>()?.0);
    }
    Ok(())
}

impl PackWatch for Watch {
    fn is_plain(&self) -> bool {
        self.references.is_none()
    }

    fn references(&mut self, data: &[u8], found: &mut Vec<Oid>) -> Result<(), String> {
        let Some(ask) = &self.references else {
            return Ok(());
        };
        Python::attach(|py| asked(py, ask, data, found)).map_err(|error| self.raised.put(error))
    }

    fn progress(&mut self, phase: PackPhase, done: u64, total: u64) -> ControlFlow<()> {
        if self.is_told(phase) {
            return ControlFlow::Continue(());
        }
        self.reported = Some((phase, Instant::now()));
        let outcome = Python::attach(|py| {
            py.check_signals()?;
            match &self.progress {
                Some(progress) => progress.call1(py, (name_of(phase), done, total)).map(drop),
                None => Ok(()),
            }
        });
        match outcome {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.raised.put(error);
                ControlFlow::Break(())
            }
        }
    }
}
