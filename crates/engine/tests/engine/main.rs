//! What the engine promises, tried on the simulated disk. See `docs/internals/testing.md`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that fails may panic"
)]

mod aside;
mod beside_writer;
mod checks;
mod checksums;
mod concurrency;
mod facts;
mod faults;
mod flips;
mod garbage;
mod hostile;
mod joint;
mod model;
mod packed_checksums;
mod past;
mod recovery;
mod saved_index;
mod support;
mod writers;
