//! What the checksums beside a data file find, and what they leave alone.

use std::sync::Arc;

use perdure_engine::{Error, Store};
use perdure_format::{Oid, Tid};
use perdure_sim::{Call, Fault, SimDisk};

use crate::support::*;

/// Some transactions, closed; where each begins and where the file ends.
fn some() -> (SimDisk, Vec<usize>) {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let mut ends = vec![4];
    for n in 0..4u64 {
        commit(
            &store,
            &[(n, &"data ".repeat(200)), (100, &format!("number {n}"))],
        );
        ends.push(disk.content(path()).unwrap().len());
    }
    store.close().unwrap();
    (disk, ends)
}

fn checked(store: &Store) -> (u64, u64, usize) {
    let checked = store.check_checksums().unwrap();
    (checked.verified, checked.unverified, checked.damaged.len())
}

/// What stock ZODB does when it opens a file for writing: it takes the lock file as its own.
fn stock_locks(disk: &SimDisk) {
    disk.put(&beside(".lock"), b" 4711\n");
}

/// Append a transaction as stock ZODB does, which knows nothing of checksums.
fn stock_appends(disk: &SimDisk, oid: u64, text: &str) -> Tid {
    stock_locks(disk);
    let other = SimDisk::new(9);
    other.put(path(), &disk.content(path()).unwrap());
    let store = open(&other).unwrap();
    let tid = commit(&store, &[(oid, text)]);
    store.close().unwrap();
    disk.put(path(), &other.content(path()).unwrap());
    tid
}

#[test]
fn what_was_written_is_verified() {
    let (disk, _) = some();
    for store in [open_read_only(&disk).unwrap(), open(&disk).unwrap()] {
        assert_eq!(checked(&store), (4, 0, 0));
    }
    let store = open_read_only(&sample("basic.fs")).unwrap();
    assert_eq!(checked(&store), (0, 25, 0));
}

#[test]
fn any_changed_byte_is_found_at_open_or_by_the_check() {
    let (disk, _) = some();
    let bytes = disk.content(path()).unwrap();
    for position in 4..bytes.len() {
        for bit in [position % 8, (position + 3) % 8] {
            let damaged = disk.restart();
            damaged.flip_bit(path(), position, bit as u8);
            let found = open_read_only(&damaged).and_then(|store| store.check_checksums());
            assert!(
                found.is_err() || !found.unwrap().damaged.is_empty(),
                "bit {bit} of byte {position} was changed unnoticed"
            );
        }
    }
}

#[test]
fn a_transaction_that_was_marked_to_be_skipped_is_missed() {
    let (disk, ends) = some();
    let mut bytes = disk.content(path()).unwrap();
    bytes[ends[1] + 16] = b'u';
    disk.put(path(), &bytes);
    let store = open_read_only(&disk);
    assert!(store.is_err() || checked(&store.unwrap()).2 == 1);
}

#[test]
fn zeros_in_the_last_transaction_are_an_error_at_open() {
    let (disk, ends) = some();
    let mut bytes = disk.content(path()).unwrap();
    bytes[ends[3] + 100..ends[3] + 300].fill(0);
    disk.put(path(), &bytes);
    assert!(is_corrupted(&open(&disk)));
    assert_eq!(disk.content(path()).unwrap(), bytes);
}

#[test]
fn a_tail_that_was_acknowledged_is_missed_not_cut() {
    let (disk, ends) = some();
    let bytes = disk.content(path()).unwrap();
    for len in [ends[4] - 1, ends[4] - 500, ends[3] + 3, ends[3], ends[2]] {
        let shorter = disk.restart();
        shorter.put(path(), &bytes[..len]);
        let error = open(&shorter).unwrap_err();
        assert!(error.to_string().contains("acknowledged"), "{error}");
        assert_eq!(shorter.content(path()).unwrap().len(), len);
    }
}

#[test]
fn without_its_checksums_a_file_opens_as_ever() {
    let (disk, ends) = some();
    let bytes = disk.content(path()).unwrap();
    let alone = SimDisk::new(1);
    alone.put(path(), &bytes[..ends[3] + 10]);
    let store = open(&alone).unwrap();
    assert_eq!(contents(&store).unwrap().len(), 3);
    commit(&store, &[(1, "goes on")]);
    assert_eq!(checked(&store), (1, 3, 0));
}

