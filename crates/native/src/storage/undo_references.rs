//! What undoing does to references, from Python.

use std::sync::Arc;

use perdure_engine::{DraftReview, LaterReferrers, Link, Store};
use perdure_format::Tid;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use super::collect::{MemberFields, member_of};
use super::decoding::Raised;
use super::errors::IntoPython;
use crate::ids::{PyOid, PyTid, oid_bytes};

/// The oids of an object that is referred to and of one that refers to it.
type LinkFields<'py> = (Bound<'py, PyBytes>, Bound<'py, PyBytes>);

fn fields(py: Python<'_>, links: Vec<Link>) -> Vec<LinkFields<'_>> {
    let links = links.into_iter();
    links
        .map(|link| (oid_bytes(py, link.target), oid_bytes(py, link.referrer)))
        .collect()
}

/// What the objects are and refer to that a draft changes, as it leaves them.
#[pyclass(name = "DraftReview", module = "perdure._native", frozen)]
#[derive(Debug)]
pub(crate) struct PyDraftReview {
    pub(super) store: Arc<Store>,
    pub(super) review: DraftReview,
}

#[pymethods]
impl PyDraftReview {
    /// Whether an object exists after the draft; None where that doesn't change it.
    fn leaves(&self, oid: PyOid) -> Option<bool> {
        self.review.leaves(oid.0)
    }

    /// The names of the other databases that are referred to.
    fn databases(&self) -> Vec<String> {
        let names = self.review.databases();
        names
            .map(|name| String::from_utf8_lossy(name).into_owned())
            .collect()
    }

    /// The references to a database, None: within this one, as (target, referrer), each once.
    #[pyo3(signature = (database=None))]
    fn links<'py>(&self, py: Python<'py>, database: Option<&str>) -> Vec<LinkFields<'py>> {
        fields(py, self.review.links(database.map(str::as_bytes)))
    }

    /// The references within the database that lead nowhere after the draft.
    fn dangling<'py>(&self, py: Python<'py>) -> PyResult<Vec<LinkFields<'py>>> {
        let found = py.detach(|| self.review.dangling(&self.store));
        Ok(fields(py, found.into_python(py)?))
    }
}

/// Who has come to refer to objects since a transaction, in all members of a collection.
#[pyclass(name = "LaterReferrers", module = "perdure._native")]
#[derive(Debug)]
pub(crate) struct PyLaterReferrers {
    referrers: LaterReferrers,
    raised: Raised,
}

#[pymethods]
impl PyLaterReferrers {
    /// Look for references to what a draft for the member `name` removes.
    ///
    /// `members` are the names, storages and decoders of those that are searched, and the
    /// transaction with which each begins.
    #[new]
    fn new(members: Vec<(MemberFields<'_>, PyTid)>, name: String, review: &PyDraftReview) -> Self {
        let raised = Raised::default();
        let members = members.into_iter();
        let members: Vec<(_, Tid)> = members
            .map(|(fields, since)| (member_of(fields, &raised), since.0))
            .collect();
        let targets = review.review.removed();
        Self {
            referrers: LaterReferrers::new(members, name.into_bytes(), targets),
            raised,
        }
    }

    /// Read what was written since the last time; what is finished and not visible, too, with
    /// `settled`, while no member can commit.
    fn catch_up(&mut self, py: Python<'_>, settled: bool) -> PyResult<()> {
        let outcome = py.detach(|| self.referrers.catch_up(settled));
        match self.raised.take() {
            Some(error) => Err(error),
            None => outcome.into_python(py),
        }
    }

    /// What was found in a member, as (target, referrer), but what the draft of `review` changes.
    #[pyo3(signature = (member, review=None))]
    fn links<'py>(
        &self,
        py: Python<'py>,
        member: usize,
        review: Option<&PyDraftReview>,
    ) -> Vec<LinkFields<'py>> {
        let review = review.map(|review| &review.review);
        fields(py, self.referrers.links(member, review))
    }
}
