//! The simulated disk that the fault tests run the engine on.
//!
//! Everything that a run does follows from its seed: the same seed gives the same run.
#![forbid(unsafe_code)]

mod call;
mod dice;
mod disk;
pub mod hostile;
mod image;
mod loss;

pub use call::{Call, Fault};
pub use dice::Dice;
pub use disk::{SimDisk, SimFile};