#[test]
fn damage_of_the_checksums_never_keeps_a_file_from_opening() {
    let (disk, _) = some();
    let sums = disk.content(&beside(".psums")).unwrap();
    for position in 0..sums.len() {
        let damaged = disk.restart();
        damaged.flip_bit(&beside(".psums"), position, (position % 8) as u8);
        let store = open(&damaged).unwrap();
        assert_eq!(contents(&store).unwrap().len(), 4, "byte {position}");
        assert_eq!(checked(&store).2, 0, "byte {position}");
        commit(&store, &[(1, "goes on")]);
        check_consistent(&store).unwrap();
    }
}

#[test]
fn damage_of_the_checksums_of_a_killed_process_loses_nothing_acknowledged() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    for n in 0..4u64 {
        commit(&store, &[(n, "acknowledged")]);
    }
    drop(store);
    let killed = disk.restart();
    // Of the two marks the older one is left.
    let mut sums = killed.content(&beside(".psums")).unwrap();
    for position in 1024..sums.len() {
        sums[position] ^= 0x10;
        killed.put(&beside(".psums"), &sums);
        sums[position] ^= 0x10;
        let store = open(&killed.restart()).unwrap();
        assert_eq!(contents(&store).unwrap().len(), 4, "byte {position}");
    }
}

#[test]
fn what_stock_wrote_in_between_is_unverified_not_bad() {
    let (disk, _) = some();
    stock_appends(&disk, 50, "by stock");
    let store = open(&disk).unwrap();
    assert!(store.cut().is_none());
    assert_eq!(text(&store, 50).unwrap(), "by stock");
    assert_eq!(checked(&store), (4, 1, 0));
    commit(&store, &[(51, "by perdure")]);
    assert_eq!(checked(&store), (5, 1, 0));
    store.close().unwrap();
    drop(store);
    assert_eq!(checked(&open(&disk).unwrap()), (5, 1, 0));
}

#[test]
fn what_stock_wrote_after_a_crash_is_kept() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(1, "acknowledged")]);
    let unsynced = draft(&store, &changes_of(&[(2, &"unsynced".repeat(100))]));
    try_finish(&store, unsynced).unwrap();
    drop(store);
    for seed in 0..40 {
        let left = disk.power_loss(seed);
        // Stock believes every tail whose lengths are right.
        let bytes = left.content(path()).unwrap();
        let bare = SimDisk::new(1);
        bare.put(path(), &bytes);
        drop(open(&bare).unwrap());
        left.put(path(), &bare.content(path()).unwrap());
        let tid = stock_appends(&left, 3, "by stock");
        match open(&left) {
            Ok(store) => {
                assert_eq!(store.last_transaction(), tid, "seed {seed}");
                assert_eq!(text(&store, 3).unwrap(), "by stock");
            }
            // Torn in the middle, with a commit of stock behind it: nothing may be cut.
            Err(error) => assert!(matches!(error, Error::Corrupted { .. })),
        }
    }
}

#[test]
fn a_file_that_somebody_else_packed_gets_new_checksums() {
    let (disk, ends) = some();
    let bytes = disk.content(path()).unwrap();
    // All but the first transaction, moved to the front.
    let mut copy = SimDisk::new(2);
    let source = open_read_only(&disk).unwrap();
    let packed = open(&copy).unwrap();
    for (tid, changes) in contents(&source).unwrap().into_iter().skip(1) {
        let status = perdure_format::file::Status::Packed;
        let mut draft =
            perdure_engine::Draft::copy_of(perdure_engine::Metadata::default(), tid, status)
                .unwrap();
        for (oid, data) in changes {
            draft.store(oid, perdure_engine::Basis::Copy, &data.unwrap());
        }
        let finished = try_finish(&packed, draft).unwrap();
        finished.wait_durable().unwrap();
    }
    packed.close().unwrap();
    copy = copy.restart();
    assert!(copy.content(path()).unwrap().len() < bytes.len() && ends.len() == 5);
    stock_locks(&disk);
    disk.put(path(), &copy.content(path()).unwrap());
    let store = open(&disk).unwrap();
    assert_eq!(checked(&store), (0, 3, 0));
    commit(&store, &[(1, "goes on")]);
    assert_eq!(checked(&store), (1, 3, 0));
}

#[test]
fn of_a_group_whose_first_transaction_is_torn_nothing_is_left() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let first = commit(&store, &[(1, "acknowledged")]);
    let before = disk.content(path()).unwrap().len();
    for oid in 2..5 {
        let changes = changes_of(&[(oid, &"unsynced".repeat(100))]);
        try_finish(&store, draft(&store, &changes)).unwrap();
    }
    drop(store);
    let left = disk.restart();
    let mut bytes = left.content(path()).unwrap();
    let whole = bytes.len();
    bytes[before + 100..before + 400].fill(0);
    left.put(path(), &bytes);
    let store = open(&left).unwrap();
    assert_eq!(store.last_transaction(), first);
    assert_eq!(store.cut().unwrap().len as usize, whole - before);
    assert_eq!(checked(&store), (1, 0, 0));
}

