//! Opening a file for reading only while somebody writes to it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use perdure_engine::disk::{Access, Disk, File};
use perdure_engine::{Options, Store};
use perdure_sim::SimDisk;

use crate::support::*;

/// More than it takes to open a file of a few transactions.
const READS_MAX: usize = 1_000;

type Step = Box<dyn FnOnce() + Send>;

/// Has something happen just before some of the reads: how many reads are before each.
#[derive(Clone)]
struct Meanwhile(Arc<Mutex<VecDeque<(usize, Step)>>>);

impl Meanwhile {
    fn before_read(&self) {
        let mut steps = self.0.lock().unwrap();
        while let Some((0, step)) = steps.pop_front_if(|(left, _)| *left == 0) {
            step();
        }
        if let Some((left, _)) = steps.front_mut() {
            *left -= 1;
        }
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Meanwhile")
    }
}

/// A file that is only read.
#[derive(Debug)]
struct ReadFile(Arc<dyn File>, Meanwhile);

impl File for ReadFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.1.before_read();
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, _bytes: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn len(&self) -> io::Result<u64> {
        self.1.before_read();
        self.0.len()
    }

    fn truncate(&self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn try_lock(&self) -> io::Result<bool> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        self.0.identity()
    }
}

/// A disk that is only read.
#[derive(Debug)]
struct ReadDisk(SimDisk, Meanwhile);

impl Disk for ReadDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let file = self.0.open(path, access)?;
        Ok(Arc::new(ReadFile(file, self.1.clone())))
    }

    fn rename(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn link(&self, _from: &Path, _to: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn remove(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.0.exists(path)
    }

    fn sync_directory_of(&self, _path: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Open for reading while another session votes for its first transaction, before read number
/// `vote`, and goes on so many reads later; whether there were that many reads.
fn open_while_another_begins(vote: usize, later: usize) -> bool {
    let disk = SimDisk::new(1);
    let store = open(&disk).unwrap();
    let first = commit(&store, &[(0, "root")]);
    store.close().unwrap();
    let store = open(&disk).unwrap();
    let (send, receive) = mpsc::channel();
    let writer = Arc::clone(&store);
    let votes: Step = Box::new(move || {
        let one = draft(&writer, &changes_of(&[(1, "one")]));
        let locked = writer.lock(one, Duration::from_mins(1)).unwrap().unwrap();
        let tid = locked.least_tid(NOW);
        send.send(locked.write(tid).unwrap()).unwrap();
    });
    let goes_on: Step = Box::new(move || {
        let finished = receive.recv().unwrap().finish(false).unwrap();
        finished.wait_durable().unwrap();
        finished.release();
        commit(&store, &[(2, "two")]);
        commit(&store, &[(3, "three")]);
    });
    let steps = VecDeque::from([(vote, votes), (later, goes_on)]);
    let meanwhile = Meanwhile(Arc::new(Mutex::new(steps)));
    let options = Options {
        read_only: true,
        ..Options::default()
    };
    let watched = Arc::new(ReadDisk(disk, meanwhile.clone()));
    let reader = Store::open_on(watched, path(), options);
    let reader = reader.unwrap_or_else(|error| panic!("before reads {vote} and {later}: {error}"));
    let reader = Arc::new(reader);
    assert!(reader.last_transaction() >= first);
    check_consistent(&reader).unwrap();
    meanwhile.0.lock().unwrap().is_empty()
}

#[test]
fn commits_at_any_moment_of_a_read_only_open_are_no_damage() {
    let vote =
        |vote| (0..READS_MAX).take_while(move |later| open_while_another_begins(vote, *later));
    let opened: Vec<usize> = (0..READS_MAX)
        .map(|number| vote(number).count())
        .take_while(|count| *count > 0)
        .collect();
    assert!(opened.len() > 3, "the file was hardly read: {opened:?}");
}
