//! What a store does with files that are damaged, cut off, or something else.

use perdure_engine::{Error, Options};
use perdure_format::{Oid, Tid};
use perdure_sim::SimDisk;

use crate::support::*;

/// Three transactions, closed; where each begins and where the file ends.
fn three() -> (SimDisk, Vec<usize>) {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let mut ends = vec![4];
    for n in 0..3u64 {
        commit(&store, &[(n, "some data"), (100, &format!("number {n}"))]);
        ends.push(disk.content(path()).unwrap().len());
    }
    store.close().unwrap();
    (disk, ends)
}

/// The data file alone, as another program would leave it.
fn alone(bytes: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.put(path(), bytes);
    disk
}

#[test]
fn every_sample_of_stock_zodb_opens_and_holds_together() {
    for (name, transactions, objects) in [
        ("basic.fs", 25, 253),
        ("undo.fs", 10, 2),
        ("packed.fs", 16, 16),
        ("multi_a.fs", 7, 2),
        ("multi_b.fs", 7, 3),
        ("blobs.fs", 3, 6),
        ("zlib.fs", 2, 12),
    ] {
        let disk = sample(name);
        for _ in 0..2 {
            let before = disk.content(path()).unwrap();
            let store = open(&disk).unwrap();
            assert!(store.cut().is_none());
            assert_eq!(contents(&store).unwrap().len(), transactions, "{name}");
            assert_eq!(store.object_count(), objects, "{name}");
            check_consistent(&store).unwrap();
            commit(&store, &[(7777, "added")]);
            store.close().unwrap();
            assert!(disk.content(path()).unwrap().starts_with(&before));
            disk.put(path(), &before);
        }
    }
}

#[test]
fn a_file_cut_anywhere_opens_with_the_whole_transactions_before() {
    let (disk, ends) = three();
    let bytes = disk.content(path()).unwrap();
    for len in 0..=bytes.len() {
        let disk = alone(&bytes[..len]);
        let opened = open(&disk);
        if (1..4).contains(&len) {
            assert!(matches!(opened, Err(Error::NotADatabase { .. })), "{len}");
            continue;
        }
        let store = opened.unwrap();
        let whole = ends.iter().filter(|&&end| end <= len.max(4)).count() - 1;
        assert_eq!(contents(&store).unwrap().len(), whole, "{len} bytes");
        check_consistent(&store).unwrap();
        let rest = len.max(4) - ends[whole];
        assert_eq!(
            store.cut().map(|cut| cut.len),
            (rest > 0).then_some(rest as u64)
        );
        if let Some(cut) = store.cut() {
            let kept = disk.content(&cut.kept_in).unwrap();
            assert_eq!(kept, &bytes[ends[whole]..len]);
        }
        commit(&store, &[(1, "goes on")]);
        store.close().unwrap();
        assert_eq!(contents(&open(&disk).unwrap()).unwrap().len(), whole + 1);
    }
}

#[test]
fn garbage_behind_the_end_is_cut_off_and_kept() {
    let (disk, _) = three();
    let bytes = disk.content(path()).unwrap();
    let mut dice = perdure_sim::Dice::new(3);
    for _ in 0..200 {
        let len = 1 + dice.place(3000);
        let garbage = dice.bytes(len);
        let disk = alone(&[&bytes[..], &garbage].concat());
        let store = open(&disk).unwrap();
        assert_eq!(contents(&store).unwrap().len(), 3);
        let cut = store.cut().unwrap();
        assert_eq!(disk.content(&cut.kept_in).unwrap(), garbage);
        assert_eq!(disk.content(path()).unwrap(), bytes);
    }
}

#[test]
fn a_voted_transaction_at_the_end_is_cut_off() {
    let (disk, ends) = three();
    disk.put(path(), &{
        let mut bytes = disk.content(path()).unwrap();
        bytes[ends[2] + 16] = b'c';
        bytes
    });
    let disk = alone(&disk.content(path()).unwrap());
    let read_only = open_read_only(&disk).unwrap();
    assert_eq!(contents(&read_only).unwrap().len(), 2);
    assert!(read_only.cut().is_none());
    let store = open(&disk).unwrap();
    assert_eq!(contents(&store).unwrap().len(), 2);
    assert!(store.cut().unwrap().reason.contains("voted"));
}

