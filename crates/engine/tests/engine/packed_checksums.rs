//! What a pack does with the checksums beside a data file.

use std::sync::Arc;

use perdure_engine::{Error, PackOptions, Store};
use perdure_format::Tid;
use perdure_sim::{Call, Fault, SimDisk};

use crate::support::*;

/// Transactions whose objects change twice; the third one's id.
fn some(disk: &SimDisk) -> (Arc<Store>, Tid) {
    let store = open(disk).unwrap();
    let mut until = Tid::ZERO;
    for n in 0..6u64 {
        let text = format!("number {n}, {}", "data ".repeat(100));
        let tid = commit(&store, &[(n % 3, &text), (100, &format!("number {n}"))]);
        until = if n == 3 { tid } else { until };
    }
    (store, until)
}

fn pack(store: &Arc<Store>, until: Tid) -> Result<bool> {
    let options = PackOptions {
        until,
        collect_garbage: false,
        keep_old: false,
    };
    store
        .pack(options, &[], &mut Quiet)
        .map(|packed| packed.is_some())
}

/// How many transactions are verified; all are known, and none is damaged.
fn verified(store: &Store) -> u64 {
    let checked = store.check_checksums().unwrap();
    assert_eq!((checked.unverified, checked.damaged.len()), (0, 0));
    checked.verified
}

#[test]
fn a_packed_file_has_checksums_at_once_and_keeps_them() {
    for until in [None, Some(Tid::MAX)] {
        let disk = SimDisk::new(1);
        let (store, fourth) = some(&disk);
        assert!(pack(&store, until.unwrap_or(fourth)).unwrap());
        let count = contents(&store).unwrap().len() as u64;
        assert_eq!(verified(&store), count);
        assert_eq!(disk.content(&beside(".psums_pack")), None);
        commit(&store, &[(1, "goes on")]);
        assert_eq!(verified(&store), count + 1);
        assert!(pack(&store, Tid::MAX).unwrap());
        let count = contents(&store).unwrap().len() as u64;
        store.close().unwrap();
        let store = open(&disk.restart()).unwrap();
        assert_eq!(verified(&store), count);
        check_consistent(&store).unwrap();
    }
}

#[test]
fn a_file_that_is_only_packed_in_a_session_has_checksums() {
    let disk = SimDisk::new(1);
    let (store, _) = some(&disk);
    store.close().unwrap();
    let disk = disk.restart();
    let store = open(&disk).unwrap();
    assert!(pack(&store, Tid::MAX).unwrap());
    let count = verified(&store);
    store.close().unwrap();
    let store = open(&disk.restart()).unwrap();
    assert_eq!(verified(&store), count);
    commit(&store, &[(1, "goes on")]);
    assert_eq!(verified(&store), count + 1);
}

#[test]
fn a_file_of_stock_gets_checksums_when_it_is_packed() {
    let disk = sample("basic.fs");
    let store = open(&disk).unwrap();
    assert!(pack(&store, Tid::MAX).unwrap());
    assert_eq!(verified(&store), contents(&store).unwrap().len() as u64);
}

#[test]
fn a_changed_byte_of_a_packed_file_is_found() {
    let disk = SimDisk::new(1);
    let (store, fourth) = some(&disk);
    assert!(pack(&store, fourth).unwrap());
    store.close().unwrap();
    let len = disk.content(path()).unwrap().len();
    for position in (4..len).step_by(3) {
        let damaged = disk.restart();
        damaged.flip_bit(path(), position, (position % 8) as u8);
        let found = open_read_only(&damaged).and_then(|store| store.check_checksums());
        let is_found = found.is_err() || !found.unwrap().damaged.is_empty();
        assert!(is_found, "byte {position} was changed unnoticed");
    }
}

#[test]
fn damage_gets_no_new_checksum() {
    let disk = SimDisk::new(1);
    let (store, fourth) = some(&disk);
    let bytes = disk.content(path()).unwrap();
    let find = |text: &str| {
        let found = bytes.windows(text.len()).position(|w| w == text.as_bytes());
        found.unwrap()
    };
    // Copied as current, and as later than the pack time.
    for text in ["number 3,", "number 5,"] {
        disk.flip_bit(path(), find(text), 1);
        let packed = pack(&store, fourth);
        assert!(matches!(packed, Err(Error::Corrupted { .. })), "{text}");
        assert_eq!(disk.content(&beside(".pack")), None);
        assert_eq!(disk.content(&beside(".psums_pack")), None);
        disk.flip_bit(path(), find(text), 1);
    }
    // What is dropped may be what it is.
    disk.flip_bit(path(), find("number 0,"), 1);
    assert!(pack(&store, fourth).unwrap());
}

#[test]
fn a_torn_commit_after_a_pack_is_told_from_damage() {
    for seed in 0..effort(40) {
        let disk = SimDisk::new(seed);
        let (store, _) = some(&disk);
        assert!(pack(&store, Tid::MAX).unwrap());
        let acknowledged = commit(&store, &[(1, "acknowledged")]);
        disk.plan_all(Call::Sync, Some(Fault::Death));
        let _ = try_commit(&store, &changes_of(&[(2, &"torn ".repeat(900))]));
        for loss in 0..4 {
            let store = open(&disk.power_loss(seed * 8 + loss)).unwrap();
            check_consistent(&store).unwrap();
            assert!(store.last_transaction() >= acknowledged);
            verified(&store);
        }
    }
}
