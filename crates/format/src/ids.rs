//! Object and transaction ids.

use std::fmt;

/// The id of an object: eight bytes, big-endian on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Oid(pub u64);

/// The id of a transaction: a time stamp of eight bytes, big-endian on disk, always increasing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tid(pub u64);

macro_rules! eight_bytes {
    ($name:ident) => {
        impl $name {
            /// The id of all zeros.
            pub const ZERO: Self = Self(0);
            /// The greatest id.
            pub const MAX: Self = Self(u64::MAX);

            /// Read the id from its bytes on disk.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 8]) -> Self {
                Self(u64::from_be_bytes(bytes))
            }

            /// The id after this one; the greatest id has none, and stays.
            #[must_use]
            pub const fn successor(self) -> Self {
                Self(self.0.saturating_add(1))
            }

            /// The id's bytes on disk.
            #[must_use]
            pub const fn to_bytes(self) -> [u8; 8] {
                self.0.to_be_bytes()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({:#x})"), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Whole bytes, without those in front that are zero.
                let bytes = (u64::BITS - self.0.leading_zeros()).div_ceil(8).max(1);
                let width = 2 + 2 * bytes as usize;
                write!(f, "{:#0width$x}", self.0)
            }
        }
    };
}

eight_bytes!(Oid);
eight_bytes!(Tid);
