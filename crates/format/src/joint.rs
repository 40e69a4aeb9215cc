//! The mark behind a voted transaction that several databases commit together.
//!
//! It stands after the end of the transaction, where stock ZODB sees a tail that was never
//! committed: a header of the transaction's own id, of a length that no file has, with status `c`. See `docs/internals/joint-commit.md`.

use crate::bytes::{array, u16_at, u32_at, u64_at};
use crate::file::Status;
use crate::ids::Tid;

/// What stands in a mark behind the id: name and version.
pub const MAGIC: [u8; 8] = *b"PDJOINT1";

const LEN_OFFSET: usize = 18;
const FIXED_LEN: usize = 26;

/// Who takes part in a joint transaction, and who decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JointMark {
    /// The transaction, under the same id in every member.
    pub tid: Tid,
    /// The paths of the members' data files; the first one decides.
    pub members: Vec<String>,
    /// Which of them this file is.
    pub own: u16,
}

impl JointMark {
    /// The mark's bytes: tid, magic, status, length, number of members, own number, paths, checksum.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let count = u16::try_from(self.members.len()).unwrap_or(u16::MAX);
        let mut out = self.tid.to_bytes().to_vec();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[Status::Voted.to_byte(), 0]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&count.to_be_bytes());
        out.extend_from_slice(&self.own.to_be_bytes());
        for member in self.members.iter().take(usize::from(count)) {
            let bytes = member.as_bytes();
            out.extend_from_slice(&u16::try_from(bytes.len()).unwrap_or(u16::MAX).to_be_bytes());
            out.extend_from_slice(bytes.get(..usize::from(u16::MAX)).unwrap_or(bytes));
        }
        let len = u32::try_from(out.len() + 4).unwrap_or(u32::MAX);
        if let Some(slot) = out.get_mut(LEN_OFFSET..LEN_OFFSET + 4) {
            slot.copy_from_slice(&len.to_be_bytes());
        }
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_be_bytes());
        out
    }

    /// Read a mark and its length; none where the bytes do not begin with a whole one.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        if array::<8>(bytes, 8)? != MAGIC {
            return None;
        }
        let len = usize::try_from(u32_at(bytes, LEN_OFFSET)?).ok()?;
        let covered = bytes.get(..len.checked_sub(4)?)?;
        if covered.len() < FIXED_LEN || u32_at(bytes, covered.len())? != crc32c::crc32c(covered) {
            return None;
        }
        let (count, own) = (u16_at(bytes, 22)?, u16_at(bytes, 24)?);
        let mut members = Vec::new();
        let mut at = FIXED_LEN;
        for _ in 0..count {
            let len = usize::from(u16_at(covered, at)?);
            let path = covered.get(at + 2..at + 2 + len)?;
            members.push(String::from_utf8(path.to_vec()).ok()?);
            at += 2 + len;
        }
        (own < count).then_some(())?;
        Some((
            Self {
                tid: Tid(u64_at(bytes, 0)?),
                members,
                own,
            },
            len,
        ))
    }

    /// The name and version of a whole mark that is newer than this code; none for anything else.
    ///
    /// Whatever a newer version adds, its length and checksum stand where this one's do.
    #[must_use]
    pub fn newer(bytes: &[u8]) -> Option<String> {
        let name = array::<8>(bytes, 8)?;
        let len = usize::try_from(u32_at(bytes, LEN_OFFSET)?).ok()?;
        let covered = bytes.get(..len.checked_sub(4)?)?;
        let is_whole = u32_at(bytes, covered.len())? == crc32c::crc32c(covered);
        let is_newer = name.starts_with(&MAGIC[..7]) && name > MAGIC;
        (is_whole && is_newer).then(|| String::from_utf8_lossy(&name).into_owned())
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

#[cfg(test)]
mod tests {
    use super::*;

    fn mark() -> JointMark {
        JointMark {
            tid: Tid(0x0102_0304_0506_0708),
            members: vec!["/srv/a.fs".to_owned(), "/srv/b.fs".to_owned()],
            own: 1,
        }
    }

    #[test]
    fn a_mark_survives_a_round_trip_and_no_changed_byte() {
        let bytes = mark().to_bytes();
        assert_eq!(JointMark::parse(&bytes), Some((mark(), bytes.len())));
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert_eq!(JointMark::parse(&bad), None, "byte {at}");
            assert_eq!(JointMark::parse(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn a_newer_mark_is_told_from_a_damaged_one() {
        let mut bytes = mark().to_bytes();
        assert_eq!(JointMark::newer(&bytes), None);
        bytes[15] = b'2';
        assert_eq!(JointMark::newer(&bytes), None, "damaged");
        let end = bytes.len() - 4;
        let sum = crc32c::crc32c(&bytes[..end]).to_be_bytes();
        bytes[end..].copy_from_slice(&sum);
        assert_eq!(JointMark::newer(&bytes).as_deref(), Some("PDJOINT2"));
        assert_eq!(JointMark::parse(&bytes), None);
    }

    #[test]
    fn it_tells_who_decides() {
        assert_eq!(
            (mark().decider(), mark().own_path()),
            ("/srv/a.fs", "/srv/b.fs")
        );
    }
}
