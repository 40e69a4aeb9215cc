//! Many threads on one store.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use perdure_engine::{Error, Store};
use perdure_format::{Oid, Tid};
use perdure_sim::{Call, Fault, SimDisk};

use crate::support::*;

/// Commit until there is no conflict.
fn insist(store: &Arc<Store>, oid: u64, change: impl Fn(u64) -> u64) -> Tid {
    loop {
        let snapshot = store.last_transaction();
        let old = load_at(store, oid, snapshot).unwrap();
        let old = old.map_or(0, |data| u64::from_be_bytes(data.try_into().unwrap()));
        let new = change(old).to_be_bytes().to_vec();
        let basis = store.current_tid(Oid(oid)).unwrap().unwrap_or(Tid::ZERO);
        if basis > snapshot {
            continue;
        }
        let mut draft = perdure_engine::Draft::new(perdure_engine::Metadata::default()).unwrap();
        draft.store(Oid(oid), perdure_engine::Basis::Revision(basis), &new);
        let locked = store.lock(draft, Duration::from_mins(1)).unwrap().unwrap();
        if !locked.conflicts().is_empty() {
            continue;
        }
        let tid = locked.least_tid(NOW);
        let finished = locked.write(tid).unwrap().finish(false).unwrap();
        finished.wait_durable().unwrap();
        finished.release();
        return tid;
    }
}

#[test]
fn counters_of_many_threads_lose_no_increment() {
    const THREADS: u64 = 8;
    const ROUNDS: u64 = 50;
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    insist(store, 0, |count| count + 1);
                    insist(store, 1 + thread, |count| count + 1);
                }
            });
        }
    });
    let count = |oid| load_at(&store, oid, Tid::MAX).unwrap().unwrap();
    assert_eq!(count(0), (THREADS * ROUNDS).to_be_bytes());
    assert_eq!(count(3), ROUNDS.to_be_bytes());
    check_consistent(&store).unwrap();
    drop(store);
    let reopened = open(&disk.restart()).unwrap();
    check_consistent(&reopened).unwrap();
    assert_eq!(
        contents(&reopened).unwrap().len() as u64,
        2 * THREADS * ROUNDS
    );
}

#[test]
fn readers_see_both_objects_of_a_transaction_or_neither() {
    let store = open(&SimDisk::new(1)).unwrap();
    commit(&store, &[(1, "0"), (2, "0")]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = Tid::ZERO;
                while !done.load(Ordering::Relaxed) {
                    let snapshot = store.last_transaction();
                    assert!(snapshot >= last, "snapshots go backwards");
                    last = snapshot;
                    let one = load_at(&store, 1, snapshot).unwrap();
                    assert_eq!(one, load_at(&store, 2, snapshot).unwrap());
                }
            });
        }
        for n in 0..300 {
            let text = n.to_string();
            commit(&store, &[(1, &text), (2, &text)]);
        }
        done.store(true, Ordering::Relaxed);
    });
}

#[test]
fn who_reads_the_log_of_changes_misses_none() {
    let store = open(&SimDisk::new(1)).unwrap();
    let start = store.last_transaction();
    let last = AtomicU64::new(0);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut snapshot, mut seen) = (start, Vec::new());
            loop {
                let stop = last.load(Ordering::Acquire);
                let (now, changes) = store.changes_since(snapshot).unwrap();
                seen.extend(changes.iter().map(|published| published.tid));
                snapshot = changes.last().map_or(snapshot, |published| published.tid);
                assert!(now >= snapshot);
                if stop != 0 && snapshot == Tid(stop) {
                    return seen;
                }
            }
        });
        let workers: Vec<_> = (0..4u64)
            .map(|thread| {
                let store = &store;
                scope.spawn(move || {
                    let tids = (0..50).map(|_| insist(store, thread, |n| n + 1));
                    tids.collect::<Vec<Tid>>()
                })
            })
            .collect();
        let mut tids: Vec<Tid> = Vec::new();
        for worker in workers {
            tids.extend(worker.join().unwrap());
        }
        tids.sort();
        last.store(tids.last().unwrap().0, Ordering::Release);
        assert_eq!(reader.join().unwrap(), tids);
    });
}

#[test]
fn one_sync_serves_all_that_finished_before_it() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(99, "first")]);
    let syncs = || disk.trace().iter().filter(|c| **c == Call::Sync).count();
    let before = syncs();
    let finished: Vec<_> = (0..10)
        .map(|oid| try_finish(&store, draft(&store, &changes_of(&[(oid, "x")]))).unwrap())
        .collect();
    let snapshot = store.last_transaction();
    assert_eq!(load_at(&store, 3, snapshot).unwrap(), None);
    for one in finished.iter().rev() {
        one.wait_durable().unwrap();
    }
    assert!(syncs() - before <= 2, "{} syncs", syncs() - before);
    assert_eq!(store.last_transaction(), finished[9].tid());
}

