"""Every error that perdure raises.

::

    Exception
     +-- POSError
     |    +-- POSKeyError (KeyError)             no such object
     |    +-- ConflictError (TransientError)     somebody else changed it first
     |    |    +-- ReadConflictError             ... what readCurrent() named
     |    |    +-- BTreesConflictError           ... a BTree, and it can't be merged
     |    +-- DanglingReferenceError (TransactionError)
     |    |    +-- StaleReferenceError (ConflictError)   ... somebody deleted or moved it
     |    +-- VersionError, VersionCommitError, VersionLockError
     |    +-- UndoError
     |    |    +-- MultipleUndoErrors
     |    +-- StorageError
     |    |    +-- StorageTransactionError       a call outside its transaction
     |    |    |    +-- TransactionTooLargeError
     |    |    +-- StorageSystemError
     |    |    +-- MountedStorageError
     |    |    +-- ReadOnlyError
     |    |    +-- CommitOutcomeUnknown          the disk failed while committing
     |    |    +-- InDoubtError                  a joint commit of unknown outcome
     |    |    +-- StorageLocked                 a second writer (also: LockError)
     |    |    +-- UnreadableRecord              a layer can't undo what was done to a record
     |    |    |    +-- DictionaryMissing        ... compressed with a dictionary not at hand
     |    |    |    +-- EncryptionError          ... a key not at hand, or not what was stored
     |    |    +-- FileStorageError
     |    |         +-- PackError
     |    |         |    +-- MissingMemberError  ... what may refer to garbage isn't at hand
     |    |         |    +-- RedundantPackWarning
     |    |         +-- FileStorageFormatError
     |    |         |    +-- NotADatabase        the file is something else
     |    |         +-- CorruptedFileStorageError (StorageSystemError)
     |    |         |    +-- CorruptedError      damage at a known position
     |    |         |    |    +-- CorruptedDataError
     |    |         |    |         +-- DamagedBlobError   a blob's file was cut, or grew
     |    |         |    +-- CorruptedTransactionError
     |    |         +-- FileStorageQuotaError (StorageSystemError)
     |    +-- ExportError
     |    +-- Unsupported
     |    +-- ReadOnlyHistoryError
     |    +-- InvalidObjectReference
     |    +-- ConnectionStateError
     |    +-- StateLoadError                     a record that can't become an object
     |    |    +-- ForbiddenClassError           ... its database's policy forbids a class
     |    +-- UnpicklableError (TypeError, PicklingError)   an object that can't be a record
     |    +-- UnflaggedChangeError               a change that would have been lost
     +-- BlobError
     +-- StorageStopIteration (IndexError, StopIteration)

An error carries what it is about as attributes (`oid`, `class_name`, `database`, `tid`, ...;
None where unknown); its message names them and says what to do next.

Beside stock ZODB in one process, an instance of any of these is an instance
of stock's class of the same name too: see `perdure._coexist`.
"""

import pickle
from collections.abc import Sequence
from typing import Any, ClassVar

import transaction.interfaces
from transaction.interfaces import TransactionError, TransactionFailedError

from perdure import _coexist
from perdure._messages import (
    BTREES_REASONS,
    about,
    locked_message,
    no_object_message,
    undo_message,
    unflagged_message,
    with_details,
)
from perdure.classname import get_pickle_metadata
from perdure.ids import Oid, Tid, oid_repr, tid_repr

