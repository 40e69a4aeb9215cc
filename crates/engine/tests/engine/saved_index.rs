//! What a saved index tells, whatever happens while it is saved.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use perdure_engine::disk::{Access, Disk, File};
use perdure_engine::{Options, PackOptions, Store};
use perdure_format::Oid;
use perdure_format::index::{BLOCK_LEN, Block, IndexHeader, block_of};
use perdure_sim::SimDisk;

use crate::support::*;

/// More objects than a block of the index holds.
const OBJECTS: u64 = 600;

type Step = Box<dyn FnOnce() + Send>;

/// Has something happen when an index begins to be written.
#[derive(Clone, Default)]
struct Meanwhile(Arc<Mutex<Option<Step>>>);

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

#[derive(Debug)]
struct WatchedDisk(SimDisk, Meanwhile);

impl Disk for WatchedDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        if path == beside(".pindex_tmp")
            && let Some(step) = self.1.0.lock().unwrap().take()
        {
            step();
        }
        self.0.open(path, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.link(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn sync_directory_of(&self, path: &Path) -> io::Result<()> {
        self.0.sync_directory_of(path)
    }
}

/// A store with some objects, and what to set to have something happen when its index is saved.
fn watched() -> (SimDisk, Arc<Store>, Meanwhile) {
    let (disk, meanwhile) = (SimDisk::new(1), Meanwhile::default());
    let watched = Arc::new(WatchedDisk(disk.clone(), meanwhile.clone()));
    let store = Arc::new(Store::open_on(watched, path(), Options::default()).unwrap());
    let objects: Vec<_> = (0..OBJECTS).map(|oid| (oid, "first")).collect();
    commit(&store, &objects);
    (disk, store, meanwhile)
}

fn index_path() -> PathBuf {
    beside(".pindex")
}

fn header_of(index: &[u8]) -> IndexHeader {
    IndexHeader::parse(index).unwrap()
}

/// A disk on which nothing but a data file and its index is left.
fn left(data: &[u8], index: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.put(path(), data);
    disk.put(&index_path(), index);
    disk
}

#[test]
fn an_index_that_is_saved_while_others_commit_tells_what_was_before_them() {
    let (disk, store, meanwhile) = watched();
    let writer = Arc::clone(&store);
    let commits = move || {
        commit(&writer, &[(5, "second"), (OBJECTS - 1, "second")]);
        commit(&writer, &[(5, "third"), (OBJECTS, "new")]);
        try_commit(&writer, &[(Oid(7), None)]).unwrap();
    };
    *meanwhile.0.lock().unwrap() = Some(Box::new(commits));
    store.save_index().unwrap();
    assert_eq!(text(&store, 5).as_deref(), Some("third"));
    let index = disk.content(&index_path()).unwrap();
    let header = header_of(&index);
    assert_eq!(header.entries, OBJECTS);
    let data = disk.content(path()).unwrap();
    let end = usize::try_from(header.end).unwrap();
    assert!(end < data.len());
    // The power is lost: the index is there, what was committed meanwhile may be or not.
    for (data, newest) in [(&data[..end], "first"), (&data[..], "third")] {
        let disk = left(data, &index);
        for _ in 0..2 {
            let store = open(&disk).unwrap();
            check_consistent(&store).unwrap();
            assert_eq!(text(&store, 5).as_deref(), Some(newest));
            assert_eq!(text(&store, 7).is_some(), newest == "first");
            commit(&store, &[(6, "goes on")]);
            check_consistent(&store).unwrap();
            store.close().unwrap();
        }
    }
}

#[test]
fn an_index_that_is_saved_behind_a_pack_tells_what_was_before_later_commits() {
    let (disk, store, meanwhile) = watched();
    let until = commit(&store, &[(5, "second")]);
    let writer = Arc::clone(&store);
    *meanwhile.0.lock().unwrap() = Some(Box::new(move || {
        commit(&writer, &[(5, "third"), (OBJECTS, "new")]);
    }));
    let options = PackOptions {
        until,
        collect_garbage: false,
        keep_old: false,
    };
    store.pack(options, &[], &mut Quiet).unwrap().unwrap();
    check_consistent(&store).unwrap();
    assert_eq!(text(&store, 5).as_deref(), Some("third"));
    let index = disk.content(&index_path()).unwrap();
    let end = usize::try_from(header_of(&index).end).unwrap();
    let store = open(&left(&disk.content(path()).unwrap()[..end], &index)).unwrap();
    check_consistent(&store).unwrap();
    assert_eq!(text(&store, 5).as_deref(), Some("second"));
}

#[test]
fn an_index_that_tells_a_position_behind_its_end_is_made_anew() {
    let (disk, store, _) = watched();
    store.close().unwrap();
    let data = disk.content(path()).unwrap();
    let mut index = disk.content(&index_path()).unwrap();
    let end = header_of(&index).end;
    for position in [end, u64::MAX] {
        let block = &mut index[BLOCK_LEN..2 * BLOCK_LEN];
        let mut entries = Block::parse(block).unwrap().entries().to_vec();
        entries[5].position = position;
        block.copy_from_slice(&block_of(&entries));
        // Whether a look or the next save is what meets it.
        for looks in [true, false] {
            let disk = left(&data, &index);
            let store = open(&disk).unwrap();
            if looks {
                check_consistent(&store).unwrap();
            }
            commit(&store, &[(300, "second")]);
            store.close().unwrap();
            let store = open(&disk).unwrap();
            check_consistent(&store).unwrap();
            assert_eq!(text(&store, 5).as_deref(), Some("first"));
        }
    }
}
