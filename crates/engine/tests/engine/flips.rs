//! Every byte of a database changed, one after another, and every bit of its headers.
//!
//! With `PERDURE_FLIP=all`, all of a file of a megabyte; else a sample of a small one.

use std::collections::BTreeMap;
use std::sync::Arc;

use perdure_engine::disk::{Access, Disk};
use perdure_engine::{Found, Options, Patience, Store};
use perdure_format::{Oid, Tid};
use perdure_sim::SimDisk;

use crate::support::*;

const OBJECTS: u64 = 20;
/// Bytes of a record's header, and of the length behind a transaction.
const RECORD_HEADER_LEN: u64 = 42;
const TRAILER_LEN: u64 = 8;

/// A revision of an object: its data at a moment.
type Revisions = BTreeMap<(u64, Tid), Vec<u8>>;

struct Sample {
    disk: SimDisk,
    bytes: Vec<u8>,
    /// Where each transaction begins and ends.
    transactions: Vec<(u64, u64)>,
    headers: Vec<u64>,
    revisions: Revisions,
}

fn is_whole_campaign() -> bool {
    std::env::var("PERDURE_FLIP").is_ok_and(|value| value == "all")
}

/// A closed database, part of it packed, with what can be read from it.
fn sample() -> Sample {
    let len_max = if is_whole_campaign() { 1 << 20 } else { 20_000 };
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let mut round = 0u64;
    while store.size_bytes() < len_max {
        round += 1;
        let record_len = if is_whole_campaign() { 700 } else { 80 };
        let changes = (0..3).map(|n| {
            let oid = (round * 7 + n * 5) % OBJECTS;
            let byte = |i: u64| (round * 31 + n * 17 + i * i) as u8;
            (Oid(oid), Some((0..record_len).map(byte).collect()))
        });
        try_commit(&store, &changes.collect::<Vec<_>>()).unwrap();
        if round == 12 {
            let options = perdure_engine::PackOptions {
                until: store.last_transaction(),
                collect_garbage: false,
                keep_old: false,
            };
            store.pack(options, &[], &mut Quiet).unwrap();
        }
    }
    let (mut transactions, mut headers) = (Vec::new(), Vec::new());
    let mut all = store.transactions().unwrap();
    while let Some(transaction) = all.advance().unwrap() {
        let (start, header) = (transaction.position, &transaction.header);
        let end = start + header.length + TRAILER_LEN;
        transactions.push((start, end));
        headers.extend(start..start + header.len());
        headers.extend(start + header.length..end);
        let mut at = start + header.len();
        let mut records = all.records_of(&transaction);
        while let Some(record) = records.advance_header().unwrap() {
            headers.extend(at..at + RECORD_HEADER_LEN);
            at += record.record_len();
        }
    }
    let revisions = read(&store).0;
    store.close().unwrap();
    let bytes = bytes_of(&disk);
    Sample {
        disk,
        bytes,
        transactions,
        headers,
        revisions,
    }
}

fn bytes_of(disk: &SimDisk) -> Vec<u8> {
    let file = disk.open(path(), Access::Read).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    file.read_at(&mut bytes, 0).unwrap();
    bytes
}

/// Read every revision of every object; how many could not be read.
fn read(store: &Store) -> (Revisions, usize) {
    let (mut revisions, mut errors) = (Revisions::new(), 0);
    let mut buffer = Vec::new();
    for oid in 0..OBJECTS {
        let mut snapshot = Tid::MAX;
        loop {
            match store.load(Oid(oid), snapshot, &mut buffer, Patience::Wait) {
                Ok(Found::Record(located)) => {
                    let data = buffer[located.start..located.end].to_vec();
                    revisions.insert((oid, snapshot), data);
                    snapshot = Tid(located.tid.0.saturating_sub(1));
                }
                Ok(_) => break,
                Err(_) => {
                    errors += 1;
                    break;
                }
            }
        }
    }
    (revisions, errors)
}

