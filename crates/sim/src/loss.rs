//! What is left of unsynced changes after a power loss, or after a sync that failed.

use std::collections::BTreeMap;

use crate::dice::Dice;
use crate::image::{Change, FileImage, Image, SECTOR_LEN};

/// Which unsynced changes reach the device.
#[derive(Clone, Copy, Debug)]
enum Luck {
    None,
    All,
    /// Those before one, and some sectors of that one.
    Prefix(u64),
    /// Each by chance, in percent.
    Some(u64),
    /// Each sector of each by chance, in percent.
    Sectors(u64),
    /// As `Sectors`, with junk where a file has grown and nothing was written.
    Junk(u64),
}

impl Luck {
    fn draw(dice: &mut Dice, changes: (u64, u64)) -> Self {
        let percent = [2, 10, 50, 90, 98]
            .get(dice.place(5))
            .copied()
            .unwrap_or(50);
        match dice.below(12) {
            0 => Self::None,
            1 => Self::All,
            2..=4 => Self::Prefix(changes.0 + dice.below(changes.1 - changes.0 + 2)),
            5..=7 => Self::Some(percent),
            8..=10 => Self::Sectors(percent),
            _ => Self::Junk(percent),
        }
    }

    /// Does the whole of a change reach the device?
    fn keeps(self, number: u64, dice: &mut Dice) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Prefix(end) => number < end,
            Self::Some(percent) | Self::Sectors(percent) | Self::Junk(percent) => {
                dice.chance(percent)
            }
        }
    }

    /// Which sectors of a change reach the device, of those that it touches.
    fn sectors(self, number: u64, change: &Change, dice: &mut Dice) -> Vec<usize> {
        let percent = match self {
            Self::Prefix(end) if number == end => 50,
            Self::Sectors(percent) | Self::Junk(percent) => percent,
            _ if self.keeps(number, dice) => 100,
            _ => 0,
        };
        let touched = change.sectors();
        touched.filter(|_| dice.chance(percent)).collect()
    }

    /// Does the length of a change reach the device, whatever becomes of its bytes?
    fn grows(self, dice: &mut Dice) -> bool {
        matches!(self, Self::Sectors(_) | Self::Junk(_)) && dice.chance(50)
    }

    /// Bring what has luck to the device.
    ///
    /// A sector reaches the device as it was at some time: with all changes until then.
    fn write(self, file: &mut FileImage, dice: &mut Dice) {
        let changes = std::mem::take(&mut file.unsynced);
        let mut newest: BTreeMap<usize, usize> = BTreeMap::new();
        let mut len = file.synced.len();
        let mut cuts = Vec::new();
        for (place, (number, change)) in changes.iter().enumerate() {
            if let Change::Truncate { len: cut } = change {
                if self.keeps(*number, dice) {
                    len = *cut;
                    cuts.push((place, *cut));
                }
                continue;
            }
            let kept = self.sectors(*number, change, dice);
            for &sector in &kept {
                len = len.max(change.end().min((sector + 1) * SECTOR_LEN));
                newest.insert(sector, place);
            }
            if self.grows(dice) {
                len = len.max(change.end());
            }
        }
        let before = std::mem::take(&mut file.synced);
        let sectors = len.div_ceil(SECTOR_LEN);
        for number in 0..sectors {
            let start = number * SECTOR_LEN;
            let mut sector = Sector::of(&before, start);
            let end = newest.get(&number).map_or(0, |place| place + 1);
            for (_, change) in changes.iter().take(end) {
                sector.apply(change);
            }
            for (_, cut) in cuts.iter().filter(|(place, _)| *place >= end) {
                sector.apply(&Change::Truncate { len: *cut });
            }
            if end == 0 && start >= before.len() && matches!(self, Self::Junk(_)) {
                sector.bytes = dice.bytes(SECTOR_LEN);
            }
            file.synced.extend_from_slice(&sector.bytes);
        }
        file.synced.truncate(len);
    }
}

/// One sector of a file.
struct Sector {
    start: usize,
    bytes: Vec<u8>,
}

impl Sector {
    fn of(file: &[u8], start: usize) -> Self {
        let rest = file.get(start..).unwrap_or_default();
        let mut bytes = rest.get(..SECTOR_LEN).unwrap_or(rest).to_vec();
        bytes.resize(SECTOR_LEN, 0);
        Self { start, bytes }
    }

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Truncate { len } => {
                let from = len.saturating_sub(self.start);
                if let Some(gone) = self.bytes.get_mut(from..) {
                    gone.fill(0);
                }
            }
            Change::Write { offset, bytes } => {
                let first = self.start.max(*offset);
                let end = (self.start + SECTOR_LEN).min(offset + bytes.len());
                if first >= end {
                    return;
                }
                let source = bytes.get(first - offset..end - offset);
                let target = self.bytes.get_mut(first - self.start..end - self.start);
                if let (Some(target), Some(source)) = (target, source) {
                    target.copy_from_slice(source);
                }
            }
        }
    }
}

/// The image as it is found when the power is back.
pub(crate) fn power_loss(image: &Image, dice: &mut Dice) -> Image {
    let mut left = image.clone();
    let numbers = left.files.iter().flat_map(|file| &file.unsynced);
    let first = numbers.map(|(number, _)| *number).min();
    let luck = Luck::draw(dice, (first.unwrap_or(image.changes), image.changes));
    for file in &mut left.files {
        luck.write(file, dice);
        file.seen = file.synced.clone();
        file.locked = false;
    }
    for (number, change) in std::mem::take(&mut left.unsynced_names) {
        if luck.keeps(number, dice) {
            change.apply(&mut left.synced_names);
        }
    }
    left.names = left.synced_names.clone();
    left
}

/// A sync failed: part of the changes is on the device, and nobody will write the rest.
pub(crate) fn failed_sync(file: &mut FileImage, dice: &mut Dice) {
    let first = file.unsynced.first().map_or(0, |(number, _)| *number);
    let last = file.unsynced.last().map_or(0, |(number, _)| *number);
    Luck::draw(dice, (first, last)).write(file, dice);
}
