//! What a store does when nothing goes wrong.

use std::time::Duration;

use perdure_engine::{Basis, Draft, Error, Found, Metadata, Options, Patience};
use perdure_format::{Oid, Tid};
use perdure_sim::SimDisk;

use crate::support::*;

#[test]
fn an_object_reads_as_it_was_stored_now_and_after_reopening() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let first = commit(&store, &[(0, "root"), (1, "one")]);
    let second = commit(&store, &[(1, "uno")]);
    assert!(second > first);
    for store in [&store, &{
        store.close().unwrap();
        open(&disk).unwrap()
    }] {
        if store.position(Oid(0)).is_err() {
            continue;
        }
        assert_eq!(text(store, 0).as_deref(), Some("root"));
        assert_eq!(text(store, 1).as_deref(), Some("uno"));
        assert_eq!(store.last_transaction(), second);
        assert_eq!(store.object_count(), 2);
        check_consistent(store).unwrap();
    }
}

#[test]
fn a_snapshot_sees_the_newest_revision_at_or_before_it() {
    let store = open(&SimDisk::new(1)).unwrap();
    let first = commit(&store, &[(1, "one")]);
    let second = commit(&store, &[(1, "two")]);
    let third = commit(&store, &[(2, "other")]);
    assert_eq!(load_at(&store, 1, Tid(first.0 - 1)).unwrap(), None);
    assert_eq!(load_at(&store, 1, first).unwrap().unwrap(), b"one");
    assert_eq!(load_at(&store, 1, second).unwrap().unwrap(), b"two");
    assert_eq!(load_at(&store, 1, third).unwrap().unwrap(), b"two");
    let mut buffer = Vec::new();
    let found = store.load(Oid(1), first, &mut buffer, Patience::Wait);
    let Found::Record(located) = found.unwrap() else {
        panic!("not found")
    };
    assert_eq!((located.tid, located.next), (first, Some(second)));
}

#[test]
fn exactly_one_revision_can_be_asked_for() {
    let store = open(&SimDisk::new(1)).unwrap();
    let first = commit(&store, &[(1, "one")]);
    let second = commit(&store, &[(2, "two")]);
    let mut buffer = Vec::new();
    assert!(store.load_revision(Oid(1), first, &mut buffer).is_ok());
    let missing = store.load_revision(Oid(1), second, &mut buffer);
    assert!(matches!(missing, Err(Error::NoRevision { .. })));
}

#[test]
fn a_deleted_object_is_gone_for_later_snapshots_only() {
    let store = open(&SimDisk::new(1)).unwrap();
    let born = commit(&store, &[(1, "one")]);
    try_commit(&store, &[(Oid(1), None)]).unwrap();
    assert_eq!(text(&store, 1), None);
    assert_eq!(load_at(&store, 1, born).unwrap().unwrap(), b"one");
    assert!(store.current_tid(Oid(1)).unwrap().is_none());
    assert_eq!(walk(&store).unwrap(), []);
    check_consistent(&store).unwrap();
}

#[test]
fn deleting_what_never_existed_is_refused() {
    let store = open(&SimDisk::new(1)).unwrap();
    let error = try_commit(&store, &[(Oid(1), None)]).unwrap_err();
    assert!(matches!(error, Error::NoObject { oid: Oid(1) }));
    commit(&store, &[(1, "one")]);
}

#[test]
fn history_goes_back_from_the_newest_revision() {
    let store = open(&SimDisk::new(1)).unwrap();
    let tids = ["a", "bb", "ccc"].map(|text| commit(&store, &[(1, text)]));
    let history = store.history(Oid(1), 2).unwrap();
    let seen: Vec<(Tid, u64)> = history
        .iter()
        .map(|entry| (entry.transaction.header.tid, entry.data_len))
        .collect();
    assert_eq!(seen, [(tids[2], 3), (tids[1], 2)]);
    assert!(matches!(
        store.history(Oid(9), 1),
        Err(Error::NoObject { .. })
    ));
}

