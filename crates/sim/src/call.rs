//! The calls that reach the disk, and what can go wrong with one.

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Call {
    /// Opening a file that exists.
    Open,
    /// Making a file.
    Create,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Syncing a file.
    Sync,
    /// Asking for a length.
    Length,
    /// Cutting off a file.
    Truncate,
    /// Locking a file.
    Lock,
    /// Giving a file a second name.
    Link,
    /// Renaming a file.
    Rename,
    /// Removing a file.
    Remove,
    /// Asking whether a file exists.
    Exists,
    /// Syncing a directory.
    SyncDirectory,
}

impl Call {
    /// Does the call change what is on the disk, or make a change durable?
    #[must_use]
    pub const fn is_write(self) -> bool {
        !matches!(
            self,
            Self::Open | Self::Read | Self::Length | Self::Lock | Self::Exists
        )
    }
}

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error number and does nothing.
    ///
    /// A failed sync leaves an unknown part of what was written on the device, and a later sync
    /// does not bring the rest there: Linux considers it written.
    Error(i32),
    /// A write does half of its work, then fails with this error number.
    Half(i32),
    /// The process dies in it. Nothing works any more, until the disk is taken over by
    /// [`crate::SimDisk::power_loss`] or [`crate::SimDisk::restart`].
    Death,
}
