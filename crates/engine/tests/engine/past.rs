//! A moment's past stays as it is once somebody has looked at it.

use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use perdure_format::{Oid, Tid};
use perdure_sim::SimDisk;

use crate::support::*;

const SOON: Duration = Duration::from_millis(1);

#[test]
fn later_transactions_get_later_ids_than_a_settled_moment() {
    let store = open(&SimDisk::new(1)).unwrap();
    let first = commit(&store, &[(1, "one")]);
    let moment = Tid(first.0 + (1 << 40));
    assert!(store.settle_past(moment, SOON));
    assert!(commit(&store, &[(1, "two")]) > moment);
    assert_eq!(load_at(&store, 1, moment).unwrap().unwrap(), b"one");
}

#[test]
fn a_moment_is_not_settled_while_a_transaction_may_get_an_earlier_id() {
    let store = open(&SimDisk::new(1)).unwrap();
    let first = commit(&store, &[(1, "one")]);
    let moment = Tid(first.0 + (1 << 40));
    let changes = draft(&store, &[(Oid(1), Some(b"two".to_vec()))]);
    let locked = store.lock(changes, SOON).unwrap().unwrap();
    assert!(!store.settle_past(moment, SOON));
    let tid = locked.least_tid(NOW);
    assert!(tid < moment);
    let voted = locked.write(tid).unwrap();
    assert!(!store.settle_past(moment, SOON));
    // A moment before what is written is settled by that.
    assert!(store.settle_past(Tid(tid.0 - 1), SOON));
    let (sender, settled) = channel();
    thread::scope(|scope| {
        let store = &store;
        scope.spawn(move || {
            assert!(store.settle_past(moment, Duration::from_mins(1)));
            sender
                .send(load_at(store, 1, moment).unwrap().unwrap())
                .unwrap();
        });
        assert!(settled.recv_timeout(SOON).is_err());
        let finished = voted.finish(false).unwrap();
        finished.wait_durable().unwrap();
        finished.release();
        assert_eq!(settled.recv().unwrap(), b"two");
    });
}