#[test]
fn damage_before_whole_transactions_is_an_error_that_names_the_place() {
    let (disk, ends) = three();
    let bytes = disk.content(path()).unwrap();
    // The length, the status, a record's position of its transaction, the trailer.
    let strings = usize::from(u16::from_be_bytes([
        bytes[ends[1] + 21],
        bytes[ends[1] + 22],
    ]));
    let record = ends[1] + 23 + strings;
    for place in [ends[1] + 9, ends[1] + 16, record + 24, ends[2] - 3] {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0x15;
        let disk = alone(&damaged);
        match open(&disk) {
            Err(Error::Corrupted { position, .. }) => {
                assert!((ends[1]..ends[2]).contains(&(position as usize)));
            }
            other => panic!("byte {place}: {other:?}"),
        }
        assert_eq!(disk.content(path()).unwrap(), damaged);
        assert!(open_read_only(&disk).is_err());
    }
}

#[test]
fn what_is_no_database_is_refused_untouched() {
    let mut big = vec![b'x'; 100_000];
    big[0] = b'F';
    for content in [&b"x"[..], b"FS2", b"FS22", b"FS31....", &big] {
        let disk = alone(content);
        let refused = open(&disk);
        assert!(matches!(refused, Err(Error::NotADatabase { .. })));
        assert_eq!(disk.content(path()).unwrap(), content);
    }
}

#[test]
fn an_empty_file_becomes_a_database_and_a_missing_one_is_made() {
    for disk in [alone(b""), SimDisk::new(1)] {
        let store = open(&disk).unwrap();
        assert_eq!(store.last_transaction(), Tid::ZERO);
        commit(&store, &[(0, "root")]);
        check_consistent(&store).unwrap();
    }
}

#[test]
fn a_missing_file_is_not_made_for_reading() {
    let disk = SimDisk::new(1);
    let error = open_read_only(&disk).unwrap_err();
    assert!(error.to_string().contains("data.fs"), "{error}");
    assert!(disk.names().is_empty());
}

#[test]
fn a_file_of_the_magic_alone_is_an_empty_database() {
    for magic in [b"FS30", b"FS21"] {
        let store = open(&alone(magic)).unwrap();
        assert!(store.transactions().unwrap().advance().unwrap().is_none());
        commit(&store, &[(0, "root")]);
        check_consistent(&store).unwrap();
    }
}

#[test]
fn a_kept_tail_never_replaces_an_earlier_one() {
    let (disk, _) = three();
    let bytes = disk.content(path()).unwrap();
    let disk = alone(&[&bytes[..], b"first"].concat());
    open(&disk).unwrap().close().unwrap();
    disk.put(path(), &[&bytes[..], b"second"].concat());
    let store = open(&disk).unwrap();
    assert_eq!(store.cut().unwrap().kept_in, beside(".tr1"));
    assert_eq!(disk.content(&beside(".tr0")).unwrap(), b"first");
    assert_eq!(disk.content(&beside(".tr1")).unwrap(), b"second");
}

#[test]
fn skipped_transactions_are_passed_over() {
    let (disk, ends) = three();
    let mut bytes = disk.content(path()).unwrap();
    bytes[ends[1] + 16] = b'u';
    let store = open(&alone(&bytes)).unwrap();
    let tids: Vec<usize> = contents(&store)
        .unwrap()
        .iter()
        .map(|(_, c)| c.len())
        .collect();
    assert_eq!(tids, [2, 2]);
    assert_eq!(text(&store, 1), None);
    assert_eq!(text(&store, 2).unwrap(), "some data");
}

#[test]
fn a_stop_before_a_damaged_place_does_not_hide_the_damage() {
    let (disk, ends) = three();
    let mut bytes = disk.content(path()).unwrap();
    bytes[ends[1] + 9] ^= 1;
    let options = Options {
        read_only: true,
        stop: Some(Tid(1)),
        ..Options::default()
    };
    assert!(is_corrupted(&open_with(&alone(&bytes), options)));
}

#[test]
fn damage_of_any_header_byte_never_panics_and_never_gives_wrong_objects() {
    let (disk, _) = three();
    let bytes = disk.content(path()).unwrap();
    let expected = contents(&open_read_only(&disk).unwrap()).unwrap();
    for position in 4..bytes.len() {
        for bit in [0, 3, 7] {
            let mut damaged = bytes.clone();
            damaged[position] ^= 1 << bit;
            let Ok(store) = open_read_only(&alone(&damaged)) else {
                continue;
            };
            let _ = contents(&store);
            for oid in 0..200 {
                let _ = load_at(&store, oid, Tid::MAX);
                let _ = store.history(Oid(oid), 10);
            }
            assert!(store.last_transaction() <= Tid(expected[2].0.0 | 1 << 63));
        }
    }
}
