//! What all tests use: stores on a simulated disk, commits, and looks at what is there.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use perdure_engine::{
    Basis, Draft, Error, Finished, Found, Metadata, Options, PackPhase, PackWatch, Patience, Store,
};
use perdure_format::{Oid, Tid};
use perdure_sim::SimDisk;

pub const NOW: f64 = 1_795_251_000.0;
pub const EIO: i32 = 5;
pub const ENOSPC: i32 = 28;

pub type Result<T> = perdure_engine::Result<T>;

/// The data of an object; none where it was deleted.
pub type Data = Option<Vec<u8>>;

/// What one transaction changed.
pub type Changes = Vec<(Oid, Data)>;

/// Everything that a storage holds: each transaction with its changes.
pub type Contents = Vec<(Tid, Changes)>;

pub fn path() -> &'static Path {
    Path::new("/db/data.fs")
}

/// A file beside the data file.
pub fn beside(suffix: &str) -> PathBuf {
    format!("{}{suffix}", path().display()).into()
}

pub fn open_with(disk: &SimDisk, options: Options) -> Result<Arc<Store>> {
    Store::open_on(Arc::new(disk.clone()), path(), options).map(Arc::new)
}

pub fn open(disk: &SimDisk) -> Result<Arc<Store>> {
    open_with(disk, Options::default())
}

pub fn open_read_only(disk: &SimDisk) -> Result<Arc<Store>> {
    open_with(
        disk,
        Options {
            read_only: true,
            ..Options::default()
        },
    )
}

/// One of the sample databases made by stock ZODB, on a disk.
pub fn sample(name: &str) -> SimDisk {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data");
    let disk = SimDisk::new(1);
    disk.put(path(), &std::fs::read(file.join(name)).unwrap());
    disk
}

/// A draft of changes to the current revisions.
pub fn draft(store: &Store, changes: &[(Oid, Data)]) -> Draft {
    let mut draft = Draft::new(Metadata::default()).unwrap();
    for (oid, data) in changes {
        let basis = Basis::Revision(newest(store, *oid));
        match data {
            Some(data) => draft.store(*oid, basis, data),
            None => draft.delete(*oid, basis),
        }
    }
    draft
}

/// Have a draft keep no more than so many bytes in memory, where a number is given.
pub fn keep(store: &Store, draft: &mut Draft, kept: Option<usize>) {
    if let Some(bytes) = kept {
        store.lend_room(draft);
        draft.keep(bytes);
    }
}

/// Put aside what a draft is not to keep in memory.
pub fn put_aside(draft: &mut Draft) {
    if draft.is_large() {
        draft.put_aside();
    }
}

/// An object's newest visible revision, its deletion included; zero where none is found.
fn newest(store: &Store, oid: Oid) -> Tid {
    let last = store.last_transaction();
    match store.load(oid, last, &mut Vec::new(), Patience::Wait) {
        Ok(Found::Record(located)) => located.tid,
        Ok(Found::Deleted(tid)) => tid,
        // What cannot be read now cannot be locked either.
        Ok(Found::Nothing | Found::WouldWait) | Err(_) => Tid::ZERO,
    }
}

pub fn try_finish(store: &Arc<Store>, draft: Draft) -> Result<Finished> {
    let locked = store.lock(draft, Duration::from_mins(1))?;
    let locked = locked.expect("nobody holds the commit lock for so long");
    assert!(locked.conflicts().is_empty(), "a conflict");
    let tid = locked.least_tid(NOW);
    locked.write(tid)?.finish(false)
}

/// Commit and wait until it is durable.
pub fn try_commit(store: &Arc<Store>, changes: &[(Oid, Data)]) -> Result<Tid> {
    let finished = try_finish(store, draft(store, changes))?;
    finished.wait_durable()?;
    finished.release();
    Ok(finished.tid())
}

pub fn commit(store: &Arc<Store>, changes: &[(u64, &str)]) -> Tid {
    try_commit(store, &changes_of(changes)).unwrap()
}

pub fn changes_of(changes: &[(u64, &str)]) -> Changes {
    let change = |(oid, text): &(u64, &str)| (Oid(*oid), Some(text.as_bytes().to_vec()));
    changes.iter().map(change).collect()
}

/// An object's data as of a transaction.
pub fn load_at(store: &Store, oid: u64, tid: Tid) -> Result<Data> {
    let mut buffer = Vec::new();
    let found = store.load(Oid(oid), tid, &mut buffer, Patience::Wait)?;
    Ok(match found {
        Found::Record(located) => Some(buffer[located.start..located.end].to_vec()),
        Found::Nothing | Found::Deleted(_) => None,
        Found::WouldWait => panic!("a patient read gave up"),
    })
}

