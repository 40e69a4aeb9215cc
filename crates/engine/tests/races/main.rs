//! The engine's threads in all orders: `make races`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that fails may panic"
)]

mod commits;
mod members;
mod orders;
#[path = "../engine/support.rs"]
#[expect(dead_code, reason = "the other tests use the rest")]
mod support;
mod swaps;
