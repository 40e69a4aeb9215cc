//! What is left of unsynced changes after a power loss, or after a sync that failed.

use crate::dice::Dice;
use crate::image::{Change, FileImage, Image};

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

    /// Bring what has luck to the device.
    fn write(self, file: &mut FileImage, dice: &mut Dice) {
        for (number, change) in std::mem::take(&mut file.unsynced) {
            let torn = match self {
                Self::Prefix(end) => number == end,
                Self::Sectors(_) | Self::Junk(_) => true,
                _ => false,
            };
            if !torn {
                if self.keeps(number, dice) {
                    change.apply(&mut file.synced);
                }
                continue;
            }
            if let Change::Write { offset, bytes } = &change
                && dice.chance(50)
            {
                self.grow(&mut file.synced, offset + bytes.len(), dice);
            }
            let percent = match self {
                Self::Sectors(percent) | Self::Junk(percent) => percent,
                _ => 50,
            };
            for part in change.sectors() {
                if dice.chance(percent) {
                    part.apply(&mut file.synced);
                }
            }
        }
    }

    /// The new length reaches the device, whatever becomes of the bytes.
    fn grow(self, bytes: &mut Vec<u8>, len: usize, dice: &mut Dice) {
        while bytes.len() < len {
            let byte = if matches!(self, Self::Junk(_)) {
                dice.byte()
            } else {
                0
            };
            bytes.push(byte);
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
