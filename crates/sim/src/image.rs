//! What the files hold, as the process sees it and as the device has it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// The part of a file that a device writes whole or not at all, in bytes.
pub(crate) const SECTOR_LEN: usize = 512;

/// The number of a file, whatever its name.
pub(crate) type FileNumber = usize;

/// A change of a file that is not synced yet.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Truncate { len: usize },
}

/// A change of a name that is not synced yet.
#[derive(Clone, Debug)]
pub(crate) enum NameChange {
    Link { path: PathBuf, file: FileNumber },
    Unlink { path: PathBuf },
    Rename { from: PathBuf, to: PathBuf },
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(crate) struct FileImage {
    /// What the process reads.
    pub(crate) seen: Vec<u8>,
    /// What was on the device at the last sync.
    pub(crate) synced: Vec<u8>,
    /// The changes since, with their places in the order of all changes.
    pub(crate) unsynced: Vec<(u64, Change)>,
    pub(crate) locked: bool,
}

/// All files and names.
#[derive(Clone, Debug, Default)]
pub(crate) struct Image {
    pub(crate) files: Vec<FileImage>,
    pub(crate) names: BTreeMap<PathBuf, FileNumber>,
    pub(crate) synced_names: BTreeMap<PathBuf, FileNumber>,
    pub(crate) unsynced_names: Vec<(u64, NameChange)>,
    /// How many changes there have been.
    pub(crate) changes: u64,
}

impl Change {
    /// Make the change on the bytes of a file.
    pub(crate) fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Truncate { len } => bytes.resize(*len, 0),
            Self::Write { offset, bytes: new } => {
                let end = offset + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(place) = bytes.get_mut(*offset..end) {
                    place.copy_from_slice(new);
                }
            }
        }
    }

    /// Where the change ends in the file.
    pub(crate) fn end(&self) -> usize {
        match self {
            Self::Truncate { len } => *len,
            Self::Write { offset, bytes } => offset + bytes.len(),
        }
    }

    /// The sectors that a write touches.
    pub(crate) fn sectors(&self) -> Range<usize> {
        match self {
            Self::Truncate { .. } => 0..0,
            Self::Write { offset, .. } => offset / SECTOR_LEN..self.end().div_ceil(SECTOR_LEN),
        }
    }
}

impl NameChange {
    pub(crate) fn apply(&self, names: &mut BTreeMap<PathBuf, FileNumber>) {
        match self {
            Self::Link { path, file } => {
                names.insert(path.clone(), *file);
            }
            Self::Unlink { path } => {
                names.remove(path);
            }
            Self::Rename { from, to } => {
                if let Some(file) = names.remove(from) {
                    names.insert(to.clone(), file);
                }
            }
        }
    }

    /// Is the name in this directory?
    fn is_in(&self, directory: Option<&Path>) -> bool {
        let (Self::Link { path, .. } | Self::Unlink { path } | Self::Rename { to: path, .. }) =
            self;
        path.parent() == directory
    }
}

impl Image {
    fn next_change(&mut self) -> u64 {
        self.changes += 1;
        self.changes
    }

    pub(crate) fn change(&mut self, file: FileNumber, change: Change) {
        let number = self.next_change();
        if let Some(file) = self.files.get_mut(file) {
            change.apply(&mut file.seen);
            file.unsynced.push((number, change));
        }
    }

    pub(crate) fn change_name(&mut self, change: NameChange) {
        let number = self.next_change();
        change.apply(&mut self.names);
        self.unsynced_names.push((number, change));
    }

    /// Bring all changes of a file to the device.
    pub(crate) fn sync(&mut self, file: FileNumber) {
        if let Some(file) = self.files.get_mut(file) {
            for (_, change) in file.unsynced.drain(..) {
                change.apply(&mut file.synced);
            }
        }
    }

    /// Bring all changes of the names in a directory to the device.
    pub(crate) fn sync_names(&mut self, directory: Option<&Path>) {
        let (done, left) = std::mem::take(&mut self.unsynced_names)
            .into_iter()
            .partition(|(_, change)| change.is_in(directory));
        self.unsynced_names = left;
        let done: Vec<(u64, NameChange)> = done;
        for (_, change) in done {
            change.apply(&mut self.synced_names);
        }
    }

    /// How many bytes all files with a name take.
    pub(crate) fn bytes_used(&self) -> usize {
        let files = self.names.values().filter_map(|&file| self.files.get(file));
        files.map(|file| file.seen.len()).sum()
    }
}
