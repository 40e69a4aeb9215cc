//! The mark in a transaction that several databases commit together: whom to ask about it.
//!
//! It stands in the transaction's extension, between the pickle and the [seal](crate::seal), so
//! that it is there as long as the transaction is. A pickle ends at its stop opcode: stock ZODB
//! reads the same extension with a mark or without. See `docs/internals/joint-commit.md`.

use crate::Tid;
use crate::bytes::{array, is_sum_of, u16_at, u32_at, u64_at};

/// What a mark begins with: name and version.
pub const MAGIC: [u8; 8] = *b"PDJOINT2";
/// The form before, which doesn't say what the deciding file had.
const MAGIC_1: [u8; 8] = *b"PDJOINT1";

/// Magic, number of members, own number.
const FIXED_LEN: usize = 12;
const BEFORE_LEN: usize = 8;
/// The whole mark's length, and the sum of what is before.
const TRAILER_LEN: usize = 6;

/// Who takes part in a joint transaction, and who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JointMark {
    /// The paths of the members' data files; the first one decides.
    pub members: Vec<String>,
    /// Which of them this file is.
    pub own: u16,
    /// The last transaction that the deciding file had for certain, zero where it was empty; none
    /// in marks that don't say so.
    pub before: Option<Tid>,
}

impl JointMark {
    /// The mark's bytes: magic, number of members, own number, what the deciding file had, paths,
    /// length, checksum.
    ///
    /// None where the paths are too long for an extension.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let magic = self.before.map_or(MAGIC_1, |_| MAGIC);
        let mut out = magic.to_vec();
        out.extend_from_slice(&u16::try_from(self.members.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&self.own.to_be_bytes());
        if let Some(before) = self.before {
            out.extend_from_slice(&before.0.to_be_bytes());
        }
        for member in &self.members {
            let bytes = member.as_bytes();
            out.extend_from_slice(&u16::try_from(bytes.len()).ok()?.to_be_bytes());
            out.extend_from_slice(bytes);
        }
        let len = u16::try_from(out.len() + TRAILER_LEN).ok()?;
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&crc32c::crc32c(&out).to_be_bytes());
        Some(out)
    }

    /// The mark that ends the bytes, and its length; none where no whole one does.
    #[must_use]
    pub fn at_end_of(bytes: &[u8]) -> Option<(Self, usize)> {
        let whole = whole_at_end_of(bytes)?;
        let (before, paths_start) = match array::<8>(whole, 0)? {
            MAGIC => (Some(Tid(u64_at(whole, FIXED_LEN)?)), FIXED_LEN + BEFORE_LEN),
            MAGIC_1 => (None, FIXED_LEN),
            _ => return None,
        };
        let (count, own) = (u16_at(whole, 8)?, u16_at(whole, 10)?);
        let paths = whole.get(..whole.len() - TRAILER_LEN)?;
        let mut members = Vec::new();
        let mut at = paths_start;
        for _ in 0..count {
            let len = usize::from(u16_at(paths, at)?);
            let path = paths.get(at + 2..at + 2 + len)?;
            members.push(String::from_utf8(path.to_vec()).ok()?);
            at += 2 + len;
        }
        (own < count && at == paths.len()).then_some(())?;
        let mark = Self {
            members,
            own,
            before,
        };
        Some((mark, whole.len()))
    }

    /// Is this, found in the deciding file, of the same transaction as another member's mark?
    #[must_use]
    pub fn decides(&self, other: &Self) -> bool {
        self.own == 0 && self.members == other.members && self.before == other.before
    }

    /// The name and version of a whole mark that ends the bytes and is newer than this code.
    ///
    /// Whatever a newer version adds, its length and checksum stand where this one's do.
    #[must_use]
    pub fn newer_at_end_of(bytes: &[u8]) -> Option<String> {
        let name = array::<8>(whole_at_end_of(bytes)?, 0)?;
        (name > MAGIC).then(|| String::from_utf8_lossy(&name).into_owned())
    }

    /// The path of the member that decides.
    #[must_use]
    pub fn decider(&self) -> &str {
        self.members.first().map_or("", String::as_str)
    }

    /// The path that this file had when the mark was written.
    #[must_use]
    pub fn own_path(&self) -> &str {
        self.members
            .get(usize::from(self.own))
            .map_or("", String::as_str)
    }
}