__all__ = [
    "BTreesConflictError",
    "BlobError",
    "CommitOutcomeUnknown",
    "ConflictError",
    "ConnectionStateError",
    "CorruptedDataError",
    "CorruptedError",
    "CorruptedFileStorageError",
    "CorruptedTransactionError",
    "DamagedBlobError",
    "DanglingReferenceError",
    "DictionaryMissing",
    "EncryptionError",
    "ExportError",
    "FileStorageError",
    "FileStorageFormatError",
    "FileStorageQuotaError",
    "ForbiddenClassError",
    "InDoubtError",
    "InvalidObjectReference",
    "LockError",
    "MissingMemberError",
    "MountedStorageError",
    "MultipleUndoErrors",
    "NotADatabase",
    "POSError",
    "POSKeyError",
    "PackError",
    "ReadConflictError",
    "ReadOnlyError",
    "ReadOnlyHistoryError",
    "RedundantPackWarning",
    "StaleReferenceError",
    "StateLoadError",
    "StorageError",
    "StorageLocked",
    "StorageStopIteration",
    "StorageSystemError",
    "StorageTransactionError",
    "TransactionError",
    "TransactionFailedError",
    "TransactionTooLargeError",
    "UndoError",
    "UnflaggedChangeError",
    "UnpicklableError",
    "UnreadableRecord",
    "Unsupported",
    "VersionCommitError",
    "VersionError",
    "VersionLockError",
]


class POSError(_coexist.OutwardError):
    """Base of everything that goes wrong with persistent objects."""

    _outward: ClassVar[str | None] = "ZODB.POSException"


class POSKeyError(POSError, KeyError):
    """There is no record of `oid`, or none at the time asked for, `tid`, in `database`.

    `class_name` is the class that the object should be of.
    """

    def __init__(self, oid: Oid | None = None, *details: Any, **known: Any) -> None:
        # Everything is in `args`: a server sends an error's attributes, if it has any, in place of
        # its arguments, and clients make the error of that.
        if not known.keys() <= {"class_name", "database", "tid"}:
            raise TypeError(f"POSKeyError() got an unexpected keyword argument: {known}")
        known = {name: value for name, value in known.items() if value is not None}
        super().__init__(*(() if oid is None else (oid,)), *details, *((known,) if known else ()))

    oid = property(lambda self: self.args[0] if self.args else None)
    database = property(lambda self: self._known().get("database"))
    class_name = property(lambda self: self._known().get("class_name"))
    tid = property(lambda self: self._known().get("tid"))

    def _known(self) -> dict[str, Any]:
        told: dict[str, Any] = self.__dict__.get("_told", {})
        given = self.args[-1] if self.args and isinstance(self.args[-1], dict) else {}
        return {**told, **given}

    def describe(self, **known: str | None) -> None:
        """Add to what is known of the object; what was known before stays."""
        # Not in `args`, which others compare, and which is for what the storage said.
        told = {name: value for name, value in known.items() if value is not None}
        self.__dict__["_told"] = {**told, **self.__dict__.get("_told", {})}

    def __str__(self) -> str:
        parts = about(class_name=self.class_name, database=self.database, tid=self.tid)
        return no_object_message(self.args, parts)


class ConflictError(POSError, transaction.interfaces.TransientError):
    """Another transaction changed an object that this one changed, too.

    Abort and run the transaction again; `transaction_manager.attempts()` and
    `transaction_manager.run()` do both.

    `oid`, `class_name`, `database` name the object, `serials` is the pair
    (committed serial, serial that this transaction started from).  What stopped
    conflict resolution, if anything, is the `__cause__`.
    """

    _message: ClassVar[str] = "database conflict error"

    message: str = _message
    oid: Oid | None = None
    class_name: str | None = None
    database: str | None = None
    serials: tuple[Tid, Tid] | None = None

    def __init__(
        self,
        message: str | None = None,
        object: Any = None,  # noqa: A002 - ZODB's name
        oid: Oid | None = None,
        serials: tuple[Tid, Tid] | None = None,
        data: bytes | None = None,
        class_name: str | None = None,
        database: str | None = None,
    ) -> None:
        super().__init__(*(() if message is None else (message,)))
        self.message = self._message if message is None else message
        if class_name is None and data:
            class_name = ".".join(get_pickle_metadata(data)).strip(".") or None
        if object is not None:
            oid = object._p_oid if oid is None else oid
            class_name = class_name or f"{type(object).__module__}.{type(object).__qualname__}"
        self.oid, self.class_name, self.database = oid, class_name, database
        self.serials = serials

    def __str__(self) -> str:
        parts = about(self.oid, self.class_name, self.database)
        if self.serials:
            committed, seen = self.serials
            parts += about(serial_this_txn_started_with=seen, serial_currently_committed=committed)
        return with_details(self.message, parts, "abort and run the transaction again")

    def describe(self, **known: str | None) -> None:
        """Add to what is known of the object; what was known before stays."""
        for name, value in known.items():
            if getattr(self, name) is None:
                setattr(self, name, value)

    def get_oid(self) -> Oid | None:
        """Return the oid of the object in conflict."""
        return self.oid

    def get_class_name(self) -> str | None:
        """Return the full name of the class of the object in conflict."""
        return self.class_name

    def get_serials(self) -> tuple[Tid, Tid] | None:
        """Return (committed serial, serial that this transaction started from)."""
        return self.serials

    def get_new_serial(self) -> Tid | None:
        """Return the committed serial."""
        return self.serials[0] if self.serials else None

    def get_old_serial(self) -> Tid | None:
        """Return the serial that this transaction started from."""
        return self.serials[1] if self.serials else None


