//! The simulated disk and clock that the fault tests run the engine on.
#![forbid(unsafe_code)]
