//! Reading big-endian integers at fixed places of a slice.

/// The bytes `at..at + N` of `bytes`, or none where the slice is too short.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// Is this the checksum of the bytes?
///
/// Every one is, to a fuzzer: it looks for what stands behind the checksums.
pub(crate) fn is_sum_of(bytes: &[u8], sum: u32) -> bool {
    cfg!(fuzzing) || crc32c::crc32c(bytes) == sum
}

/// The eight-byte integer at `at`.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array(bytes, at).map(u64::from_be_bytes)
}

/// The four-byte integer at `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array(bytes, at).map(u32::from_be_bytes)
}

/// The two-byte integer at `at`.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_be_bytes)
}