/// An object's current data as text.
pub fn text(store: &Store, oid: u64) -> Option<String> {
    let data = load_at(store, oid, store.last_transaction()).unwrap();
    data.map(|data| String::from_utf8(data).unwrap())
}

/// All transactions with their changes.
pub fn contents(store: &Store) -> Result<Contents> {
    let mut transactions = store.transactions()?;
    let mut all = Vec::new();
    while let Some(transaction) = transactions.advance()? {
        let mut records = transactions.records_of(&transaction);
        let mut changes = Vec::new();
        while let Some(record) = records.advance()? {
            changes.push((record.header.oid, record.data));
        }
        all.push((transaction.header.tid, changes));
    }
    Ok(all)
}

/// Check that loads, the index and the walk over all transactions agree.
pub fn check_consistent(store: &Store) -> Result<()> {
    let mut current: BTreeMap<Oid, Data> = BTreeMap::new();
    let mut last = Tid::ZERO;
    for (tid, changes) in contents(store)? {
        assert!(tid > last, "{tid} follows {last}");
        last = tid;
        current.extend(changes);
    }
    assert_eq!(store.last_transaction(), last);
    assert_eq!(store.object_count(), current.len() as u64);
    for (oid, data) in &current {
        assert_eq!(&load_at(store, oid.0, last)?, data, "object {oid}");
    }
    let existing = current.iter().filter(|(_, data)| data.is_some());
    let existing: Vec<Oid> = existing.map(|(oid, _)| *oid).collect();
    assert_eq!(walk(store)?, existing);
    if let Some(greatest) = current.keys().max() {
        assert!(store.max_oid() >= *greatest);
    }
    Ok(())
}

/// The oids of all current objects, as the index walk gives them.
pub fn walk(store: &Store) -> Result<Vec<Oid>> {
    let (mut found, mut from, mut buffer) = (Vec::new(), Oid::ZERO, Vec::new());
    while let Some((oid, _)) =
        store.object_at_or_after(from, store.last_transaction(), &mut buffer)?
    {
        found.push(oid);
        match oid.0.checked_add(1) {
            Some(next) => from = Oid(next),
            None => break,
        }
    }
    Ok(found)
}

pub fn is_corrupted<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Corrupted { .. }))
}
/// Watches a pack that collects no garbage.
pub struct Quiet;

impl PackWatch for Quiet {
    fn references(
        &mut self,
        _data: &[u8],
        _found: &mut Vec<Oid>,
    ) -> std::result::Result<(), String> {
        Ok(())
    }

    fn progress(&mut self, _phase: PackPhase, _done: u64, _total: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

/// How much work a campaign does: `PERDURE_CAMPAIGN` times its share in a usual run.
pub fn effort(usual: u64) -> u64 {
    let factor = std::env::var("PERDURE_CAMPAIGN").ok();
    let factor = factor.map_or(1, |text| text.parse().expect("PERDURE_CAMPAIGN: a number"));
    usual * factor
}

/// Add what a campaign reached to the file that `PERDURE_FIGURES` names, if it does.
pub fn report(campaign: &str, crashes: u64) {
    use std::io::Write;
    if let Ok(path) = std::env::var("PERDURE_FIGURES") {
        let file = std::fs::File::options()
            .append(true)
            .create(true)
            .open(path);
        let line = format!(
            "{{\"campaign\": \"{campaign}\", \"seed\": {}, \"crashes\": {crashes}}}\n",
            seed()
        );
        file.unwrap().write_all(line.as_bytes()).unwrap();
    }
}

/// The seed of a campaign: `PERDURE_SEED`, or the usual one.
pub fn seed() -> u64 {
    let seed = std::env::var("PERDURE_SEED").ok();
    seed.map_or(1, |text| text.parse().expect("PERDURE_SEED: a number"))
}

/// A record that refers to objects of its own database, and of others.
pub fn record(own: &[u64], others: &[(&str, u64)]) -> Vec<u8> {
    let mut data = b"\x80\x03cshop\nItem\n.\x80\x03](".to_vec();
    for oid in own {
        data.extend_from_slice(b"C\x08");
        data.extend_from_slice(&oid.to_be_bytes());
        data.push(b'Q');
    }
    for (name, oid) in others {
        data.extend_from_slice(b"](X\x01\0\0\0n(X");
        data.extend_from_slice(&(name.len() as u32).to_le_bytes());
        data.extend_from_slice(name.as_bytes());
        data.extend_from_slice(b"C\x08");
        data.extend_from_slice(&oid.to_be_bytes());
        data.extend_from_slice(b"teQ");
    }
    data.extend_from_slice(b"e.");
    data
}
