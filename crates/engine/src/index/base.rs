//! The saved index: blocks that are fetched and verified when first needed.

use std::io;
use std::sync::{Arc, OnceLock};

use perdure_format::Oid;
use perdure_format::index::{BLOCK_LEN, Block, ENTRIES_PER_BLOCK, Entry, IndexHeader, block_of};

use crate::disk::{File, read_exact_at};

/// Part of the saved index cannot be read: it has to be rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Damaged;

/// A saved index.
#[derive(Debug)]
pub(crate) struct Base {
    file: Arc<dyn File>,
    header: IndexHeader,
    blocks: Box<[OnceLock<Block>]>,
}

impl Base {
    /// Open a saved index; none where the file is no whole index of this version.
    pub(crate) fn open(file: Arc<dyn File>) -> io::Result<Option<Self>> {
        let mut block = vec![0; BLOCK_LEN];
        if file.read_at(&mut block, 0)? < BLOCK_LEN {
            return Ok(None);
        }
        let Some(header) = IndexHeader::parse(&block) else {
            return Ok(None);
        };
        if header.file_len() != Some(file.len()?) {
            return Ok(None);
        }
        let blocks = (0..header.blocks()).map(|_| OnceLock::new()).collect();
        Ok(Some(Self {
            file,
            header,
            blocks,
        }))
    }

    pub(crate) fn header(&self) -> &IndexHeader {
        &self.header
    }

    fn block(&self, number: usize) -> Result<&Block, Damaged> {
        let cell = self.blocks.get(number).ok_or(Damaged)?;
        if let Some(block) = cell.get() {
            return Ok(block);
        }
        let mut bytes = vec![0; BLOCK_LEN];
        let offset = (number as u64 + 1) * BLOCK_LEN as u64;
        read_exact_at(self.file.as_ref(), &mut bytes, offset).map_err(|_| Damaged)?;
        let block = Block::parse(&bytes).filter(|block| self.covers(block));
        let block = block.ok_or(Damaged)?;
        Ok(cell.get_or_init(|| block))
    }

    /// Does a block tell nothing of what is behind the indexed part? What it told of that may have
    /// been lost, and something else be there now.
    fn covers(&self, block: &Block) -> bool {
        let mut entries = block.entries().iter();
        entries.all(|entry| entry.position < self.header.end)
    }

    /// The number of the last block that begins at or before an oid.
    fn block_for(&self, oid: Oid) -> Result<Option<usize>, Damaged> {
        let (mut low, mut high) = (0, self.blocks.len());
        // Oids are mostly consecutive from zero: the first guess is right nearly always.
        let mut guess = usize::try_from(oid.0).unwrap_or(usize::MAX) / ENTRIES_PER_BLOCK;
        while low < high {
            let middle = guess.clamp(low, high - 1);
            let (first, last) = self.block(middle)?.bounds();
            if oid < first {
                high = middle;
            } else if oid > last {
                low = middle + 1;
            } else {
                return Ok(Some(middle));
            }
            guess = low + (high - low) / 2;
        }
        Ok(low.checked_sub(1))
    }

    pub(crate) fn get(&self, oid: Oid) -> Result<Option<u64>, Damaged> {
        match self.block_for(oid)? {
            Some(number) => Ok(self.block(number)?.get(oid)),
            None => Ok(None),
        }
    }

    pub(crate) fn at_or_after(&self, oid: Oid) -> Result<Option<Entry>, Damaged> {
        let number = self.block_for(oid)?.unwrap_or(0);
        for number in number..self.blocks.len().min(number + 2) {
            let entries = self.block(number)?.entries();
            let skip = entries.partition_point(|entry| entry.oid < oid);
            if let Some(entry) = entries.get(skip) {
                return Ok(Some(*entry));
            }
        }
        Ok(None)
    }
}

/// Write an index file: the header, then the entries, which come in the order of their oids.
pub(crate) fn write_index(
    file: &dyn File,
    header: &mut IndexHeader,
    entries: impl Iterator<Item = io::Result<Entry>>,
) -> io::Result<()> {
    const BLOCKS_PER_WRITE: usize = 256;
    let mut offset = BLOCK_LEN as u64;
    let mut buffer = Vec::with_capacity(BLOCKS_PER_WRITE * BLOCK_LEN);
    let mut pending = Vec::with_capacity(ENTRIES_PER_BLOCK);
    header.entries = 0;
    for entry in entries {
        pending.push(entry?);
        header.entries += 1;
        if pending.len() == ENTRIES_PER_BLOCK {
            buffer.extend_from_slice(&block_of(&pending));
            pending.clear();
            if buffer.len() >= BLOCKS_PER_WRITE * BLOCK_LEN {
                file.write_at(&buffer, offset)?;
                offset += buffer.len() as u64;
                buffer.clear();
            }
        }
    }
    if !pending.is_empty() {
        buffer.extend_from_slice(&block_of(&pending));
    }
    file.write_at(&buffer, offset)?;
    file.write_at(&header.to_block(), 0)
}

#[cfg(test)]
mod tests {
    use perdure_format::Tid;

    use super::*;
    use crate::disk::MemoryFile;

    fn saved(oids: impl Iterator<Item = u64>) -> (Arc<MemoryFile>, Base) {
        let file = Arc::new(MemoryFile::default());
        let mut header = IndexHeader {
            end: u64::MAX,
            last_tid: Tid(1),
            max_oid: Oid(9),
            entries: 0,
            head_checksum: 0,
            tail_checksum: 0,
        };
        let entries = oids.map(|oid| {
            Ok(Entry {
                oid: Oid(oid),
                position: oid ^ 1,
            })
        });
        write_index(file.as_ref(), &mut header, entries).unwrap();
        let base = Base::open(Arc::clone(&file) as Arc<dyn File>)
            .unwrap()
            .unwrap();
        (file, base)
    }

    #[test]
    fn every_entry_is_found_dense_and_sparse() {
        for (step, start) in [(1, 0), (7, 3), (1 << 40, 1 << 62)] {
            let oids: Vec<u64> = (0..2000).map(|n| start + n * step).collect();
            let (_, base) = saved(oids.iter().copied());
            for &oid in &oids {
                assert_eq!(base.get(Oid(oid)), Ok(Some(oid ^ 1)));
                assert_eq!(
                    base.at_or_after(Oid(oid)).unwrap().map(|e| e.oid),
                    Some(Oid(oid))
                );
                if step > 1 {
                    assert_eq!(base.get(Oid(oid + 1)), Ok(None));
                    let next = oids.iter().find(|&&o| o > oid).map(|&o| Oid(o));
                    assert_eq!(base.at_or_after(Oid(oid + 1)).unwrap().map(|e| e.oid), next);
                }
            }
        }
    }

    #[test]
    fn an_empty_index_has_nothing() {
        let (_, base) = saved(std::iter::empty());
        assert_eq!(base.get(Oid(0)), Ok(None));
        assert_eq!(base.at_or_after(Oid(0)), Ok(None));
    }

    #[test]
    fn a_damaged_block_is_noticed_when_it_is_needed() {
        let (file, _) = saved(0..2000);
        file.write_at(&[0xff], (3 * BLOCK_LEN + 50) as u64).unwrap();
        let base = Base::open(file).unwrap().unwrap();
        assert_eq!(base.get(Oid(0)), Ok(Some(1)));
        assert_eq!(base.get(Oid(2 * ENTRIES_PER_BLOCK as u64)), Err(Damaged));
    }
}
