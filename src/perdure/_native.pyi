"""The classes that Rust provides (see `crates/native`)."""
