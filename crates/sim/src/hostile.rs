//! Parsers under bytes that nobody wrote: what the fuzz targets and the seeded tests call.
//!
//! Each takes arbitrary bytes and returns; whatever they are, nothing panics, hangs, or takes
//! memory beyond a few times their length.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use perdure_engine::{Basis, Draft, Metadata, Options, Patience, Store};
use perdure_format::file::{RecordHeader, TransactionHeader};
use perdure_format::index::{Block, IndexHeader};
use perdure_format::joint::JointMark;
use perdure_format::{Oid, Tid, checksums, pickle, seal};

use crate::SimDisk;

/// A target: its name and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("data_file", data_file),
    ("index_file", index_file),
    ("checksum_file", checksum_file),
    ("parts", parts),
    ("pickle", pickle_scan),
];

const NOW: f64 = 1_795_251_000.0;
const OIDS: u64 = 40;

fn data() -> &'static Path {
    Path::new("/db/data.fs")
}

fn open(disk: &SimDisk, read_only: bool) -> Option<Arc<Store>> {
    let options = Options {
        read_only,
        ..Options::default()
    };
    let store = Store::open_on(Arc::new(disk.clone()), data(), options);
    store.ok().map(Arc::new)
}

/// Read everything that there is; errors are fine.
fn read_all(store: &Store) {
    let mut buffer = Vec::new();
    for oid in 0..OIDS {
        let _ = store.load(Oid(oid), Tid::MAX, &mut buffer, Patience::Wait);
        let _ = store.history(Oid(oid), 10);
    }
    let mut from = Oid::ZERO;
    for _ in 0..OIDS {
        match store.object_at_or_after(from, Tid::MAX, &mut buffer) {
            Ok(Some((oid, _))) if oid < Oid::MAX => from = Oid(oid.0 + 1),
            _ => break,
        }
    }
    let Ok(mut transactions) = store.transactions() else {
        return;
    };
    while let Ok(Some(transaction)) = transactions.advance() {
        let mut records = transactions.records_of(&transaction);
        while let Ok(Some(_)) = records.advance() {}
    }
    let _ = store
        .transactions()
        .and_then(|all| all.between(Tid(1 << 60), Tid::MAX));
    let _ = store.check_checksums();
}

/// Commit something; errors are fine.
fn commit(store: &Arc<Store>) {
    let Ok(mut draft) = Draft::new(Metadata::default()) else {
        return;
    };
    draft.store(Oid(1), Basis::Copy, b"new");
    let Ok(Ok(locked)) = store.lock(draft, Duration::ZERO) else {
        return;
    };
    let tid = locked.least_tid(NOW);
    if let Ok(finished) = locked.write(tid).and_then(|voted| voted.finish(false)) {
        let _ = finished.wait_durable();
    }
}

fn use_disk(disk: &SimDisk) {
    if let Some(store) = open(disk, true) {
        read_all(&store);
    }
    if let Some(store) = open(disk, false) {
        commit(&store);
        read_all(&store);
        let _ = store.close();
    }
    if let Some(store) = open(disk, false) {
        read_all(&store);
    }
}

/// The bytes are a data file.
pub fn data_file(bytes: &[u8]) {
    let disk = SimDisk::new(1);
    disk.put(data(), bytes);
    use_disk(&disk);
}

/// A small database on a disk.
#[must_use]
pub fn small_database() -> SimDisk {
    let disk = SimDisk::new(1);
    if let Some(store) = open(&disk, false) {
        for _ in 0..3 {
            commit(&store);
        }
        let _ = store.close();
    }
    disk
}

/// The files of a small database, by what their names end with.
static SMALL: LazyLock<Vec<(&str, Vec<u8>)>> = LazyLock::new(|| {
    let disk = small_database();
    let file = |suffix| Some((suffix, disk.content(&path_of(suffix))?));
    ["", ".pindex", ".psums"]
        .into_iter()
        .filter_map(file)
        .collect()
});

fn path_of(suffix: &str) -> PathBuf {
    PathBuf::from(format!("{}{suffix}", data().display()))
}

fn beside(suffix: &str, bytes: &[u8]) {
    let disk = SimDisk::new(1);
    for (other, content) in &*SMALL {
        disk.put(&path_of(other), content);
    }
    disk.put(&path_of(suffix), bytes);
    use_disk(&disk);
}

/// The bytes are the index of a small database.
pub fn index_file(bytes: &[u8]) {
    beside(".pindex", bytes);
}

/// The bytes are the checksums of a small database.
pub fn checksum_file(bytes: &[u8]) {
    beside(".psums", bytes);
}

/// The bytes are any of the parts that these files consist of.
///
/// # Panics
/// Where the parser says that a mark is longer than its bytes.
pub fn parts(bytes: &[u8]) {
    let header = TransactionHeader::parse(bytes).map(|header| (header.len(), header.length));
    let record = RecordHeader::parse(bytes).map(|record| record.record_len());
    let _ = (header, record, seal::Seal::of(bytes));
    let _ = (seal::unsealed(bytes), seal::before_seal(bytes));
    let _ = (
        checksums::Mark::newest(bytes),
        checksums::Mark::newer(bytes),
    );
    let _ = (checksums::Entry::parse(bytes), checksums::sums_of(bytes));
    let _ = IndexHeader::parse(bytes).map(|header| header.file_len());
    if let Some(block) = Block::parse(bytes) {
        let _ = (block.bounds(), block.get(Oid(1)), block.entries().len());
    }
    let _ = JointMark::newer_at_end_of(bytes);
    if let Some((mark, len)) = JointMark::at_end_of(bytes) {
        let _ = (mark.decider(), mark.own_path());
        assert!(len <= bytes.len(), "a mark is longer than its bytes");
    }
}

/// The bytes are a record's data.
pub fn pickle_scan(bytes: &[u8]) {
    let _ = pickle::class_name(bytes);
    let _ = pickle::references(bytes, &mut |_| ());
    let _ = pickle::placed_references(bytes, &mut |_, _| ());
}