#[test]
fn damage_of_what_was_acknowledged_is_an_error_after_a_crash_too() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(1, &"one".repeat(300))]);
    let end = disk.content(path()).unwrap().len();
    commit(&store, &[(2, "two")]);
    commit(&store, &[(3, "three")]);
    drop(store);
    for position in 4..end {
        let damaged = disk.restart();
        damaged.flip_bit(path(), position, 2);
        let opened = open(&damaged);
        assert!(is_corrupted(&opened), "byte {position}: {opened:?}");
    }
}

#[test]
fn a_commit_costs_one_sync_and_no_more() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(1, "the first one says who is writing")]);
    let before = disk.calls();
    commit(&store, &[(1, "x")]);
    let calls = disk.trace().split_off(before);
    let count = |kind| calls.iter().filter(|call| **call == kind).count();
    assert_eq!((count(Call::Sync), count(Call::SyncDirectory)), (1, 0));
    assert_eq!(count(Call::Write), 3, "entry, transaction, status");
}

#[test]
fn a_store_in_memory_keeps_no_checksums() {
    let store = Arc::new(Store::in_memory("memory").unwrap());
    commit(&store, &[(1, "one")]);
    assert_eq!(checked(&store), (0, 1, 0));
}

#[test]
fn a_full_disk_that_has_no_room_for_checksums_refuses_the_commit() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    disk.plan_all(Call::Create, Some(Fault::Error(ENOSPC)));
    let error = try_commit(&store, &changes_of(&[(1, "one")])).unwrap_err();
    assert!(matches!(error, Error::Io { .. }), "{error}");
    disk.plan_all(Call::Create, None);
    commit(&store, &[(1, "one")]);
    assert_eq!(load_at(&store, 1, Tid::MAX).unwrap().unwrap(), b"one");
    assert_eq!(walk(&store).unwrap(), [Oid(1)]);
}

#[test]
fn a_power_loss_of_the_checksums_leaves_the_data_as_they_were_acknowledged() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    for n in 0..6u64 {
        commit(&store, &[(n, "acknowledged")]);
    }
    drop(store);
    let mut verified = 0;
    for seed in 0..100 {
        let store = open(&disk.power_loss(seed)).unwrap();
        assert_eq!(contents(&store).unwrap().len(), 6, "seed {seed}");
        let found = checked(&store);
        assert_eq!((found.0 + found.1, found.2), (6, 0), "seed {seed}");
        verified += u64::from(found.0 == 6);
    }
    assert!(verified > 50, "lost entries are made again from the data");
}

#[test]
fn checksums_reach_the_device_once_in_a_while_though_the_process_never_closes() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let large = "large ".repeat(1 << 18);
    let syncs = |disk: &SimDisk| disk.trace().iter().filter(|c| **c == Call::Sync).count();
    let mut extra = 0;
    for n in 0..8u64 {
        let before = syncs(&disk);
        commit(&store, &[(n, &large)]);
        extra += syncs(&disk) - before - 1;
    }
    // Three of the first commit are those of a new session.
    assert!(
        (1 + 2..8).contains(&extra),
        "{extra} more syncs than commits"
    );
    drop(store);
    let store = open(&disk.restart()).unwrap();
    assert_eq!(checked(&store), (8, 0, 0));
}

#[test]
fn an_aborted_transaction_is_not_taken_for_the_one_that_took_its_place() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(1, "acknowledged")]);
    let aborted = draft(&store, &changes_of(&[(2, "aborted!")]));
    let locked = store
        .lock(aborted, std::time::Duration::ZERO)
        .unwrap()
        .unwrap();
    let tid = locked.least_tid(NOW);
    drop(locked.write(tid).unwrap());
    let sums = disk.content(&beside(".psums")).unwrap();
    commit(&store, &[(2, "the same")]);
    commit(&store, &[(3, "says that the same was acknowledged")]);
    drop(store);
    let left = disk.restart();
    // What was written since has not reached the device.
    left.put(&beside(".psums"), &sums);
    let store = open(&left).unwrap();
    assert_eq!(contents(&store).unwrap().len(), 3);
    assert_eq!(text(&store, 2).unwrap(), "the same");
    assert_eq!(checked(&store), (3, 0, 0));
}