fn open_verifying(disk: &SimDisk) -> Result<Arc<Store>> {
    let options = Options {
        read_only: true,
        verify_reads: true,
        ..Options::default()
    };
    open_with(disk, options)
}

impl Sample {
    fn change(&mut self, at: u64, mask: u8) {
        self.bytes[usize::try_from(at).unwrap()] ^= mask;
    }

    fn put(&self) {
        self.disk.put(path(), &self.bytes);
    }

    /// Is what a reader gets right, or an error? What was not read because of one is missing.
    fn reads_right(&self, store: &Store) -> bool {
        let (seen, errors) = read(store);
        let is_right = |(key, data)| self.revisions.get(key) == Some(data);
        seen.iter().all(is_right) && (errors > 0 || seen.len() == self.revisions.len())
    }

    /// Change one byte, look, and change it back.
    fn is_found(&mut self, at: u64, mask: u8) -> bool {
        self.change(at, mask);
        self.put();
        let is_found = match open_verifying(&self.disk) {
            Err(_) => true,
            Ok(store) => {
                assert!(self.reads_right(&store), "wrong data: byte {at}, {mask:#x}");
                store.check_checksums().map_or(true, |report| {
                    assert_eq!(report.unverified, 0);
                    !report.damaged.is_empty()
                })
            }
        };
        self.change(at, mask);
        is_found
    }
}

/// Some of many, or all.
fn some(all: &[u64], few: usize) -> Vec<u64> {
    let step = if is_whole_campaign() {
        1
    } else {
        all.len() / few
    };
    all.iter().copied().step_by(step.max(1)).collect()
}

#[test]
fn every_bit_of_a_header_that_changes_is_found_and_never_read_wrongly() {
    let mut sample = sample();
    let headers = some(&sample.headers.clone(), 40);
    let places = (0..4).chain(headers);
    let (mut tried, mut missed) = (0, Vec::new());
    for at in places {
        for bit in 0..8 {
            tried += 1;
            if !sample.is_found(at, 1 << bit) {
                missed.push((at, bit));
            }
        }
    }
    println!("{tried} bits of headers");
    report("bits of headers", tried);
    assert_eq!(missed, []);
}

/// A change in one transaction says nothing of another one: each is changed in the same place at
/// the same time, and each has to be named.
#[test]
fn every_byte_of_data_that_changes_is_found_and_never_read_wrongly() {
    let mut sample = sample();
    let headers: std::collections::BTreeSet<u64> = sample.headers.iter().copied().collect();
    let data: Vec<Vec<u64>> = sample
        .transactions
        .iter()
        .map(|&(start, end)| (start..end).filter(|at| !headers.contains(at)).collect())
        .collect();
    let rounds: Vec<u64> = (0..data.iter().map(Vec::len).max().unwrap() as u64).collect();
    // The last ones are compared when the file is opened, which then is refused.
    let (opened, refused) = data.split_at(data.len() - 9);
    let mut tried = 0;
    for round in some(&rounds, 10) {
        let mask = (round % 255 + 1) as u8;
        let place = |places: &Vec<u64>| places.get(usize::try_from(round).unwrap()).copied();
        let changed: Vec<u64> = opened.iter().filter_map(place).collect();
        for at in &changed {
            sample.change(*at, mask);
        }
        sample.put();
        let store = open_verifying(&sample.disk).unwrap();
        assert!(sample.reads_right(&store), "wrong data in round {round}");
        let report = store.check_checksums().unwrap();
        assert_eq!(report.damaged.len(), changed.len(), "round {round}");
        for at in &changed {
            sample.change(*at, mask);
        }
        tried += changed.len();
        for at in refused.iter().filter_map(place) {
            assert!(sample.is_found(at, mask), "byte {at}");
            tried += 1;
        }
    }
    println!("{tried} bytes of data");
    report("bytes of data", tried as u64);
}
