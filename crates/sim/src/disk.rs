//! A disk that fails, tears and forgets.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perdure_engine::disk::{Access, Disk, File};

use crate::call::{Call, Fault};
use crate::dice::Dice;
use crate::image::{Change, FileImage, FileNumber, Image, NameChange};
use crate::loss;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

#[derive(Debug)]
struct State {
    image: Image,
    trace: Vec<Call>,
    faults: BTreeMap<usize, Fault>,
    lasting: BTreeMap<Call, Fault>,
    dead: bool,
    room_bytes: Option<usize>,
    dice: Dice,
    /// How often the process was forked.
    forks: u32,
}

/// A disk in memory that keeps what was synced apart from what was not.
///
/// Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    /// Guards everything. A leaf.
    state: Arc<Mutex<State>>,
}

/// An open file of a [`SimDisk`].
#[derive(Debug)]
pub struct SimFile {
    disk: SimDisk,
    number: FileNumber,
    holds_lock: AtomicBool,
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new(0)
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::over(Image::default(), seed)
    }

    fn over(image: Image, seed: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(State {
                image,
                trace: Vec::new(),
                faults: BTreeMap::new(),
                lasting: BTreeMap::new(),
                dead: false,
                room_bytes: None,
                dice: Dice::new(seed),
                forks: 0,
            })),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // What a test sets up.

    /// Put a file on the device.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.state();
        let number = state.image.files.len();
        state.image.files.push(FileImage {
            seen: bytes.to_vec(),
            synced: bytes.to_vec(),
            ..FileImage::default()
        });
        state.image.names.insert(path.to_owned(), number);
        state.image.synced_names.insert(path.to_owned(), number);
    }

    /// Let the call with this number (the first has 0) go wrong.
    pub fn plan(&self, call: usize, fault: Fault) {
        self.state().faults.insert(call, fault);
    }

    /// Let every call of a kind go wrong, until told otherwise.
    pub fn plan_all(&self, call: Call, fault: Option<Fault>) {
        let lasting = &mut self.state().lasting;
        match fault {
            Some(fault) => lasting.insert(call, fault),
            None => lasting.remove(&call),
        };
    }

    /// Limit the bytes that all files together may take.
    pub fn limit_room(&self, bytes: Option<usize>) {
        self.state().room_bytes = bytes;
    }

    /// Turn one bit of a file, on the device and in the cache.
    pub fn flip_bit(&self, path: &Path, position: usize, bit: u8) {
        let mut state = self.state();
        let number = state.image.names.get(path).copied();
        if let Some(file) = number.and_then(|number| state.image.files.get_mut(number)) {
            for bytes in [&mut file.seen, &mut file.synced] {
                if let Some(byte) = bytes.get_mut(position) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
    }

    /// Go on as a process that was forked from the one that did all before.
    pub fn fork(&self) {
        self.state().forks += 1;
    }

    // What a test looks at.

    /// The calls that were made.
    #[must_use]
    pub fn trace(&self) -> Vec<Call> {
        self.state().trace.clone()
    }

    /// How many calls were made.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.state().trace.len()
    }

    /// What the process reads in a file.
    #[must_use]
    pub fn content(&self, path: &Path) -> Option<Vec<u8>> {
        let state = self.state();
        let number = state.image.names.get(path)?;
        Some(state.image.files.get(*number)?.seen.clone())
    }

    /// The names of all files.
    #[must_use]
    pub fn names(&self) -> Vec<std::path::PathBuf> {
        self.state().image.names.keys().cloned().collect()
    }

    /// How many bytes all files take.
    #[must_use]
    pub fn bytes_used(&self) -> usize {
        self.state().image.bytes_used()
    }

    // How a run ends.

    /// The disk as another process finds it after this one was killed: nothing is lost.
    #[must_use]
    pub fn restart(&self) -> Self {
        let mut image = self.state().image.clone();
        for file in &mut image.files {
            file.locked = false;
        }
        Self::over(image, 0)
    }

    /// The disk as it is found after the power was lost and came back.
    #[must_use]
    pub fn power_loss(&self, seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let image = loss::power_loss(&self.state().image, &mut dice);
        Self::over(image, dice.bits())
    }
}