class ReadConflictError(ConflictError):
    """An object that was to stay unchanged (`readCurrent`) was changed meanwhile."""

    _message = "database read conflict error"

    def __init__(
        self,
        message: str | None = None,
        object: Any = None,  # noqa: A002 - ZODB's name
        serials: tuple[Tid, Tid] | None = None,
        **known: Any,
    ) -> None:
        super().__init__(message, object, serials=serials, **known)


class BTreesConflictError(ConflictError):
    """Two changes of one BTree (node) that can't be merged; `reason` says why.

    `p1`, `p2`, `p3` are the positions reached in the old, the committed and the new state.
    """

    msgs: ClassVar[list[str]] = BTREES_REASONS

    def __init__(self, p1: int, p2: int, p3: int, reason: int) -> None:
        super().__init__()
        self.p1, self.p2, self.p3, self.reason = p1, p2, p3, reason

    def __repr__(self) -> str:
        return f"BTreesConflictError({self.p1}, {self.p2}, {self.p3}, {self.reason})"

    def __str__(self) -> str:
        known = 0 <= self.reason < len(self.msgs)
        what = self.msgs[self.reason] if known else f"reason {self.reason}"
        return f"BTrees conflict error at {self.p1}/{self.p2}/{self.p3}: {what}"


class DanglingReferenceError(POSError, transaction.interfaces.TransactionError):
    """`referer` was to be stored with a reference to `missing`, which doesn't exist.

    Where it is known: `class_name` is the class of the referer, `path` the attribute
    that leads to the missing object, `database` the member that should have it.
    """

    def __init__(self, referer: Oid, missing: Oid, known: dict[str, str] | None = None) -> None:
        POSError.__init__(self, referer, missing, *((known,) if known else ()))
        self.referer, self.missing = referer, missing
        known = known or {}
        self.class_name = known.get("class_name")
        self.path = known.get("path")
        self.database = known.get("database")

    def __str__(self) -> str:
        what = f"{self.class_name} " if self.class_name else ""
        path = f", {self.path}" if self.path else ""
        place = f" in database {self.database!r}, which doesn't exist" if self.database else ""
        return f"from {what}{oid_repr(self.referer)}{path} to {oid_repr(self.missing)}{place}"


class StaleReferenceError(DanglingReferenceError, ConflictError):
    """Another transaction deleted or moved `missing` after this one began; `oid` is the referer."""

    def __init__(self, referer: Oid, missing: Oid, known: dict[str, str] | None = None) -> None:
        super().__init__(referer, missing, known)
        self.oid = referer

    def __str__(self) -> str:
        return f"{super().__str__()} any more: abort and run the transaction again"


class VersionError(POSError):
    """Versions (branches of a database) don't exist any more."""


