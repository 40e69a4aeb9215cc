//! Keeping the index beside the data file, and telling whether a saved one still fits.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use perdure_format::file::TransactionHeader;
use perdure_format::index::{Entry, IndexHeader};
use perdure_format::{Oid, Tid};

use crate::disk::{Access, Disk, File};
use crate::error::{Error, Result};
use crate::generation::{Generation, Patience, Revision, Search};
use crate::index::{Base, write_index};

/// How many bytes at both ends of the indexed part of the data file are checked.
const PROBE_LEN: u64 = 4096;

/// The index's name: the data file's, and a suffix that stock ZODB does not use.
pub(crate) fn path_of(data: &Path) -> PathBuf {
    with_suffix(data, ".pindex")
}

/// A file name with a suffix behind it.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A checksum of the first bytes of the data file, and one of the last before `end`.
fn probe(file: &dyn File, end: u64) -> std::io::Result<(u32, u32)> {
    let len = PROBE_LEN.min(end);
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
    let mut checksum = |offset| {
        let read = file.read_at(&mut bytes, offset)?;
        Ok::<u32, std::io::Error>(crc32c::crc32c(bytes.get(..read).unwrap_or_default()))
    };
    Ok((checksum(0)?, checksum(end - len)?))
}

/// Open the saved index of a data file; none where there is none that fits the file.
///
/// An index is never needed, so whatever is wrong with it only means that the file is scanned.
pub(crate) fn load(disk: &dyn Disk, data: &Path, file: &dyn File) -> Option<Base> {
    let index = disk.open(&path_of(data), Access::Read).ok()?;
    let base = Base::open(index).ok()??;
    let header = base.header();
    let fits = header.end <= file.len().ok()?
        && probe(file, header.end).ok()? == (header.head_checksum, header.tail_checksum)
        && last_tid(file, header.end)? == header.last_tid;
    fits.then_some(base)
}

/// The id of the transaction that ends at `end`.
fn last_tid(file: &dyn File, end: u64) -> Option<Tid> {
    if end == perdure_format::file::FIRST_TRANSACTION {
        return Some(Tid::ZERO);
    }
    let mut length = [0; 8];
    let trailer = end.checked_sub(8)?;
    (file.read_at(&mut length, trailer).ok()? == 8).then_some(())?;
    let mut header = [0; perdure_format::file::TRANSACTION_HEADER_LEN];
    let start = trailer.checked_sub(u64::from_be_bytes(length))?;
    (file.read_at(&mut header, start).ok()? == header.len()).then_some(())?;
    TransactionHeader::parse(&header)
        .ok()
        .map(|header| header.tid)
}

/// Write the index of the part of the file up to `end`, in place of the saved one; commits may go on.
pub(crate) fn save(
    disk: &dyn Disk,
    generation: &Generation,
    (end, last_tid): (u64, Tid),
    max_oid: Oid,
) -> Result<()> {
    let target = path_of(&generation.path);
    let temporary = with_suffix(&target, "_tmp");
    let error = |source| Error::io("writing", &temporary, source);
    if disk.exists(&temporary).map_err(error)? {
        disk.remove(&temporary).map_err(error)?;
    }
    let file = disk.open(&temporary, Access::Create).map_err(error)?;
    let written = write_whole(file.as_ref(), generation, (end, last_tid), max_oid)
        .and_then(|()| file.sync())
        .and_then(|()| disk.rename(&temporary, &target));
    if let Err(source) = written {
        // Best effort: the next save removes it too.
        let _ = disk.remove(&temporary);
        return Err(Error::io("writing", &target, source));
    }
    disk.sync_directory_of(&target)
        .map_err(|source| Error::io("syncing", &target, source))
}

fn write_whole(
    file: &dyn File,
    generation: &Generation,
    (end, last_tid): (u64, Tid),
    max_oid: Oid,
) -> std::io::Result<()> {
    let (head_checksum, tail_checksum) = probe(generation.file.as_ref(), end)?;
    let mut header = IndexHeader {
        end,
        last_tid,
        max_oid,
        entries: 0,
        head_checksum,
        tail_checksum,
    };
    let mut entries = Entries {
        generation,
        end,
        last_tid,
        next: Some(Oid::ZERO),
    };
    let entries = std::iter::from_fn(|| entries.advance().transpose());
    write_index(
        file,
        &mut header,
        entries.map(|it| it.map_err(std::io::Error::other)),
    )
}

/// The entries of an index as they were at `end`, in the order of their oids.
///
/// The index is a living store's: what was committed since may yet be lost.
struct Entries<'a> {
    generation: &'a Generation,
    end: u64,
    last_tid: Tid,
    next: Option<Oid>,
}

impl Entries<'_> {
    fn advance(&mut self) -> Result<Option<Entry>> {
        while let Some(from) = self.next {
            let Some(entry) = self.generation.at_or_after(from)? else {
                break;
            };
            self.next = entry.oid.0.checked_add(1).map(Oid);
            if entry.position < self.end {
                return Ok(Some(entry));
            }
            let mut buffer = Vec::new();
            let earlier = (self.generation).revision(
                entry.oid,
                self.last_tid,
                &mut buffer,
                Patience::Wait,
            )?;
            if let Search::Revision(Revision { position, .. }) = earlier {
                return Ok(Some(Entry { position, ..entry }));
            }
        }
        Ok(None)
    }
}

/// Open an index that was just saved, to be used instead of the one in memory.
pub(crate) fn reopen(disk: &dyn Disk, data: &Path, file: &Arc<dyn File>) -> Option<Base> {
    load(disk, data, file.as_ref())
}