#[test]
fn a_held_transaction_keeps_later_ones_invisible_until_it_is_released() {
    let store = open(&SimDisk::new(1)).unwrap();
    let first = commit(&store, &[(1, "one")]);
    let locked = store.lock(
        draft(&store, &changes_of(&[(1, "held")])),
        Duration::from_secs(9),
    );
    let locked = locked.unwrap().unwrap();
    let tid = locked.least_tid(NOW);
    let held = locked.write(tid).unwrap().finish(true).unwrap();
    let later = try_finish(&store, draft(&store, &changes_of(&[(2, "later")]))).unwrap();
    later.wait_durable().unwrap();
    held.wait_durable().unwrap();
    assert_eq!(store.last_transaction(), first);
    assert_eq!(text(&store, 2), None);
    held.wait_turn();
    held.release();
    later.release();
    assert_eq!(store.last_transaction(), later.tid());
    assert_eq!(text(&store, 1).unwrap(), "held");
}

#[test]
fn who_reads_as_of_an_announced_transaction_waits_until_it_is_visible() {
    let store = open(&SimDisk::new(1)).unwrap();
    let first = commit(&store, &[(1, "one")]);
    let locked = store.lock(
        draft(&store, &changes_of(&[(1, "told of")])),
        Duration::from_secs(9),
    );
    let locked = locked.unwrap().unwrap();
    let tid = locked.least_tid(NOW);
    let finished = locked.write(tid).unwrap().finish(true).unwrap();
    assert!(!store.has_announced(tid));
    finished.wait_durable().unwrap();
    finished.announce();
    assert!(store.has_announced(tid));
    assert!(!store.has_announced(first));
    store.await_announced(tid); // This thread tells the others: it does not wait for itself.
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            store.await_announced(tid);
            store.last_transaction()
        });
        store.await_announced(first);
        assert_eq!(store.last_transaction(), first);
        finished.release();
        assert_eq!(reader.join().unwrap(), tid);
    });
    assert!(!store.has_announced(tid));
}

#[test]
fn who_waits_too_long_for_the_commit_lock_gets_the_draft_back() {
    let store = open(&SimDisk::new(1)).unwrap();
    let one = draft(&store, &changes_of(&[(1, "one")]));
    let other = draft(&store, &changes_of(&[(2, "two")]));
    let locked = store.lock(one, Duration::ZERO).unwrap().unwrap();
    let back = store.lock(other, Duration::from_millis(1)).unwrap();
    let other = back.unwrap_err();
    assert_eq!(other.len(), 1);
    drop(locked);
    assert!(store.lock(other, Duration::ZERO).unwrap().is_ok());
}

#[test]
fn a_failed_sync_fails_every_waiting_commit_and_all_later_ones_until_reopened() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let first = commit(&store, &[(1, "one")]);
    let barrier = Barrier::new(4);
    disk.plan_all(Call::Sync, Some(Fault::Error(EIO)));
    thread::scope(|scope| {
        for oid in 10..14 {
            let (store, barrier) = (&store, &barrier);
            scope.spawn(move || {
                barrier.wait();
                let error = try_commit(store, &changes_of(&[(oid, "lost?")])).unwrap_err();
                assert!(
                    matches!(error, Error::OutcomeUnknown { .. } | Error::Poisoned { .. }),
                    "{error}"
                );
            });
        }
    });
    disk.plan_all(Call::Sync, None);
    assert_eq!(store.last_transaction(), first);
    assert_eq!(text(&store, 10), None);
    let error = try_commit(&store, &changes_of(&[(20, "no")])).unwrap_err();
    assert!(matches!(error, Error::Poisoned { .. }));
    store.close().unwrap();
    drop(store);
    let store = open(&disk).unwrap();
    check_consistent(&store).unwrap();
    commit(&store, &[(20, "yes")]);
}

#[test]
fn closing_waits_for_commits_on_their_way() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let finished = try_finish(&store, draft(&store, &changes_of(&[(1, "one")]))).unwrap();
    thread::scope(|scope| {
        let closing = scope.spawn(|| store.close());
        finished.wait_durable().unwrap();
        closing.join().unwrap().unwrap();
    });
    drop(finished);
    drop(store);
    assert_eq!(text(&open(&disk).unwrap(), 1).unwrap(), "one");
}