#[test]
fn a_walk_may_begin_and_end_at_any_transaction() {
    let store = open(&SimDisk::new(1)).unwrap();
    let tids: Vec<Tid> = (0..20)
        .map(|oid| commit(&store, &[(oid, "data")]))
        .collect();
    for (first, &start) in tids.iter().enumerate() {
        for (last, &stop) in tids.iter().enumerate() {
            let mut walk = store.transactions().unwrap().between(start, stop).unwrap();
            let mut seen = Vec::new();
            while let Some(transaction) = walk.advance().unwrap() {
                seen.push(transaction.header.tid);
            }
            assert_eq!(seen, tids.get(first..=last).unwrap_or_default());
        }
    }
    let beyond = Tid(tids[19].0 + 1);
    let mut walk = store.transactions().unwrap().between(beyond, Tid::MAX);
    assert!(walk.as_mut().unwrap().advance().unwrap().is_none());
}

#[test]
fn going_back_meets_the_transactions_in_reverse() {
    let store = open(&SimDisk::new(1)).unwrap();
    let mut tids: Vec<Tid> = (0..5).map(|oid| commit(&store, &[(oid, "data")])).collect();
    let mut walk = store.transactions().unwrap();
    let mut seen = Vec::new();
    while let Some(transaction) = walk.retreat().unwrap() {
        seen.push(transaction.header.tid);
    }
    tids.reverse();
    assert_eq!(seen, tids);
}

#[test]
fn user_description_and_extension_come_back() {
    let store = open(&SimDisk::new(1)).unwrap();
    let metadata = Metadata {
        user: b"ada".to_vec(),
        description: "naïve".as_bytes().to_vec(),
        extension: vec![1; 65_535],
    };
    let mut draft = Draft::new(metadata).unwrap();
    draft.store(Oid(1), Basis::Revision(Tid::ZERO), b"x");
    let finished = try_finish(&store, draft).unwrap();
    finished.wait_durable().unwrap();
    let transaction = store.transactions().unwrap().advance().unwrap().unwrap();
    assert_eq!(transaction.user(), b"ada");
    assert_eq!(transaction.description(), "naïve".as_bytes());
    assert_eq!(transaction.extension(), vec![1; 65_535]);
}

#[test]
fn a_store_opened_at_a_stop_sees_only_what_was_before() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let first = commit(&store, &[(1, "one")]);
    let second = commit(&store, &[(1, "two"), (2, "other")]);
    store.close().unwrap();
    drop(store);
    for (stop, expected) in [
        (first, None),
        (second, Some("one")),
        (Tid(second.0 + 1), Some("two")),
    ] {
        let options = Options {
            read_only: true,
            stop: Some(stop),
            ..Options::default()
        };
        let store = open_with(&disk, options).unwrap();
        assert_eq!(text(&store, 1).as_deref(), expected);
        assert_eq!(
            contents(&store).unwrap().len(),
            usize::from(stop > first) + usize::from(stop > second)
        );
    }
}

#[test]
fn a_read_only_store_takes_no_commit_and_leaves_no_trace() {
    let disk = sample("basic.fs");
    let names = disk.names();
    let store = open_read_only(&disk).unwrap();
    assert!(store.is_read_only());
    assert!(matches!(store.new_oid(), Err(Error::ReadOnly)));
    let error = try_commit(&store, &changes_of(&[(1, "x")])).unwrap_err();
    assert!(matches!(error, Error::ReadOnly));
    store.close().unwrap();
    assert_eq!(disk.names(), names);
    assert!(disk.trace().iter().all(|call| !call.is_write()));
}

#[test]
fn a_second_writer_is_refused_and_told_who_holds_the_lock() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    match open(&disk) {
        Err(Error::Locked { holder, .. }) => assert_eq!(holder, Some(std::process::id())),
        other => panic!("{other:?}"),
    }
    open_read_only(&disk).unwrap();
    store.close().unwrap();
    open(&disk).unwrap();
}

#[test]
fn a_transaction_beyond_the_quota_is_refused_and_the_next_one_goes_on() {
    let disk = SimDisk::new(1);
    let options = Options {
        quota_bytes: Some(500),
        ..Options::default()
    };
    let store = open_with(&disk, options).unwrap();
    commit(&store, &[(1, "fits")]);
    let error = try_commit(&store, &changes_of(&[(2, &"x".repeat(500))])).unwrap_err();
    assert!(matches!(error, Error::QuotaExceeded { quota: 500, .. }));
    commit(&store, &[(2, "fits")]);
    check_consistent(&store).unwrap();
}

