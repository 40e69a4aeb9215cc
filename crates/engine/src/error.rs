//! What can go wrong in the engine, with the data of what went wrong.

use std::io;
use std::path::PathBuf;

use perdure_format::{Oid, Tid};

/// The result of an engine call.
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was attempted: "reading", "writing", …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is not a database.
    #[error(
        "{} is not a perdure or ZODB database: it begins with \"{}\" instead of \"FS30\" or \
         \"FS21\"; it was left as it is",
        path.display(),
        String::from_utf8_lossy(found).escape_debug()
    )]
    NotADatabase {
        /// The file.
        path: PathBuf,
        /// The bytes that it begins with.
        found: Vec<u8>,
    },
    /// The file was written by a newer perdure, in a form that this one cannot read.
    #[error(
        "{} was written by a newer perdure ({found}); update perdure here: it was left as it is",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// What is newer.
        found: String,
    },
    /// A record is larger than was said that records may be.
    #[error(
        "the record of {oid} has {len} bytes in {}: record_bytes_max, which is {max}, allows no \
         more; open the file with a greater one if that is right",
        path.display()
    )]
    RecordTooLarge {
        /// The data file.
        path: PathBuf,
        /// The object.
        oid: Oid,
        /// The length of its data.
        len: u64,
        /// The greatest length.
        max: u64,
    },
    /// The file is damaged before its end.
    #[error(
        "{} is damaged at position {position}: {problem}; recover what is whole into a new file (perdure recover), \
         or restore a backup",
        path.display()
    )]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// Where.
        position: u64,
        /// What was found there, and what was expected.
        problem: String,
    },
    /// Another process, or another storage of this one, writes to the file.
    #[error(
        "{} is locked by {}: one writer at a time; close it there, or open it read-only here",
        path.display(),
        holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Locked {
        /// The lock file.
        path: PathBuf,
        /// The process that the lock file names.
        holder: Option<u32>,
    },
    /// Another process opened the storage, which this one was forked from.
    #[error(
        "{} was opened by process {opener}, from which this one was forked: it can be read here, and only \
         that one may write; to write here, open it after the fork, and not there",
        path.display()
    )]
    Forked {
        /// The data file.
        path: PathBuf,
        /// The process that opened it.
        opener: u32,
    },
    /// A joint transaction was voted here, and nobody can tell whether it was committed.
    #[error(
        "{} ends with transaction {tid}, which was committed jointly with other databases; whether \
         it was finished is known to {} only, but {reason}. Make that file available and open this \
         one again; or settle it by hand, the same way in all members: `perdure indoubt resolve \
         --commit {}` or `perdure indoubt resolve --abort {}`",
        path.display(), decider.display(), path.display(), path.display()
    )]
    InDoubt {
        /// The file.
        path: PathBuf,
        /// The transaction.
        tid: Tid,
        /// The deciding member's data file.
        decider: PathBuf,
        /// Why it does not tell.
        reason: String,
    },
    /// There is no transaction to be settled by hand.
    #[error("{} has no transaction in doubt", path.display())]
    NothingInDoubt {
        /// The file.
        path: PathBuf,
    },
    /// There is no such object.
    #[error("no object {oid}")]
    NoObject {
        /// The object.
        oid: Oid,
    },
    /// The object exists, but its revision of the snapshot was packed away or is yet to come.
    #[error(
        "object {oid} isn't there at {snapshot}: it was created later, or that revision was packed \
         away; begin a new transaction"
    )]
    NotAtSnapshot {
        /// The object.
        oid: Oid,
        /// The snapshot.
        snapshot: Tid,
    },
    /// There is no such revision.
    #[error("no revision {tid} of object {oid}")]
    NoRevision {
        /// The object.
        oid: Oid,
        /// The revision.
        tid: Tid,
    },
    /// An object that was to be read unchanged has changed.
    #[error("object {oid} was read at {seen} and has been changed by {committed}")]
    ReadConflict {
        /// The object.
        oid: Oid,
        /// Its current revision.
        committed: Tid,
        /// The revision that the transaction relied on.
        seen: Tid,
    },
    /// The storage cannot be written to.
    #[error("the storage is read-only")]
    ReadOnly,
    /// The storage was closed.
    #[error("the storage is closed")]
    Closed,
    /// The file would grow beyond its quota.
    #[error("the transaction would make the file {needed} bytes long; the quota is {quota}")]
    QuotaExceeded {
        /// The length that the file would have.
        needed: u64,
        /// The length that it may have.
        quota: u64,
    },
    /// An earlier sync failed: what is on the device is unknown.
    #[error(
        "{} takes no more writes since a write or sync of it failed ({reason}); close and reopen it, \
         which recovers what is on the device",
        path.display()
    )]
    Poisoned {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// The transaction was finished, but whether it is on the device is unknown.
    #[error(
        "the outcome of transaction {tid} is unknown: writing {} failed ({reason}); close and \
         reopen the storage and look whether the transaction is there",
        path.display()
    )]
    OutcomeUnknown {
        /// The transaction.
        tid: Tid,
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        reason: String,
    },
    /// A transaction's id is not later than the last one.
    #[error("transaction {tid} is not later than the last one, {last}")]
    TidNotLater {
        /// The id asked for.
        tid: Tid,
        /// The last transaction.
        last: Tid,
    },
    /// The storage cannot be packed now.
    #[error("the storage can't be packed: {reason}")]
    Pack {
        /// Why.
        reason: String,
    },
    /// What was current at the pack time is gone already.
    #[error("the storage was packed to a time after {until} already: nothing was changed")]
    PackedLater {
        /// The pack time asked for.
        until: Tid,
    },
    /// Somebody asked the pack to stop.
    #[error("the pack was stopped; the database is as it was")]
    PackStopped,
    /// The file was packed since the draft took a position in it.
    #[error("the storage was packed while the transaction was put together; do it again")]
    PackedMeanwhile,
    /// The references of a record cannot be found.
    #[error(
        "the record of object {oid} can't be searched for references: {problem}; pack through the \
         storage layer that wrote it, or without garbage collection"
    )]
    References {
        /// The object.
        oid: Oid,
        /// What is wrong with its record.
        problem: String,
    },
    /// A database that may refer to what looks like garbage is not at hand.
    #[error(
        "object {oid} in '{member}' refers to database '{database}', which isn't at hand, and may \
         refer to what looks like garbage here: open it in the same collection, or pack without \
         collecting garbage"
    )]
    MemberMissing {
        /// The object.
        oid: Oid,
        /// The database that it is in.
        member: String,
        /// The database that it refers to.
        database: String,
    },
    /// The transaction cannot be undone.
    #[error("transaction {tid} can't be undone: {reason}")]
    NotUndoable {
        /// The transaction.
        tid: Tid,
        /// Why.
        reason: &'static str,
    },
    /// A user name, description or extension is longer than the format can hold.
    #[error("the transaction's {field} has {len} bytes; at most 65535 can be stored")]
    MetadataTooLong {
        /// Which.
        field: &'static str,
        /// Its length.
        len: usize,
    },
}

impl Error {
    /// An error of the operating system on a file.
    #[must_use]
    pub fn io(action: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