/// The bytes of a mark of any version that ends the bytes.
fn whole_at_end_of(bytes: &[u8]) -> Option<&[u8]> {
    let trailer = bytes.len().checked_sub(TRAILER_LEN)?;
    let len = usize::from(u16_at(bytes, trailer)?);
    let whole = bytes.get(bytes.len().checked_sub(len)?..)?;
    let covered = whole.get(..len.checked_sub(4)?)?;
    let is_it = covered.len() >= FIXED_LEN
        && whole.starts_with(&MAGIC[..7])
        && is_sum_of(covered, u32_at(whole, covered.len())?);
    is_it.then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> JointMark {
        JointMark {
            members: vec!["/srv/a.fs".to_owned(), "/srv/b.fs".to_owned()],
            own: 1,
            before: Some(Tid(7)),
        }
    }

    fn of_the_first_form() -> JointMark {
        JointMark {
            before: None,
            ..mark()
        }
    }

    #[test]
    fn a_mark_survives_a_round_trip_and_no_changed_byte() {
        for mark in [mark(), of_the_first_form()] {
            survives(&mark);
        }
    }

    fn survives(mark: &JointMark) {
        let bytes = mark.to_bytes().unwrap();
        let behind = [b"pickle.", &bytes[..]].concat();
        let found = JointMark::at_end_of(&behind);
        assert_eq!(found, Some((mark.clone(), bytes.len())));
        assert_eq!(JointMark::newer_at_end_of(&behind), None);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(JointMark::at_end_of(&bad), None, "byte {at}");
            assert_eq!(JointMark::at_end_of(&bytes[at + 1..]), None, "from {at}");
            assert_eq!(JointMark::at_end_of(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_mark_of_the_first_form_is_read_as_it_was_written() {
        let mut bytes = b"PDJOINT1\0\x01\0\0\0\x04a.fs\0\x18".to_vec();
        bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
        let mark = JointMark {
            members: vec!["a.fs".to_owned()],
            own: 0,
            before: None,
        };
        assert_eq!(JointMark::at_end_of(&bytes), Some((mark, 24)));
    }

    #[test]
    fn a_newer_mark_is_told_from_a_damaged_one() {
        let mut bytes = mark().to_bytes().unwrap();
        assert_eq!(JointMark::newer_at_end_of(&bytes), None);
        bytes[7] = b'3';
        assert_eq!(JointMark::newer_at_end_of(&bytes), None, "damaged");
        let end = bytes.len() - 4;
        let sum = crc32c::crc32c(&bytes[..end]).to_be_bytes();
        bytes[end..].copy_from_slice(&sum);
        assert_eq!(
            JointMark::newer_at_end_of(&bytes).as_deref(),
            Some("PDJOINT3")
        );
        assert_eq!(JointMark::at_end_of(&bytes), None);
    }

    #[test]
    fn paths_that_no_extension_holds_make_no_mark() {
        let members = vec!["a".repeat(40_000), "b".repeat(40_000)];
        let mark = JointMark { members, ..mark() };
        assert_eq!(mark.to_bytes(), None);
    }

    #[test]
    fn only_the_same_transaction_in_the_deciding_file_decides() {
        let decider = JointMark { own: 0, ..mark() };
        assert!(decider.decides(&mark()));
        assert!(!mark().decides(&mark()));
        assert!(!decider.decides(&of_the_first_form()));
        let other = JointMark {
            members: vec!["/srv/a.fs".to_owned(), "/srv/c.fs".to_owned()],
            ..mark()
        };
        assert!(!decider.decides(&other));
    }

    #[test]
    fn it_tells_who_decides() {
        assert_eq!(
            (mark().decider(), mark().own_path()),
            ("/srv/a.fs", "/srv/b.fs")
        );
    }
}