#[test]
fn a_change_of_an_old_revision_is_a_conflict_that_can_be_resolved() {
    let store = open(&SimDisk::new(1)).unwrap();
    let first = commit(&store, &[(1, "one")]);
    let second = commit(&store, &[(1, "two")]);
    let mut draft = Draft::new(Metadata::default()).unwrap();
    draft.store(Oid(1), Basis::Revision(first), b"mine");
    let mut locked = store.lock(draft, Duration::ZERO).unwrap().unwrap();
    let conflict = locked.conflicts()[0];
    assert_eq!((conflict.committed, conflict.seen), (second, first));
    locked
        .resolve(conflict.record, b"both, and longer")
        .unwrap();
    assert!(locked.conflicts().is_empty());
    let tid = locked.least_tid(NOW);
    let finished = locked.write(tid).unwrap().finish(false).unwrap();
    finished.wait_durable().unwrap();
    assert_eq!(text(&store, 1).unwrap(), "both, and longer");
}

#[test]
fn relying_on_a_revision_that_has_changed_is_an_error() {
    let store = open(&SimDisk::new(1)).unwrap();
    let first = commit(&store, &[(1, "one")]);
    commit(&store, &[(1, "two")]);
    let mut draft = Draft::new(Metadata::default()).unwrap();
    draft.check_current(Oid(1), first);
    let error = store.lock(draft, Duration::ZERO).unwrap_err();
    assert!(matches!(error, Error::ReadConflict { .. }));
    commit(&store, &[(1, "three")]);
}

#[test]
fn an_aborted_vote_leaves_nothing() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(1, "one")]);
    let before = disk.content(path()).unwrap();
    let draft = draft(&store, &changes_of(&[(1, "never"), (2, "never")]));
    let locked = store.lock(draft, Duration::ZERO).unwrap().unwrap();
    let tid = locked.least_tid(NOW);
    drop(locked.write(tid).unwrap());
    assert_eq!(disk.content(path()).unwrap(), before);
    commit(&store, &[(1, "two")]);
    check_consistent(&store).unwrap();
}

#[test]
fn creating_anew_forgets_what_was_there() {
    let disk = sample("basic.fs");
    open(&disk).unwrap().close().unwrap();
    let options = Options {
        create: true,
        ..Options::default()
    };
    let store = open_with(&disk, options).unwrap();
    assert_eq!(store.last_transaction(), Tid::ZERO);
    assert_eq!(store.object_count(), 0);
    commit(&store, &[(0, "fresh")]);
    store.close().unwrap();
    let store = open(&disk).unwrap();
    assert_eq!(contents(&store).unwrap().len(), 1);
}

#[test]
fn new_oids_are_never_given_out_twice() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(7, "seven")]);
    let oid = store.new_oid().unwrap();
    assert_eq!(oid, Oid(8));
    commit(&store, &[(oid.0, "eight")]);
    store.close().unwrap();
    let store = open(&disk).unwrap();
    assert_eq!(store.new_oid().unwrap(), Oid(9));
}

#[test]
fn a_saved_index_spares_reading_the_file() {
    let disk = sample("basic.fs");
    let counts = [(); 2].map(|()| {
        let before = disk.calls();
        let store = open(&disk).unwrap();
        let calls = disk.calls() - before;
        check_consistent(&store).unwrap();
        store.close().unwrap();
        calls
    });
    let restarted = disk.restart();
    let store = open(&restarted).unwrap();
    assert_eq!(store.object_count(), 253);
    assert!(counts[1] < counts[0], "{counts:?}");
}

#[test]
fn an_index_of_another_state_of_the_file_is_refused() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(1, "one")]);
    store.close().unwrap();
    let index = disk.content(&beside(".pindex")).unwrap();
    let other = sample("basic.fs");
    other.put(&beside(".pindex"), &index);
    let store = open(&other).unwrap();
    assert_eq!(store.object_count(), 253);
    check_consistent(&store).unwrap();
}

#[test]
fn transactions_behind_the_saved_index_are_found() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(1, "one"), (2, "two")]);
    store.close().unwrap();
    let index = disk.content(&beside(".pindex")).unwrap();
    let store = open(&disk).unwrap();
    commit(&store, &[(2, "zwei"), (3, "drei")]);
    store.close().unwrap();
    disk.put(&beside(".pindex"), &index);
    let store = open(&disk).unwrap();
    assert_eq!(text(&store, 2).unwrap(), "zwei");
    assert_eq!(store.object_count(), 3);
    check_consistent(&store).unwrap();
}