class VersionCommitError(VersionError):
    """Kept so that old imports work; never raised."""


class VersionLockError(VersionError, transaction.interfaces.TransactionError):
    """Kept so that old imports work; never raised."""


class UndoError(POSError):
    """The transaction can't be undone: `reason`, for the object `oid`."""

    def __init__(self, reason: str | None = None, oid: Oid | None = None) -> None:
        super().__init__(reason, oid)
        self._reason, self._oid = reason, oid

    @property
    def reason(self) -> str | None:
        """Why it can't be undone."""
        return self._reason

    @property
    def oid(self) -> Oid | None:
        """The object that keeps it from being undone."""
        return self._oid

    def __str__(self) -> str:
        return undo_message(self.oid, self.reason)


class MultipleUndoErrors(UndoError):  # noqa: N818 - ZODB's name, or a state and no mistake
    """Several objects keep a transaction from being undone; see `errors`."""

    def __init__(self, errs: Sequence[tuple[Oid | None, str]]) -> None:
        oid, reason = errs[0]
        UndoError.__init__(self, reason, oid)
        self._errs = list(errs)
        self.args = (self._errs,)

    @property
    def errors(self) -> list[tuple[Oid | None, str]]:
        """What stands in the way, as pairs (oid, reason)."""
        return self._errs

    def __str__(self) -> str:
        return "\n".join(undo_message(oid, reason) for oid, reason in self.errors)


class StorageError(POSError):
    """Base of what goes wrong in a storage."""


class StorageTransactionError(StorageError):
    """A call that belongs to another transaction, or to none that is running."""


class TransactionTooLargeError(StorageTransactionError):
    """The transaction exceeds what the storage can hold."""


class StorageSystemError(StorageError):
    """The storage is inconsistent or can't work any more."""


class MountedStorageError(StorageError):
    """A mounted storage can't be reached."""


class ReadOnlyError(StorageError):
    """The storage or connection was opened for reading only."""


class CommitOutcomeUnknown(StorageError):  # noqa: N818 - ZODB's name, or a state and no mistake
    """The disk failed between writing a commit and confirming it.

    The transaction `tid` may or may not be there after recovery. The storage takes no more
    writes: close it, repair the cause, open it again (which recovers it) and look.
    """

    def __init__(self, *args: Any, tid: Tid | None = None, path: str | None = None) -> None:
        super().__init__(*args)
        self.tid, self.path = tid, path

    def __str__(self) -> str:
        message = super().__str__() or "the disk failed while a commit was being confirmed"
        parts = about(tid=self.tid) + ([self.path] if self.path else [])
        return with_details(
            message, parts, "close the storage and open it again to see whether it was committed"
        )


class InDoubtError(StorageError):
    """`path` ends with a joint transaction, `tid`, whose outcome only `decider` knows."""

    _outward: ClassVar[str | None] = None

    def __init__(self, *args: Any, **details: Any) -> None:
        super().__init__(*args)
        self.path, self.decider = details.get("path"), details.get("decider")
        self.tid: Tid | None = details.get("tid")


class StorageLocked(StorageError):  # noqa: N818 - ZODB's name, or a state and no mistake
    """Another process (`pid`, None if unknown) has the database at `path` open."""

    _outward: ClassVar[str | None] = "zc.lockfile"
    _outward_name: ClassVar[str] = "LockError"

    def __init__(self, *args: Any, path: str | None = None, pid: int | None = None) -> None:
        super().__init__(*args)
        self.path, self.pid = path, pid

    def __str__(self) -> str:
        return super().__str__() or locked_message(self.path, self.pid)


LockError = StorageLocked


class UnreadableRecord(StorageError):  # noqa: N818 - a state, and not always a mistake
    """A layer can't give back a record (or blob) as the application stored it.

    `oid` and `tid` name the revision, `key` the key or dictionary that it needs, where
    they are known.
    """

    def __init__(
        self, *args: Any, oid: Oid | None = None, tid: Tid | None = None, key: Any = None
    ) -> None:
        super().__init__(*args)
        self.oid, self.tid, self.key = oid, tid, key

    def __str__(self) -> str:
        return with_details(super().__str__(), about(self.oid, tid=self.tid))


