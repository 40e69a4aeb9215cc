//! Storage, index, recovery and commit: perdure without Python.
#![forbid(unsafe_code)]
