//! Transactions of two databases, and snapshots of both.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use perdure_engine::{
    Basis, Draft, Gate, Metadata, Options, Store, finish_all, release_all, vote_all,
};
use perdure_format::{Oid, Tid};
use perdure_sim::SimDisk;
use shuttle::thread;

use crate::commits::{number, revision};
use crate::orders::{Depth, in_all_orders};
use crate::support::*;

const PATIENCE: Duration = Duration::from_hours(1);

/// Two databases, each with one object.
fn two_members() -> [Arc<Store>; 2] {
    let disk = SimDisk::new(1);
    ["/db/a.fs", "/db/b.fs"].map(|path| {
        let disk = Arc::new(disk.clone());
        let store = Store::open_on(disk, Path::new(path), Options::default());
        let store = Arc::new(store.unwrap());
        let zero = Some(0u64.to_be_bytes().to_vec());
        try_commit(&store, &[(Oid(1), zero)]).unwrap();
        store
    })
}

/// Add one in both members, however often others come before.
fn increment_jointly(members: &[Arc<Store>; 2], gate: &Gate) {
    loop {
        let mut open = VecDeque::new();
        for store in members {
            let snapshot = store.last_transaction();
            let basis = Basis::Revision(revision(store, 1, snapshot));
            let new = number(store, 1, snapshot) + 1;
            let mut draft = Draft::new(Metadata::default()).unwrap();
            draft.store(Oid(1), basis, &new.to_be_bytes());
            open.push_back((Arc::clone(store), draft));
        }
        let mut locked = Vec::new();
        let Some(voted) = vote_all(&mut open, &mut locked, || NOW, PATIENCE).unwrap() else {
            drop(locked);
            for store in members {
                store.catch_up();
            }
            continue;
        };
        release_all(&finish_all(voted).unwrap(), gate);
        return;
    }
}

fn look(members: &[Arc<Store>; 2], gate: &Gate) -> [u64; 2] {
    let snapshots = gate.snapshots(&[&members[0], &members[1]]);
    [0, 1].map(|member| number(&members[member], 1, snapshots[member]))
}

#[test]
fn a_snapshot_of_two_members_shows_a_joint_transaction_in_both_or_neither() {
    let depth = Depth {
        usual: 1,
        campaign: 3,
    };
    in_all_orders("a joint commit and a reader", depth, || {
        let (members, gate) = (two_members(), Gate::default());
        thread::scope(|scope| {
            scope.spawn(|| increment_jointly(&members, &gate));
            scope.spawn(|| {
                for _ in 0..2 {
                    let [a, b] = look(&members, &gate);
                    assert_eq!(a, b, "half of a joint transaction");
                }
            });
        });
        assert_eq!(look(&members, &gate), [1, 1]);
    });
}

#[test]
fn two_joint_commits_lose_no_increment() {
    let depth = Depth {
        usual: 1,
        campaign: 2,
    };
    in_all_orders("two joint commits", depth, || {
        let (members, gate) = (two_members(), Gate::default());
        thread::scope(|scope| {
            scope.spawn(|| increment_jointly(&members, &gate));
            scope.spawn(|| increment_jointly(&members, &gate));
        });
        assert_eq!(look(&members, &gate), [2, 2]);
    });
}

#[test]
fn commits_of_one_member_beside_a_joint_one_become_visible_after_what_they_saw() {
    let depth = Depth {
        usual: 1,
        campaign: 2,
    };
    in_all_orders("a joint commit, a single one and a reader", depth, || {
        let (members, gate) = (two_members(), Gate::default());
        thread::scope(|scope| {
            scope.spawn(|| increment_jointly(&members, &gate));
            scope.spawn(|| {
                let [store, _] = &members;
                let seen = number(store, 1, store.last_transaction());
                let data = Some(seen.to_be_bytes().to_vec());
                try_commit(store, &[(Oid(2), data)]).unwrap();
            });
            scope.spawn(|| {
                let snapshots = gate.snapshots(&[&members[0], &members[1]]);
                let seen = [0, 1].map(|member| number(&members[member], 1, snapshots[member]));
                assert_eq!(seen[0], seen[1], "half of a joint transaction");
                let copied = number(&members[0], 2, snapshots[0]);
                assert!(copied <= seen[0], "an effect without its cause");
            });
        });
        assert_eq!(look(&members, &gate), [1, 1]);
        assert!(members[0].last_transaction() > Tid::ZERO);
    });
}
