//! Commits and those who read beside them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use perdure_engine::{Basis, Draft, Error, Found, Metadata, Patience, Store};
use perdure_format::{Oid, Tid};
use perdure_sim::{Call, Fault, SimDisk};
use shuttle::thread;

use crate::orders::{Depth, in_all_orders};
use crate::support::*;

const PATIENCE: Duration = Duration::from_hours(1);

/// Add one to both objects, however often others come before.
pub fn increment_both(store: &Arc<Store>) -> Tid {
    loop {
        let snapshot = store.last_transaction();
        let old = number(store, 1, snapshot);
        assert_eq!(old, number(store, 2, snapshot), "half of a transaction");
        let mut draft = Draft::new(Metadata::default()).unwrap();
        for oid in [1, 2] {
            let basis = Basis::Revision(revision(store, oid, snapshot));
            draft.store(Oid(oid), basis, &(old + 1).to_be_bytes());
        }
        let locked = store.lock(draft, PATIENCE).unwrap().unwrap();
        if !locked.conflicts().is_empty() {
            drop(locked);
            store.catch_up();
            continue;
        }
        let tid = locked.least_tid(NOW);
        let finished = locked.write(tid).unwrap().finish(false).unwrap();
        finished.wait_durable().unwrap();
        finished.release();
        assert!(store.last_transaction() >= tid, "done, and not visible");
        return tid;
    }
}

pub fn number(store: &Store, oid: u64, snapshot: Tid) -> u64 {
    let data = load_at(store, oid, snapshot).unwrap();
    data.map_or(0, |data| u64::from_be_bytes(data.try_into().unwrap()))
}

pub fn revision(store: &Store, oid: u64, snapshot: Tid) -> Tid {
    let mut buffer = Vec::new();
    match store.load(Oid(oid), snapshot, &mut buffer, Patience::Wait) {
        Ok(Found::Record(located)) => located.tid,
        _ => Tid::ZERO,
    }
}

/// A store with two objects, both zero.
pub fn two_zeros() -> Arc<Store> {
    zeros_on(&SimDisk::new(1))
}

pub fn zeros_on(disk: &SimDisk) -> Arc<Store> {
    let store = open(disk).unwrap();
    let zero = Some(0u64.to_be_bytes().to_vec());
    try_commit(&store, &[(Oid(1), zero.clone()), (Oid(2), zero)]).unwrap();
    store
}

/// Look at both objects in two snapshots: never half of a transaction, never back in time.
pub fn look_twice(store: &Store) {
    let mut last = (Tid::ZERO, 0);
    for _ in 0..2 {
        let snapshot = store.last_transaction();
        let seen = number(store, 1, snapshot);
        assert_eq!(seen, number(store, 2, snapshot), "half of a transaction");
        assert!(snapshot >= last.0 && seen >= last.1, "back in time");
        last = (snapshot, seen);
    }
}

#[test]
fn two_who_commit_lose_no_increment() {
    let depth = Depth {
        usual: 2,
        campaign: 3,
    };
    in_all_orders("two commits", depth, || {
        let store = two_zeros();
        thread::scope(|scope| {
            scope.spawn(|| increment_both(&store));
            scope.spawn(|| increment_both(&store));
        });
        assert_eq!(number(&store, 1, store.last_transaction()), 2);
        assert_eq!(number(&store, 2, store.last_transaction()), 2);
    });
}

#[test]
fn who_reads_beside_two_commits_sees_whole_transactions() {
    let depth = Depth {
        usual: 1,
        campaign: 2,
    };
    in_all_orders("two commits and a reader", depth, || {
        let store = two_zeros();
        thread::scope(|scope| {
            scope.spawn(|| increment_both(&store));
            scope.spawn(|| increment_both(&store));
            scope.spawn(|| look_twice(&store));
        });
        assert_eq!(number(&store, 1, store.last_transaction()), 2);
    });
}