class DictionaryMissing(UnreadableRecord):
    """A record is compressed with a dictionary (`key` is its id) that isn't at hand."""


class EncryptionError(UnreadableRecord):
    """A record isn't what was encrypted there, or needs another key (`key` is its id)."""


class FileStorageError(StorageError):
    """Base of what goes wrong with a data file."""

    _outward: ClassVar[str | None] = "ZODB.FileStorage.FileStorage"


class PackError(FileStorageError):
    """The data file can't be packed; it is as it was."""


class MissingMemberError(PackError):
    """The database called `database`, which may refer to what looks like garbage, isn't at hand."""

    _outward: ClassVar[str | None] = None
    database: str | None = None


class RedundantPackWarning(PackError):  # noqa: N818 - ZODB's name, or a state and no mistake
    """The data file is already packed to this or a later time."""


class FileStorageFormatError(FileStorageError):
    """The file at `path` isn't in a format that can be read."""

    def __init__(self, *args: Any, path: str | None = None) -> None:
        super().__init__(*args)
        self.path = path


class NotADatabase(FileStorageFormatError):  # noqa: N818 - ZODB's name, or a state and no mistake
    """The file at `path` is something else than a database; it was left untouched."""

    _outward: ClassVar[str | None] = None

    def __str__(self) -> str:
        return super().__str__() or (
            f"{self.path} is no database file: it doesn't begin with FS21; it was left untouched"
        )


class CorruptedFileStorageError(FileStorageError, StorageSystemError):
    """The data file is damaged."""

    _outward: ClassVar[str | None] = "ZODB.FileStorage.FileStorage"


class CorruptedTransactionError(CorruptedFileStorageError):
    """A transaction in the data file is damaged."""


class CorruptedError(CorruptedFileStorageError):
    """The file at `path` is damaged at `position` (bytes from its start).

    `expected` says what should be there, `found` what is.
    """

    _outward: ClassVar[str | None] = "ZODB.FileStorage.format"

    def __init__(
        self,
        *args: Any,
        path: str | None = None,
        position: int | None = None,
        expected: object = None,
        found: object = None,
    ) -> None:
        super().__init__(*args)
        self.path, self.position = path, position
        self.expected, self.found = expected, found

    def __str__(self) -> str:
        parts = [self.path] if self.path else []
        if self.position is not None:
            parts.append(f"at position {self.position}")
        if self.expected is not None:
            parts.append(f"expected {self.expected}, found {self.found}")
        return with_details(super().__str__() or "the data file is damaged", parts)


class CorruptedDataError(CorruptedError):
    """The data record of `oid` at `pos` is damaged; `buf` is what was read."""

    def __init__(
        self, oid: Oid | None = None, buf: bytes | None = None, pos: int | None = None, **known: Any
    ) -> None:
        super().__init__(position=pos, **known)
        self.oid, self.buf, self.pos = oid, buf, pos

    def __str__(self) -> str:
        about = f"damaged record of {oid_repr(self.oid)}" if self.oid else "damaged data record"
        place = f" in {self.path}" if self.path else ""
        at = f" at position {self.pos}" if self.pos is not None else ""
        why = f": expected {self.expected}, found {self.found}" if self.expected is not None else ""
        return about + place + at + why


class DamagedBlobError(CorruptedDataError):
    """The file `path` isn't as long as what the transaction `tid` stored of the blob `oid`."""

    tid: Tid | None = None

    def __str__(self) -> str:
        about = f"the file {self.path} of the blob {oid_repr(self.oid)}"
        wrong = f"has {self.found} bytes, and {tid_repr(self.tid)} stored {self.expected}"
        return f"{about} {wrong}: restore the file from a backup"


