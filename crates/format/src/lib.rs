//! The bytes of a perdure database: ids, headers, records and pickles as opcode streams.
//!
//! Nothing here does I/O, and nothing here runs code that a record names.
#![forbid(unsafe_code)]

mod bytes;
pub mod checksums;
pub mod file;
pub mod ids;
pub mod index;
pub mod joint;
pub mod pickle;
pub mod seal;
pub mod timestamp;

pub use ids::{Oid, Tid};
