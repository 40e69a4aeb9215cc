//! One writer at a time: by whatever name, and whatever becomes of the process.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use perdure_engine::disk::{Access, Disk, File};
use perdure_engine::{Error, Options, PackOptions, Store};
use perdure_format::Tid;
use perdure_sim::{Call, SimDisk};

use crate::support::*;

fn other_name() -> &'static Path {
    Path::new("/elsewhere/link.fs")
}

fn open_linked(disk: &SimDisk) -> Result<Store> {
    Store::open_on(Arc::new(disk.clone()), other_name(), Options::default())
}

#[test]
fn a_second_writer_by_another_name_of_the_file_is_refused_also_after_a_pack() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let first = commit(&store, &[(0, "old"), (1, "kept")]);
    commit(&store, &[(0, "new")]);
    let refused = |disk: &SimDisk| {
        disk.link(path(), other_name()).unwrap();
        let refused = open_linked(disk).unwrap_err();
        assert!(matches!(refused, Error::Locked { .. }), "{refused}");
    };
    refused(&disk);
    let options = PackOptions {
        until: store.last_transaction(),
        collect_garbage: false,
        keep_old: false,
    };
    store.pack(options, &[], &mut Quiet).unwrap().unwrap();
    // What was the file before the pack is another one now.
    let before = open_linked(&disk).unwrap();
    assert!(before.last_transaction() > first);
    drop(before);
    disk.remove(other_name()).unwrap();
    refused(&disk);
    store.close().unwrap();
    open_linked(&disk).unwrap();
}

/// A disk where, after the data file was opened so many times, a pack by a writer that came by
/// another name puts another one in its place.
#[derive(Debug)]
struct Replaced {
    disk: SimDisk,
    opens_left: AtomicUsize,
}

impl Disk for Replaced {
    fn open(&self, name: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(name, access)?;
        if name == path() && self.opens_left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.disk.rename(&beside(".packed"), path())?;
        }
        Ok(file)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn sync_directory_of(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_directory_of(path)
    }
}

#[test]
fn a_lock_of_the_file_that_a_pack_has_just_replaced_is_none() {
    for opens in 1..=3 {
        let disk = SimDisk::new(1);
        commit(&open(&disk).unwrap(), &[(0, "root")]);
        disk.put(&beside(".packed"), &disk.content(path()).unwrap());
        let held = disk.open(&beside(".packed"), Access::Write).unwrap();
        assert!(held.try_lock().unwrap());
        let replaced = Replaced {
            disk,
            opens_left: AtomicUsize::new(opens),
        };
        let opened = Store::open_on(Arc::new(replaced), path(), Options::default());
        // After the third one, the writer that packs would have been refused.
        match opened {
            Err(Error::Locked { .. }) => assert!(opens < 3),
            other => assert!(opens == 3, "{opens}: {other:?}"),
        }
    }
}

#[test]
fn who_still_reads_a_closed_storage_keeps_no_writer_away() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    commit(&store, &[(0, "root")]);
    let reading = store.transactions().unwrap();
    store.close().unwrap();
    open(&disk).unwrap();
    drop(reading);
}

#[test]
fn a_process_that_was_forked_reads_and_changes_nothing() {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let tid = commit(&store, &[(0, "root")]);
    let locked = store.lock(draft(&store, &changes_of(&[(0, "voted")])), Duration::ZERO);
    let voted = locked.unwrap().unwrap().write(Tid(tid.0 + 1)).unwrap();
    disk.fork();
    let before = disk.trace().len();
    let refused = try_commit(&store, &changes_of(&[(0, "forked")])).unwrap_err();
    assert!(matches!(refused, Error::Forked { .. }), "{refused}");
    assert_eq!(text(&store, 0).unwrap(), "root");
    // What the other process voted is not this one's to take back.
    drop(voted);
    store.save_index().unwrap();
    store.close().unwrap();
    let changes = |call: &&Call| call.is_write();
    assert_eq!(disk.trace()[before..].iter().find(changes), None);
}
