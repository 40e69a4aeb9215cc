//! Storage, index, recovery and commit: perdure without Python.
//!
//! [`Store`] is an open storage; [`Draft`] the transaction that is put together for it.
#![forbid(unsafe_code)]

mod aside;
mod blob_files;
mod check;
mod checksums;
mod collect;
mod commit;
mod commit_lock;
mod cursor;
mod data_lock;
pub mod disk;
mod draft;
mod error;
mod generation;
mod headers;
mod history;
mod in_doubt;
mod index;
mod joint;
mod marking;
mod open;
mod pack;
mod parts;
mod past;
mod publication;
mod rebuild;
mod recent;
mod salvage;
mod saved_index;
mod scan;
mod store;
mod sync;
mod targets;
mod torn;
mod undo;
mod undo_references;
mod verify;

pub use blob_files::{BlobFiles, PathError};
pub use check::{
    CheckSource, Checked, Finding, FindingKind, Gap, ReferencePairs, check_file, check_members,
};
pub use checksums::{ChecksumReport, Damage};
pub use collect::{ClassCount, Collector};
pub use commit::{Conflict, Finished, Locked, Voted};
pub use cursor::{DataRecord, RecordView, Records, TransactionRecord, Transactions};
pub use draft::{Basis, Draft, Metadata};
pub use error::{Error, Result};
pub use generation::{Found, Located, Patience};
pub use history::HistoryEntry;
pub use in_doubt::{InDoubt, find as find_in_doubt, settle as settle_in_doubt};
pub use joint::{Gate, finish_all, prepare_all, release_all, vote_all};
pub use marking::{Decoder, KeptRecord, Member};
pub use open::{Cut, Options};
pub use pack::{PackOptions, PackPhase, PackWatch, Packed};
pub use publication::Published;
pub use salvage::{Broken, find_broken};
pub use store::Store;
pub use targets::Targets;
pub use undo::{UndoAction, UndoStep};
pub use undo_references::{DraftReview, LaterReferrers, Link};
