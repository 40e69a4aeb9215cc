//! The mark in a transaction that several databases commit together: whom to ask about it.
//!
//! It stands in the transaction's extension, between the pickle and the [seal](crate::seal), so
//! that it is there as long as the transaction is. A pickle ends at its stop opcode: stock ZODB
//! reads the same extension with a mark or without. See `docs/internals/joint-commit.md`.

use crate::bytes::{array, is_sum_of, u16_at, u32_at};

/// What a mark begins with: name and version.
pub const MAGIC: [u8; 8] = *b"PDJOINT1";

const FIXED_LEN: usize = 12;
/// The whole mark's length, and the sum of what is before.
const TRAILER_LEN: usize = 6;

/// Who takes part in a joint transaction, and who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JointMark {
    /// The paths of the members' data files; the first one decides.
    pub members: Vec<String>,
    /// Which of them this file is.
    pub own: u16,
}

impl JointMark {
    /// The mark's bytes: magic, number of members, own number, paths, length, checksum.
    ///
    /// None where the paths are too long for an extension.
    #[must_use]
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&u16::try_from(self.members.len()).ok()?.to_be_bytes());
        out.extend_from_slice(&self.own.to_be_bytes());
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
        if array::<8>(whole, 0)? != MAGIC {
            return None;
        }
        let (count, own) = (u16_at(whole, 8)?, u16_at(whole, 10)?);
        let paths = whole.get(..whole.len() - TRAILER_LEN)?;
        let mut members = Vec::new();
        let mut at = FIXED_LEN;
        for _ in 0..count {
            let len = usize::from(u16_at(paths, at)?);
            let path = paths.get(at + 2..at + 2 + len)?;
            members.push(String::from_utf8(path.to_vec()).ok()?);
            at += 2 + len;
        }
        (own < count && at == paths.len()).then_some(())?;
        Some((Self { members, own }, whole.len()))
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
        }
    }

    #[test]
    fn a_mark_survives_a_round_trip_and_no_changed_byte() {
        let bytes = mark().to_bytes().unwrap();
        let behind = [b"pickle.", &bytes[..]].concat();
        assert_eq!(JointMark::at_end_of(&behind), Some((mark(), bytes.len())));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(JointMark::at_end_of(&bad), None, "byte {at}");
            assert_eq!(JointMark::at_end_of(&bytes[at + 1..]), None, "from {at}");
            assert_eq!(JointMark::at_end_of(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_newer_mark_is_told_from_a_damaged_one() {
        let mut bytes = mark().to_bytes().unwrap();
        assert_eq!(JointMark::newer_at_end_of(&bytes), None);
        bytes[7] = b'2';
        assert_eq!(JointMark::newer_at_end_of(&bytes), None, "damaged");
        let end = bytes.len() - 4;
        let sum = crc32c::crc32c(&bytes[..end]).to_be_bytes();
        bytes[end..].copy_from_slice(&sum);
        assert_eq!(
            JointMark::newer_at_end_of(&bytes).as_deref(),
            Some("PDJOINT2")
        );
        assert_eq!(JointMark::at_end_of(&bytes), None);
    }

    #[test]
    fn paths_that_no_extension_holds_make_no_mark() {
        let members = vec!["a".repeat(40_000), "b".repeat(40_000)];
        assert_eq!(JointMark { members, own: 0 }.to_bytes(), None);
    }

    #[test]
    fn it_tells_who_decides() {
        assert_eq!(
            (mark().decider(), mark().own_path()),
            ("/srv/a.fs", "/srv/b.fs")
        );
    }
}