/// What a storage does for a caller with a callback; the log is one that others read.
fn commit_and_tell(store: &Arc<Store>, log: &Mutex<Tid>) {
    let one = Some(1u64.to_be_bytes().to_vec());
    let draft = draft(store, &[(Oid(1), one.clone()), (Oid(2), one)]);
    let locked = store.lock(draft, PATIENCE).unwrap().unwrap();
    let tid = locked.least_tid(NOW);
    let finished = locked.write(tid).unwrap().finish(true).unwrap();
    finished.wait_durable().unwrap();
    finished.announce();
    *log.lock().unwrap() = tid;
    thread::yield_now();
    finished.release();
}

/// What a storage does for a caller that asks for the state at a moment.
fn number_as_of(store: &Store, oid: u64, snapshot: Tid) -> u64 {
    number(store, oid, snapshot.min(store.visible_for(snapshot)))
}

#[test]
fn who_was_told_of_a_transaction_never_reads_what_was_before_it() {
    let depth = Depth {
        usual: 2,
        campaign: 4,
    };
    in_all_orders("a commit that is told", depth, || {
        let store = two_zeros();
        let start = store.last_transaction();
        let log = Mutex::new(start);
        thread::scope(|scope| {
            scope.spawn(|| commit_and_tell(&store, &log));
            scope.spawn(|| {
                let visible = store.last_transaction();
                let snapshot = visible.max(*log.lock().unwrap());
                let seen = [1, 2].map(|oid| number_as_of(&store, oid, snapshot));
                let told = u64::from(snapshot > start);
                assert_eq!(seen, [told, told], "not what was told");
            });
        });
    });
}

#[test]
fn who_follows_the_changes_misses_none_and_can_read_each() {
    let depth = Depth {
        usual: 2,
        campaign: 3,
    };
    in_all_orders("a follower", depth, || {
        let store = two_zeros();
        let start = store.last_transaction();
        thread::scope(|scope| {
            scope.spawn(|| increment_both(&store));
            scope.spawn(|| {
                let mut snapshot = start;
                for _ in 0..2 {
                    let (now, changes) = store.changes_since(snapshot).unwrap();
                    let told = changes.iter().map(|change| change.tid).max();
                    assert!(
                        told.unwrap_or(snapshot) >= now,
                        "not told of what is visible"
                    );
                    snapshot = told.unwrap_or(now);
                    let seen = number(&store, 1, snapshot.min(store.last_transaction()));
                    assert_eq!(seen, u64::from(snapshot > start), "told and not there");
                }
            });
        });
    });
}

#[test]
fn a_sync_that_fails_fails_all_whom_it_was_to_cover_and_shows_nothing() {
    let depth = Depth {
        usual: 2,
        campaign: 3,
    };
    in_all_orders("a failing sync", depth, || {
        let disk = SimDisk::new(1);
        let store = zeros_on(&disk);
        disk.plan_all(Call::Sync, Some(Fault::Error(EIO)));
        thread::scope(|scope| {
            for oid in [1, 2] {
                let (store, changes) = (&store, changes_of(&[(oid, "lost")]));
                scope.spawn(move || {
                    let error = try_commit(store, &changes).unwrap_err();
                    let refused =
                        matches!(error, Error::OutcomeUnknown { .. } | Error::Poisoned { .. });
                    assert!(refused, "{error}");
                });
            }
        });
        assert_eq!(number(&store, 1, store.last_transaction()), 0);
        assert_eq!(number(&store, 2, store.last_transaction()), 0);
    });
}

#[test]
fn a_vote_that_is_given_up_lets_the_next_one_in() {
    let depth = Depth {
        usual: 2,
        campaign: 4,
    };
    in_all_orders("an abort", depth, || {
        let store = two_zeros();
        thread::scope(|scope| {
            scope.spawn(|| {
                let draft = draft(&store, &changes_of(&[(1, "given up")]));
                if let Ok(Ok(locked)) = store.lock(draft, PATIENCE)
                    && locked.conflicts().is_empty()
                {
                    let tid = locked.least_tid(NOW);
                    drop(locked.write(tid).unwrap());
                }
            });
            scope.spawn(|| increment_both(&store));
        });
        assert_eq!(number(&store, 1, store.last_transaction()), 1);
        check_consistent(&store).unwrap();
    });
}
