//! Checks of a whole data file.

use std::ops::ControlFlow;
use std::sync::Arc;

use perdure_engine::{CheckSource, Checked, Error, Store, check_members};
use perdure_format::Oid;
use perdure_sim::SimDisk;

use crate::support::{Data, open, record, try_commit};

/// More than are read between two reports, and as many again.
const OBJECTS: u64 = 9_000;

fn store_of(objects: impl Iterator<Item = (u64, Vec<u8>)>) -> Arc<Store> {
    let store = open(&SimDisk::new(1)).unwrap();
    let changes: Vec<(Oid, Data)> = objects.map(|(oid, data)| (Oid(oid), Some(data))).collect();
    try_commit(&store, &changes).unwrap();
    store
}

/// Each object refers to the next one; the last one's is missing.
fn chain() -> Arc<Store> {
    store_of((0..OBJECTS).map(|oid| (oid, record(&[oid + 1], &[]))))
}

#[test]
fn a_check_ends_when_it_is_asked_to_whatever_it_is_doing() {
    let store = chain();
    let mut stopped_at = 0;
    let checked = loop {
        let mut asked = 0;
        let result = store.check(&mut |_, _| {
            asked += 1;
            if asked > stopped_at {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match result {
            Ok(checked) => break checked,
            Err(error) => {
                assert!(matches!(error, Error::PackStopped), "{error}");
                assert_eq!(asked, stopped_at + 1, "it went on");
                stopped_at += 1;
            }
        }
    };
    // While reading, while looking for who refers to what is missing, and while looking for the way.
    assert_eq!(stopped_at, 6);
    let finding = &checked.findings[0];
    assert_eq!(checked.findings_total, 1);
    assert_eq!(finding.oid, Some(Oid(OBJECTS - 1)));
    assert_eq!(finding.target, Some(Oid(OBJECTS)));
}

/// Check `store` as the member "own" beside the member "there", which has the object 1 only.
fn beside(store: &Arc<Store>) -> Checked {
    let there = store_of([(1, record(&[], &[]))].into_iter());
    let members = [("own", Arc::clone(store)), ("there", there)];
    let members = members.map(|(name, store)| (name.to_owned(), CheckSource::Store(store)));
    let mut quiet = |_, _| ControlFlow::Continue(());
    check_members(&members, &mut quiet).unwrap().swap_remove(0)
}

#[test]
fn of_each_object_that_no_member_has_the_first_that_refers_to_it_is_told() {
    let store = store_of(
        [
            (0, record(&[1, 2], &[("there", 1)])),
            (1, record(&[], &[("there", 2), ("gone", 7), ("there", 1)])),
            (2, record(&[], &[("there", 2), ("gone", 7), ("gone", 8)])),
        ]
        .into_iter(),
    );
    let others: Vec<_> = beside(&store).others.into_iter().collect();
    let told = |name: &str, oid, referrer| ((name.to_owned(), Oid(oid)), Oid(referrer));
    let expected = [told("gone", 7, 1), told("gone", 8, 2), told("there", 2, 1)];
    assert_eq!(others, expected);
    let mut quiet = |_, _| ControlFlow::Continue(());
    let alone: Vec<_> = store
        .check(&mut quiet)
        .unwrap()
        .others
        .into_iter()
        .collect();
    assert_eq!(
        alone,
        [&expected[..2], &[told("there", 1, 0), expected[2].clone()]].concat()
    );
}