impl State {
    /// Count a call; what is to go wrong with it.
    fn count(&mut self, call: Call) -> io::Result<Option<Fault>> {
        if self.dead {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        let planned = self.faults.get(&self.trace.len()).copied();
        self.trace.push(call);
        Ok(planned.or_else(|| self.lasting.get(&call).copied()))
    }

    /// Count a call that goes wrong wholly or not at all.
    fn call(&mut self, call: Call) -> io::Result<()> {
        match self.count(call)? {
            None => Ok(()),
            Some(fault) => Err(self.fail(fault)),
        }
    }

    fn fail(&mut self, fault: Fault) -> io::Error {
        match fault {
            Fault::Error(errno) | Fault::Half(errno) => io::Error::from_raw_os_error(errno),
            Fault::Death => {
                self.dead = true;
                io::Error::from_raw_os_error(EIO)
            }
        }
    }

    /// Make a change of names, unless it fails; a dying process may have made it.
    fn change_name(&mut self, call: Call, change: NameChange) -> io::Result<()> {
        let fault = self.count(call)?;
        if matches!(fault, None | Some(Fault::Death)) {
            self.image.change_name(change);
        }
        fault.map_or(Ok(()), |fault| Err(self.fail(fault)))
    }

    fn write(&mut self, number: FileNumber, bytes: &[u8], offset: usize) -> io::Result<()> {
        let fault = self.count(Call::Write)?;
        let len = self.image.files.get(number).map_or(0, |f| f.seen.len());
        let growth = (offset + bytes.len()).saturating_sub(len);
        let room = self.room_bytes.map_or(growth, |room| {
            room.saturating_sub(self.image.bytes_used()).min(growth)
        });
        let fits = bytes.len().saturating_sub(growth - room);
        let (written, fault) = match fault {
            Some(Fault::Error(errno)) => (0, Some(Fault::Error(errno))),
            Some(Fault::Half(errno)) => (bytes.len() / 2, Some(Fault::Half(errno))),
            Some(Fault::Death) => (bytes.len(), Some(Fault::Death)),
            None if fits < bytes.len() => (fits, Some(Fault::Error(ENOSPC))),
            None => (bytes.len(), None),
        };
        if written > 0 {
            let bytes = bytes.get(..written).unwrap_or_default().to_vec();
            self.image.change(number, Change::Write { offset, bytes });
        }
        fault.map_or(Ok(()), |fault| Err(self.fail(fault)))
    }

    fn sync(&mut self, number: FileNumber) -> io::Result<()> {
        match self.count(Call::Sync)? {
            None => {
                self.image.sync(number);
                Ok(())
            }
            Some(Fault::Death) => Err(self.fail(Fault::Death)),
            Some(fault) => {
                if let Some(file) = self.image.files.get_mut(number) {
                    loss::failed_sync(file, &mut self.dice);
                }
                Err(self.fail(fault))
            }
        }
    }
}

fn place(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, access: Access) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let number = state.image.names.get(path).copied();
        let number = match (number, access) {
            (None, Access::Create) => {
                let file = state.image.files.len();
                let path = path.to_owned();
                state.image.files.push(FileImage::default());
                state.change_name(Call::Create, NameChange::Link { path, file })?;
                file
            }
            (found, _) => {
                state.call(Call::Open)?;
                match found {
                    Some(_) if access == Access::Create => {
                        return Err(io::ErrorKind::AlreadyExists.into());
                    }
                    Some(number) => number,
                    None => return Err(io::ErrorKind::NotFound.into()),
                }
            }
        };
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            number,
            holds_lock: AtomicBool::new(false),
        }))
    }

    fn nameless(&self, _beside: &Path) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        state.call(Call::Create)?;
        let number = state.image.files.len();
        state.image.files.push(FileImage::default());
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            number,
            holds_lock: AtomicBool::new(false),
        }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.image.names.contains_key(from) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let (from, to) = (from.to_owned(), to.to_owned());
        state.change_name(Call::Rename, NameChange::Rename { from, to })
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        let Some(file) = state.image.names.get(from).copied() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        if state.image.names.contains_key(to) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let path = to.to_owned();
        state.change_name(Call::Link, NameChange::Link { path, file })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if !state.image.names.contains_key(path) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let path = path.to_owned();
        state.change_name(Call::Remove, NameChange::Unlink { path })
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        let mut state = self.state();
        state.call(Call::Exists)?;
        Ok(state.image.names.contains_key(path))
    }

    fn process(&self) -> u32 {
        self.state().forks
    }

    fn sync_directory_of(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.call(Call::SyncDirectory)?;
        state.image.sync_names(path.parent());
        Ok(())
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.call(Call::Read)?;
        let file = state.image.files.get(self.number);
        let bytes = file.and_then(|file| file.seen.get(place(offset).ok()?..));
        let bytes = bytes.unwrap_or_default();
        let len = bytes.len().min(buffer.len());
        if let (Some(target), Some(source)) = (buffer.get_mut(..len), bytes.get(..len)) {
            target.copy_from_slice(source);
        }
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.disk.state().write(self.number, bytes, place(offset)?)
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.state().sync(self.number)
    }

    fn len(&self) -> io::Result<u64> {
        let mut state = self.disk.state();
        state.call(Call::Length)?;
        let file = state.image.files.get(self.number);
        Ok(file.map_or(0, |file| file.seen.len() as u64))
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        let len = place(len)?;
        let mut state = self.disk.state();
        let fault = state.count(Call::Truncate)?;
        if matches!(fault, None | Some(Fault::Death)) {
            state.image.change(self.number, Change::Truncate { len });
        }
        fault.map_or(Ok(()), |fault| Err(state.fail(fault)))
    }

    fn try_lock(&self) -> io::Result<bool> {
        let mut state = self.disk.state();
        state.call(Call::Lock)?;
        let Some(file) = state.image.files.get_mut(self.number) else {
            return Ok(false);
        };
        let free = !std::mem::replace(&mut file.locked, true);
        if free {
            self.holds_lock.store(true, Ordering::Release);
        }
        Ok(free)
    }

    fn identity(&self) -> io::Result<(u64, u64)> {
        Ok((0, self.number as u64))
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if self.holds_lock.load(Ordering::Acquire)
            && let Some(file) = self.disk.state().image.files.get_mut(self.number)
        {
            file.locked = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> &'static Path {
        Path::new("dir/file")
    }

    fn file_on(disk: &SimDisk) -> Arc<dyn File> {
        disk.put(path(), b"old");
        disk.open(path(), Access::Write).unwrap()
    }

    #[test]
    fn what_was_synced_survives_every_power_loss() {
        let disk = SimDisk::new(1);
        let file = file_on(&disk);
        file.write_at(&[7; 2000], 3).unwrap();
        file.sync().unwrap();
        file.write_at(&[8; 2000], 2003).unwrap();
        let mut lens = std::collections::BTreeSet::new();
        for seed in 0..200 {
            let left = disk.power_loss(seed).content(path()).unwrap();
            assert_eq!(&left[..3], b"old");
            assert!(left[3..2003].iter().all(|byte| *byte == 7));
            lens.insert(left.len());
        }
        assert!(lens.contains(&2003) && lens.contains(&4003) && lens.len() > 2);
    }

    #[test]
    fn a_name_is_lost_unless_its_directory_was_synced() {
        let disk = SimDisk::new(1);
        let file = disk.open(path(), Access::Create).unwrap();
        file.sync().unwrap();
        let lost = |disk: &SimDisk| {
            (0..100)
                .filter(|&seed| disk.power_loss(seed).content(path()).is_none())
                .count()
        };
        assert!(lost(&disk) > 10);
        disk.sync_directory_of(path()).unwrap();
        assert_eq!(lost(&disk), 0);
    }

    #[test]
    fn a_planned_call_fails_once_and_counts() {
        let disk = SimDisk::new(1);
        let file = file_on(&disk);
        disk.plan(disk.calls() + 1, Fault::Half(EIO));
        file.write_at(b"ab", 3).unwrap();
        let error = file.write_at(b"cd", 5).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(EIO));
        assert_eq!(disk.content(path()).unwrap(), b"oldabc");
        file.write_at(b"cd", 5).unwrap();
        assert_eq!(disk.content(path()).unwrap(), b"oldabcd");
    }

    #[test]
    fn after_a_failed_sync_a_later_one_does_not_help() {
        let lost = (0..50).filter(|&seed| {
            let disk = SimDisk::new(seed);
            let file = file_on(&disk);
            file.write_at(b"new", 3).unwrap();
            disk.plan_all(Call::Sync, Some(Fault::Error(EIO)));
            file.sync().unwrap_err();
            disk.plan_all(Call::Sync, None);
            file.sync().unwrap();
            assert_eq!(disk.content(path()).unwrap(), b"oldnew");
            disk.power_loss(seed).content(path()).unwrap() != b"oldnew"
        });
        assert!(lost.count() > 5);
    }

    #[test]
    fn a_full_disk_takes_what_fits_and_goes_on_when_there_is_room_again() {
        let disk = SimDisk::new(1);
        let file = file_on(&disk);
        disk.limit_room(Some(5));
        let error = file.write_at(b"abcd", 3).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(ENOSPC));
        assert_eq!(disk.content(path()).unwrap(), b"oldab");
        file.write_at(b"new", 0).unwrap();
        disk.limit_room(None);
        file.write_at(b"abcd", 3).unwrap();
    }

    #[test]
    fn a_lock_is_free_again_when_its_file_is_closed() {
        let disk = SimDisk::new(1);
        let file = file_on(&disk);
        assert!(file.try_lock().unwrap());
        let other = disk.open(path(), Access::Write).unwrap();
        assert!(!other.try_lock().unwrap());
        drop(file);
        assert!(other.try_lock().unwrap());
    }
}
