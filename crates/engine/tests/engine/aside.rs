//! Large transactions, of which records are put aside until the vote.

use std::sync::Arc;
use std::time::Duration;

use perdure_engine::{Basis, Draft, Error, Metadata, Store};
use perdure_format::{Oid, Tid};
use perdure_sim::{Call, Fault, SimDisk};

use crate::support::*;

/// So many records, from 1 to 600 bytes each, and a deletion and a pointer among them.
fn large(store: &Store, kept: Option<usize>) -> Draft {
    let eighth = store.position(Oid(8)).unwrap().unwrap();
    let mut draft = Draft::new(Metadata::default()).unwrap();
    keep(store, &mut draft, kept);
    for number in 1..=40_u64 {
        let data = vec![number as u8; (number * 15) as usize];
        match number {
            7 => draft.delete(Oid(7), Basis::Copy),
            8 => draft.point(Oid(8), Basis::Copy, eighth),
            _ => draft.store(Oid(number), Basis::Copy, &data),
        }
        put_aside(&mut draft);
    }
    draft
}

fn file_with(kept: Option<usize>) -> (SimDisk, Vec<u8>) {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(7, "seven"), (8, "eight")]);
    let draft = large(&store, kept);
    finish(&store, draft);
    store.close().unwrap();
    let files = [path().to_owned(), beside(".psums")];
    let files = files.map(|path| disk.content(&path).unwrap());
    (disk, files.concat())
}

fn finish(store: &Arc<Store>, draft: Draft) {
    let finished = try_finish(store, draft).unwrap();
    finished.wait_durable().unwrap();
    finished.release();
}

#[test]
fn a_transaction_that_was_put_aside_is_the_same_in_the_file_byte_by_byte() {
    let (_, expected) = file_with(None);
    for kept in [0, 1, 50, 300, 700, 3_000, 11_000, 1_000_000] {
        let (disk, found) = file_with(Some(kept));
        assert!(found == expected, "{kept} bytes kept in memory");
        check_consistent(&open(&disk).unwrap()).unwrap();
    }
}

#[test]
fn what_is_put_aside_has_no_name() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(8, "eight")]);
    let (names, calls) = (disk.names(), disk.calls());
    let draft = large(&store, Some(0));
    assert_eq!(disk.names(), names);
    let made = |call: &&Call| **call == Call::Create;
    assert_eq!(disk.trace()[calls..].iter().filter(made).count(), 1);
    drop(draft);
}

#[test]
fn nothing_is_put_aside_of_a_transaction_below_two_megabytes() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let mut draft = Draft::new(Metadata::default()).unwrap();
    store.lend_room(&mut draft);
    let calls = disk.calls();
    draft.store(Oid(1), Basis::Copy, &vec![1; 2_000_000]);
    put_aside(&mut draft);
    assert_eq!(disk.calls(), calls);
    draft.store(Oid(2), Basis::Copy, &vec![1; 200_000]);
    put_aside(&mut draft);
    assert!(disk.calls() > calls);
    assert_eq!(draft.data(0).unwrap().unwrap().len(), 2_000_000);
}

#[test]
fn where_nothing_can_be_put_aside_records_stay_in_memory() {
    let (_, expected) = file_with(None);
    for call in [Call::Create, Call::Write] {
        let disk = SimDisk::new(1);
        let store = open(&disk).unwrap();
        commit(&store, &[(7, "seven"), (8, "eight")]);
        disk.plan_all(call, Some(Fault::Error(ENOSPC)));
        let draft = large(&store, Some(300));
        disk.plan_all(call, None);
        finish(&store, draft);
        store.close().unwrap();
        let files = [path().to_owned(), beside(".psums")];
        let files = files.map(|path| disk.content(&path).unwrap());
        assert!(files.concat() == expected, "{call:?}");
    }
}

#[test]
fn a_vote_that_fails_in_any_call_leaves_the_file_as_it_was() {
    let begin = || {
        let disk = SimDisk::new(1);
        let store = open(&disk).unwrap();
        commit(&store, &[(1, "one"), (8, "eight")]);
        let draft = large(&store, Some(700));
        let locked = store.lock(draft, Duration::ZERO).unwrap().unwrap();
        (disk, store, locked)
    };
    let (disk, _store, locked) = begin();
    let (first, tid) = (disk.calls(), locked.least_tid(NOW));
    let voted = locked.write(tid).unwrap();
    let count = disk.calls() - first;
    assert!(count > 40, "{count} calls are no parts");
    drop(voted);
    for number in 0..count {
        for fault in [Fault::Error(EIO), Fault::Half(ENOSPC)] {
            let (disk, store, locked) = begin();
            let before = disk.content(path()).unwrap();
            disk.plan(disk.calls() + number, fault);
            let tid = locked.least_tid(NOW);
            let error = locked.write(tid).unwrap_err();
            assert!(matches!(error, Error::Io { .. }), "{number}: {error}");
            assert_eq!(disk.content(path()).unwrap(), before, "call {number}");
            commit(&store, &[(1, "two")]);
            check_consistent(&store).unwrap();
        }
    }
}

#[test]
fn a_conflict_in_what_was_put_aside_is_settled_by_data_of_any_length() {
    for merged in [&b"MINE"[..], b"both, and longer", b"b"] {
        for kept in [None, Some(0), Some(60), Some(110)] {
            let store = open(&SimDisk::new(1)).unwrap();
            let first = commit(&store, &[(1, "one"), (2, "one"), (3, "one")]);
            commit(&store, &[(2, "two")]);
            let mut draft = Draft::new(Metadata::default()).unwrap();
            keep(&store, &mut draft, kept);
            for oid in 1..=3 {
                draft.store(Oid(oid), Basis::Revision(first), b"mine");
                put_aside(&mut draft);
            }
            let mut locked = store.lock(draft, Duration::ZERO).unwrap().unwrap();
            let record = locked.conflicts()[0].record;
            assert_eq!(locked.data(record).unwrap().as_deref(), Some(&b"mine"[..]));
            locked.resolve(record, merged).unwrap();
            assert_eq!(locked.data(record).unwrap().as_deref(), Some(merged));
            let tid = locked.least_tid(NOW);
            let finished = locked.write(tid).unwrap().finish(false).unwrap();
            finished.wait_durable().unwrap();
            finished.release();
            for (oid, data) in [(1, &b"mine"[..]), (2, merged), (3, b"mine")] {
                let found = load_at(&store, oid, Tid::MAX).unwrap();
                assert_eq!(found.as_deref(), Some(data), "{kept:?} kept");
            }
            check_consistent(&store).unwrap();
        }
    }
}

#[test]
fn what_was_put_aside_and_cannot_be_read_ends_the_transaction_in_an_error() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let first = commit(&store, &[(1, "one")]);
    commit(&store, &[(1, "two")]);
    let mut draft = Draft::new(Metadata::default()).unwrap();
    keep(&store, &mut draft, Some(0));
    draft.store(Oid(1), Basis::Revision(first), b"mine");
    put_aside(&mut draft);
    let mut locked = store.lock(draft, Duration::ZERO).unwrap().unwrap();
    disk.plan_all(Call::Read, Some(Fault::Error(EIO)));
    for error in [
        locked.data(0).unwrap_err(),
        locked.resolve(0, b"both of them").unwrap_err(),
    ] {
        assert!(error.to_string().contains("put aside"), "{error}");
    }
    disk.plan_all(Call::Read, None);
    drop(locked);
    commit(&store, &[(1, "three")]);
}
