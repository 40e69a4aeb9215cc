//! Packs, which put another file in place, beside commits and readers.

use std::sync::Arc;
use std::time::Duration;

use perdure_engine::{Basis, Draft, Error, Metadata, PackOptions, Store};
use perdure_format::{Oid, Tid};
use shuttle::thread;

use crate::commits::{increment_both, look_twice, number, two_zeros};
use crate::orders::{Depth, in_all_orders};
use crate::support::*;

/// Drop what was there before a transaction. Who reads as of an earlier one may find nothing.
fn pack(store: &Arc<Store>, until: Tid) {
    let options = PackOptions {
        until,
        collect_garbage: false,
        keep_old: false,
    };
    store.pack(options, &[], &mut Quiet).unwrap();
}

/// A store with something to be packed away.
fn with_history() -> (Arc<Store>, Tid) {
    let store = two_zeros();
    let last = increment_both(&store);
    (store, last)
}

#[test]
fn a_commit_beside_a_pack_is_in_the_packed_file() {
    let depth = Depth {
        usual: 1,
        campaign: 3,
    };
    in_all_orders("a pack and a commit", depth, || {
        let (store, last) = with_history();
        thread::scope(|scope| {
            scope.spawn(|| pack(&store, last));
            scope.spawn(|| increment_both(&store));
        });
        assert_eq!(number(&store, 1, store.last_transaction()), 2);
        check_consistent(&store).unwrap();
    });
}

#[test]
fn who_reads_beside_a_pack_sees_what_was_there() {
    let depth = Depth {
        usual: 1,
        campaign: 3,
    };
    in_all_orders("a pack and a reader", depth, || {
        let (store, last) = with_history();
        thread::scope(|scope| {
            scope.spawn(|| pack(&store, last));
            scope.spawn(|| {
                look_twice(&store);
                assert!(!contents(&store).unwrap().is_empty());
            });
        });
    });
}

#[test]
fn who_reads_beside_a_pack_and_a_commit_sees_whole_transactions() {
    let depth = Depth {
        usual: 1,
        campaign: 2,
    };
    in_all_orders("a pack, a commit and a reader", depth, || {
        let (store, last) = with_history();
        thread::scope(|scope| {
            scope.spawn(|| pack(&store, last));
            scope.spawn(|| increment_both(&store));
            scope.spawn(|| look_twice(&store));
        });
        assert_eq!(number(&store, 1, store.last_transaction()), 2);
        check_consistent(&store).unwrap();
    });
}

#[test]
fn a_position_from_before_a_pack_is_never_written_after_it() {
    let depth = Depth {
        usual: 1,
        campaign: 3,
    };
    in_all_orders("a pack and a draft with positions", depth, || {
        let store = two_zeros();
        let first = store.last_transaction();
        let last = increment_both(&store);
        thread::scope(|scope| {
            scope.spawn(|| pack(&store, last));
            scope.spawn(|| {
                let mut draft = Draft::new(Metadata::default()).unwrap();
                let same = store.same_data(&mut draft, Oid(1), first, None);
                let Ok(Some(position)) = same else {
                    return;
                };
                draft.point(Oid(1), Basis::Copy, position);
                match store.lock(draft, Duration::from_hours(1)) {
                    Ok(Ok(locked)) => {
                        let tid = locked.least_tid(NOW);
                        let finished = locked.write(tid).unwrap().finish(false).unwrap();
                        finished.wait_durable().unwrap();
                        assert_eq!(number(&store, 1, store.last_transaction()), 0);
                    }
                    Ok(Err(_)) => panic!("no lock"),
                    Err(error) => assert!(matches!(error, Error::PackedMeanwhile), "{error}"),
                }
            });
        });
        check_consistent(&store).unwrap();
    });
}

#[test]
fn a_close_beside_a_commit_leaves_it_whole_or_not_at_all() {
    let depth = Depth {
        usual: 1,
        campaign: 3,
    };
    in_all_orders("a close and a commit", depth, || {
        let disk = perdure_sim::SimDisk::new(1);
        let store = crate::commits::zeros_on(&disk);
        let committed = std::sync::Mutex::new(None);
        thread::scope(|scope| {
            scope.spawn(|| store.close().unwrap());
            scope.spawn(|| {
                let tried = try_commit(&store, &changes_of(&[(1, "1"), (2, "1")]));
                *committed.lock().unwrap() = tried.ok();
            });
        });
        drop(store);
        let reopened = open(&disk.restart()).unwrap();
        let seen = [1, 2].map(|oid| load_at(&reopened, oid, Tid::MAX).unwrap());
        assert_eq!(seen[0], seen[1], "half of a transaction");
        let is_there = seen[0].as_deref() == Some(b"1".as_slice());
        if committed.lock().unwrap().is_some() {
            assert!(is_there, "acknowledged and not there");
        }
        check_consistent(&reopened).unwrap();
    });
}