class FileStorageQuotaError(FileStorageError, StorageSystemError):
    """The commit would make the data file larger than its quota allows."""


class ExportError(POSError):
    """The file isn't an export file, or is damaged, or needs a `member` that isn't there."""

    member: str | None = None


class Unsupported(POSError):  # noqa: N818 - ZODB's name, or a state and no mistake
    """The storage doesn't offer what was asked for."""


class ReadOnlyHistoryError(POSError):
    """A connection to a past state (`open(at=...)`) can't add or change objects."""


class InvalidObjectReference(POSError):  # noqa: N818 - ZODB's name, or a state and no mistake
    """An object refers to one that it can't refer to.

    `object` is the object that can't be stored or referred to, `databases` the
    names of the members concerned.
    """

    def __init__(
        self,
        message: str = "",
        object: Any = None,  # noqa: A002 - ZODB's name
        databases: Sequence[str] = (),
    ) -> None:
        super().__init__(message, *(() if object is None else (object,)))
        self.message = message
        self.object = object
        self.databases = tuple(databases)

    def __str__(self) -> str:
        return self.message


class ConnectionStateError(POSError):
    """The connection is closed, or still busy with a transaction."""


class StateLoadError(POSError):
    """The record of an object can't be made into its state.

    `oid`, `class_name` and `database` name it; the `__cause__` is what went wrong.
    """

    def __init__(
        self,
        *args: Any,
        oid: Oid | None = None,
        class_name: str | None = None,
        database: str | None = None,
    ) -> None:
        super().__init__(*args)
        self.oid, self.class_name, self.database = oid, class_name, database

    def __str__(self) -> str:
        message = super().__str__() or "can't load the state of an object"
        return with_details(message, about(self.oid, self.class_name, self.database))


class ForbiddenClassError(StateLoadError):
    """A record names `class_name`, which the class policy of the database doesn't allow."""


class UnpicklableError(POSError, TypeError, pickle.PicklingError):
    """Something in an object's state can't be stored; nothing of it was.

    `oid`, `class_name` and `database` name the object, `path` leads to the value
    (`.a['key'][3]`), of class `value_class`; the `__cause__` is what its pickling raised.
    """

    _outward: ClassVar[str | None] = None

    def __init__(
        self,
        *args: Any,
        oid: Oid | None = None,
        class_name: str | None = None,
        database: str | None = None,
        path: str | None = None,
        value_class: str | None = None,
    ) -> None:
        super().__init__(*args)
        self.oid, self.class_name, self.database = oid, class_name, database
        self.path = path
        self.value_class = value_class

    def __str__(self) -> str:
        given = super().__str__()
        if self.path is None:
            message = given or "an object's state can't be pickled"
        else:
            of = f" of class {self.value_class}" if self.value_class else ""
            message = f"{self.class_name or 'object'}{self.path}{of} can't be stored"
            message += f": {given}" if given else ""
        return with_details(
            message,
            about(self.oid, self.class_name, self.database),
            "store something that can be pickled, or keep it in a _v_ attribute",
        )


class UnflaggedChangeError(POSError):
    """A plain list, dict or set inside a persistent object changed unnoticed.

    `changes` lists (oid, class name, attribute).  Set `_p_changed = True` on the
    object after such a change, or use PersistentList and PersistentMapping.
    """

    _outward: ClassVar[str | None] = None

    def __init__(self, changes: Sequence[tuple[Oid, str, str]], database: str = "") -> None:
        super().__init__(list(changes), database)
        self.changes = list(changes)
        self.database = database

    def __str__(self) -> str:
        return unflagged_message(self.changes, self.database)


class BlobError(_coexist.OutwardError):
    """A blob isn't in the state that the call needs."""


class StorageStopIteration(_coexist.OutwardError, IndexError, StopIteration):  # noqa: N818 - ZODB's name, or a state and no mistake
    """The end of an iteration, whichever way it is driven."""