#[test]
fn a_damaged_index_is_rebuilt_whatever_byte_is_wrong() {
    let disk = sample("basic.fs");
    open(&disk).unwrap().close().unwrap();
    let len = disk.content(&beside(".pindex")).unwrap().len();
    for position in (0..len).step_by(61) {
        let damaged = disk.restart();
        damaged.flip_bit(&beside(".pindex"), position, (position % 8) as u8);
        let store = open(&damaged).unwrap();
        check_consistent(&store).unwrap();
        assert_eq!(store.object_count(), 253, "byte {position}");
    }
}

#[test]
fn a_closed_store_says_so() {
    let store = open(&SimDisk::new(1)).unwrap();
    commit(&store, &[(1, "one")]);
    store.close().unwrap();
    store.close().unwrap();
    let mut buffer = Vec::new();
    let error = store.load(Oid(1), Tid::MAX, &mut buffer, Patience::Wait);
    assert!(matches!(error, Err(Error::Closed)));
    assert!(matches!(store.new_oid(), Err(Error::Closed)));
    assert!(matches!(store.transactions(), Err(Error::Closed)));
}

#[test]
fn a_voted_transaction_keeps_the_file_from_others_when_its_store_is_closed() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(1, "one")]);
    let draft = draft(&store, &changes_of(&[(1, "two")]));
    let locked = store.lock(draft, Duration::ZERO).unwrap().unwrap();
    let tid = locked.least_tid(NOW);
    let voted = locked.write(tid).unwrap();
    store.close().unwrap();
    let locked = open(&disk);
    assert!(matches!(locked, Err(Error::Locked { .. })), "{locked:?}");
    // Cutting it off must not cut off what another process has committed meanwhile.
    drop(voted);
    let other = open(&disk).unwrap();
    assert_eq!(text(&other, 1).unwrap(), "one");
}

#[test]
fn what_finishes_behind_a_close_is_there() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let draft = draft(&store, &changes_of(&[(1, "one")]));
    let locked = store.lock(draft, Duration::ZERO).unwrap().unwrap();
    let tid = locked.least_tid(NOW);
    let voted = locked.write(tid).unwrap();
    store.close().unwrap();
    voted.finish(false).unwrap().wait_durable().unwrap();
    let other = open(&disk.power_loss(1)).unwrap();
    assert_eq!(text(&other, 1).unwrap(), "one");
    drop(open(&disk).unwrap());
}

#[test]
fn a_clock_that_stands_still_or_goes_back_gives_later_tids_all_the_same() {
    let store = open(&SimDisk::new(1)).unwrap();
    let first = commit(&store, &[(1, "one")]);
    let draft = draft(&store, &changes_of(&[(1, "two")]));
    let locked = store.lock(draft, Duration::ZERO).unwrap().unwrap();
    assert_eq!(locked.least_tid(NOW - 1e6), Tid(first.0 + 1));
    let error = locked.write(first).unwrap_err();
    assert!(matches!(error, Error::TidNotLater { .. }));
    commit(&store, &[(1, "two")]);
}

#[test]
fn copies_keep_their_ids_and_may_be_empty() {
    let store = open(&SimDisk::new(1)).unwrap();
    let status = perdure_format::file::Status::Packed;
    let draft = Draft::copy_of(Metadata::default(), Tid(77), status).unwrap();
    let finished = try_finish(&store, draft).unwrap();
    finished.wait_durable().unwrap();
    assert_eq!(store.last_transaction(), Tid(77));
    assert_eq!(contents(&store).unwrap(), [(Tid(77), vec![])]);
}

#[test]
fn undo_puts_the_earlier_state_back_and_history_shows_it() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(1, "one")]);
    let second = commit(&store, &[(1, "two"), (2, "new")]);
    let mut undo = Draft::new(Metadata::default()).unwrap();
    for step in store.plan_undo(&mut undo, second).unwrap() {
        match step.action {
            perdure_engine::UndoAction::Point(position) => {
                undo.undo_to(step.oid, step.current, position);
            }
            perdure_engine::UndoAction::Remove => {
                undo.delete(step.oid, Basis::Revision(step.current));
            }
            other => panic!("{other:?}"),
        }
    }
    try_finish(&store, undo).unwrap().wait_durable().unwrap();
    for _ in 0..2 {
        let store = open_read_only(&disk).unwrap();
        assert_eq!(text(&store, 1).unwrap(), "one");
        assert_eq!(text(&store, 2), None);
        check_consistent(&store).unwrap();
        store.close().unwrap();
    }
    store.close().unwrap();
    check_consistent(&open(&disk).unwrap()).unwrap();
}
