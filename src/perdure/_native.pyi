"""The classes that Rust provides (see `crates/native`).

Oids and tids are bytes of length 8.  Errors of the engine are raised as the
classes of `perdure.errors`, those of the operating system as OSError.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, final

from typing_extensions import Self, disjoint_base

from perdure.ids import Oid, Tid
from perdure.storage.packing import Decode

__all__ = [
    "BlobPlaces",
    "Collector",
    "ConnectionBase",
    "DataRecord",
    "Draft",
    "DraftReview",
    "Gate",
    "Intake",
    "LaterReferrers",
    "ObjectWriter",
    "OidSet",
    "RecordIterator",
    "Storage",
    "StorageView",
    "TransactionIterator",
    "all_references",
    "check_file",
    "check_members",
    "class_name",
    "find_broken",
    "in_doubt",
    "native_objects",
    "prepare_together",
    "references",
    "replace_references",
    "settle_in_doubt_by_hand",
    "tid_of_time",
    "time_of_tid",
    "verify_memo",
    "vote_together",
]

# The storage (`crates/native/src/storage`).

def tid_of_time(seconds: float) -> Tid:
    """Return the tid of a time in seconds since the epoch (UTC)."""

def time_of_tid(tid: bytes) -> float:
    """Return the time, in seconds since the epoch (UTC), of a tid."""

def check_members(
    members: list[tuple[str, Path | Storage]],
    progress: Callable[[int, int], object] | None = None,
) -> list[dict[str, Any]]:
    """Check all members of a collection at the same time; see `check_file`.

    As "others", each has those references only whose target is in none of the members.
    """

def check_file(
    path: Path | str,
    progress: Callable[[int, int], object] | None = None,
    ways_to: list[Oid] | None = None,
) -> dict[str, Any]:
    """Check a data file, which may be damaged, without opening it as a database.

    *progress* is called now and then with the bytes done and the bytes there are; what it
    raises stops the check. The "ways" are those from the root to each of *ways_to*.
    """

def find_broken(
    path: Path | str,
    gaps: list[tuple[int, int, str]],
    progress: Callable[[int, int], object] | None = None,
) -> list[dict[str, Any]]:
    """Compare a damaged file with its checksums; *gaps* are those that `check_file` found.

    Returns the transactions of which not everything is what was written. *progress* as in
    `check_file`.
    """

@final
class Storage:
    """A storage of the engine, in a file or in memory."""

    @staticmethod
    def open(
        path: Path | str,
        *,
        create: bool = False,
        read_only: bool = False,
        stop: bytes | None = None,
        quota_bytes: int | None = None,
        verify_reads: bool = False,
        record_bytes_max: int | None = None,
    ) -> Storage: ...
    @staticmethod
    def in_memory(name: str) -> Storage: ...
    @property
    def cut(self) -> tuple[int, int, Path, str] | None: ...
    @property
    def read_only(self) -> bool: ...
    @property
    def max_oid(self) -> Oid: ...
    def load(self, oid: bytes) -> tuple[bytes, Tid]: ...
    def load_before(self, oid: bytes, tid: bytes) -> tuple[bytes, Tid, Tid | None] | None: ...
    def load_serial(self, oid: bytes, tid: bytes) -> bytes: ...
    def current_tid(self, oid: bytes) -> Tid: ...
    def history(
        self, oid: bytes, size: int, annotations: Callable[[bytes], dict[str, Any]]
    ) -> list[dict[str, Any]]: ...
    def transactions(
        self, start: bytes | None = None, stop: bytes | None = None
    ) -> TransactionIterator: ...
    def transactions_backwards(self) -> TransactionIterator: ...
    def revisions_after(self, oid: bytes, tid: bytes) -> list[Tid]: ...
    def next_record(self, oid: bytes) -> tuple[Oid, Tid, bytes, Oid | None] | None: ...
    def last_changes(self, count: int) -> list[tuple[Tid, list[Oid]]]: ...
    def position(self, oid: bytes) -> int | None: ...
    def removals(self) -> tuple[Tid, int]: ...
    def is_whole_since(self, tid: bytes) -> bool: ...
    def catch_up(self) -> None: ...
    def settle_past(self, tid: bytes) -> None: ...
    def last_transaction(self) -> Tid: ...
    def object_count(self) -> int: ...
    def size_bytes(self) -> int: ...
    def new_oid(self) -> Oid: ...
    def raise_max_oid(self, oid: bytes) -> None: ...
    def begin(
        self,
        user: bytes,
        description: bytes,
        extension: bytes,
        tid: bytes | None = None,
        status: str = " ",
    ) -> Draft: ...
    def pack(
        self,
        until: bytes,
        *,
        collect_garbage: bool = True,
        keep_old: bool = True,
        references: Callable[[bytes, list[bytes]], object] | None = None,
        progress: Callable[[str, int, int], object] | None = None,
        members: list[tuple[str, Storage, Decode | None]] | None = None,
    ) -> tuple[int, int, int, int] | None: ...
    def adopt_packed(self, keep_old: bool) -> tuple[int, int, int, int]: ...
    def check(self, progress: Callable[[int, int], object] | None = None) -> dict[str, Any]: ...
    def check_checksums(self) -> tuple[int, int, list[tuple[int, Tid, Oid | None, str]]]: ...
    def reference_pairs(
        self, progress: Callable[[int, int], object] | None = None
    ) -> tuple[bytes, dict[str, bytes]]: ...
    def missing_targets(self, pairs: bytes) -> list[Oid]: ...
    def save_index(self) -> None: ...
    def forked(self) -> None: ...
    def close(self) -> None: ...

@final
class Draft:
    """A transaction on its way into a storage: put together, locked, written, finished."""

    def store(self, oid: bytes, serial: bytes, data: bytes) -> None: ...
    def delete(self, oid: bytes, serial: bytes) -> None: ...
    def restore(self, oid: bytes, data: bytes | None, previous: bytes | None = None) -> None: ...
    def check_current(self, oid: bytes, serial: bytes) -> None: ...
    def plan_undo(
        self, tid: bytes
    ) -> list[tuple[Oid, Tid, str, int, bytes | None, bytes | None]]: ...
    def undo_as_it_is(self, tid: bytes) -> list[Oid] | None: ...
    def undo_to(self, oid: bytes, current: bytes, position: int) -> None: ...
    def deletes(self) -> bool: ...
    def review(self, name: str, decode: Decode | None = None) -> DraftReview: ...
    def __len__(self) -> int: ...
    def lock(self) -> list[tuple[int, Oid, Tid, Tid]]: ...
    def vote(self, now: float) -> Tid | None:
        """Do as `lock` and `write` do; None: only as `lock`, since something was in the way."""

    def conflicts(self) -> list[tuple[int, Oid, Tid, Tid]]: ...
    def missing(self) -> list[Oid]: ...
    def data(self, record: int) -> bytes | None: ...
    def committed_data(self, record: int) -> bytes | None: ...
    def resolve(self, record: int, data: bytes) -> None: ...
    def least_tid(self, now: float) -> Tid: ...
    def write(self, now: float, tid: bytes | None = None) -> Tid: ...
    def finish(self, callback: Callable[[Any], object] | None = None) -> Tid: ...
    def abort(self) -> None: ...
    def may_be_committed(self) -> bool: ...

@final
class Collector:
    """What a garbage collection over several storages knows; they aren't packed while it lives."""

    def __new__(
        cls,
        members: list[tuple[tuple[str, Storage, Decode | None], bytes]],
        progress: Callable[[str, int, int], object] | None = None,
    ) -> Self: ...
    def __len__(self) -> int: ...
    def reachable(self) -> list[int]: ...
    def stage(self, start: int, stop: int, member: int, draft: Draft) -> int: ...
    def catch_up(self, settled: bool) -> None: ...
    def still_garbage(self, start: int, stop: int) -> int: ...
    def count(self, start: int, stop: int) -> None: ...
    def counts(self) -> list[tuple[int, str, int]]: ...

@final
class DraftReview:
    """What the objects are and refer to that a draft changes, as it leaves them."""

    def leaves(self, oid: bytes) -> bool | None: ...
    def databases(self) -> list[str]: ...
    def links(self, database: str | None = None) -> list[tuple[Oid, Oid]]: ...
    def dangling(self) -> list[tuple[Oid, Oid]]: ...

@final
class LaterReferrers:
    """Who has come to refer to objects since a transaction, in all members of a collection."""

    def __new__(
        cls,
        members: list[tuple[tuple[str, Storage, Decode | None], bytes]],
        name: str,
        review: DraftReview,
    ) -> Self: ...
    def catch_up(self, settled: bool) -> None: ...
    def links(self, member: int, review: DraftReview | None = None) -> list[tuple[Oid, Oid]]: ...

@final
class BlobPlaces:
    """Puts the files of one blob directory where they belong, and waits for the disk.

    It knows the directories that it made, and whose names a power loss could still take away.
    OSError is raised with the path that is concerned.
    """

    def __new__(cls) -> Self: ...
    def make(self, directory: str) -> None:
        """Make a directory and those above it, where they aren't there."""

    def place(self, moves: list[tuple[str, str]]) -> int:
        """Move files (from, to), and protect them from writing; return how many could be renamed.

        A number less than that of *moves* is that of the one which can't be.
        """

    def make_safe(self, files: list[str], directories: list[str]) -> None:
        """Wait until files, and the names that lead to them and to directories, are on the disk."""

@final
class Gate:
    """What a collection's members share: joint transactions pass through it one at a time."""

    def __new__(cls) -> Self: ...
    def snapshots(self, storages: dict[str, Storage]) -> dict[str, Tid]: ...
    def finish_together(self, drafts: list[Draft]) -> Tid: ...

def prepare_together(drafts: list[Draft], tid: bytes) -> None:
    """Write locked drafts of several storages as one transaction, durable and not finished.

    The first one's storage decides.
    """

def vote_together(drafts: list[Draft], now: float) -> Tid | None:
    """Lock drafts of several storages, and do as `prepare_together` where nothing is in the way.

    None: each is as after `lock`, or none, where one has nothing to write or relies on what
    it doesn't write.
    """

def in_doubt(path: Path | str) -> tuple[Tid, list[str], int] | None:
    """Return (tid, members' paths, own number) of the transaction in doubt at a file's end."""

def settle_in_doubt_by_hand(path: Path | str, commit: bool) -> tuple[Tid, list[str], int]:
    """Commit or drop the transaction in doubt at the end of a data file that is not open."""

@disjoint_base
class StorageView:
    """One consistent view of a storage: it reads at `snapshot`, and writes one transaction."""

    def __new__(
        cls, storage: Storage, snapshot: bytes | None = None, *_args: Any, **_kwargs: Any
    ) -> Self: ...
    @property
    def snapshot(self) -> Tid: ...
    @property
    def draft(self) -> Draft | None: ...
    def load(self, oid: bytes, version: str = "") -> tuple[bytes, Tid]: ...
    def advance(self, at: bytes | None = None) -> list[Oid]: ...
    def note_own(self, tid: bytes) -> None: ...
    def sync(self, force: bool = True) -> None: ...
    def afterCompletion(self) -> None: ...
    def _begin(self, transaction: Any) -> None: ...
    def expect_draft(self) -> None: ...
    def attach(self, draft: Draft) -> None: ...
    def detach(self) -> Draft | None: ...
    def new_oid(self) -> Oid: ...
    def commit(self, now: float) -> Tid | None: ...
    @property
    def committed(self) -> Tid | None: ...
    def finish(self, callback: Callable[[Any], object] | None = None) -> Tid: ...
    def store(
        self,
        oid: bytes,
        serial: bytes | None,
        data: bytes,
        version: str = "",
        transaction: Any = None,
    ) -> None: ...
    def checkCurrentSerialInTransaction(
        self, oid: bytes, serial: bytes, transaction: Any = None
    ) -> None: ...

@final
class TransactionIterator:
    """Yields (tid, status, user, description, extension, position, end, records)."""

    def __iter__(self) -> TransactionIterator: ...
    def __next__(
        self,
    ) -> tuple[Tid, Literal[" ", "p"], bytes, bytes, bytes, int, int, RecordIterator]: ...

@final
class RecordIterator:
    """Yields the records of a transaction."""

    def __iter__(self) -> RecordIterator: ...
    def __next__(self) -> DataRecord: ...
    def next_blob(self) -> DataRecord | None:
        """Return the next record that may be a blob's, None if there is none."""

@disjoint_base
class DataRecord:
    """One revision of one object, as an iteration meets it."""

    oid: Oid
    tid: Tid
    data: bytes | None
    """None: the object does not exist in this revision."""
    data_txn: Tid | None
    """The transaction that the data were taken over from (by an undo); None: its own."""
    pos: int
    """Where it begins in the data file."""
    prev: int
    """Where the object's previous record begins; 0: there is none."""
    version: str

    def __new__(
        cls,
        oid: Oid,
        tid: Tid,
        data: bytes | None,
        data_txn: Tid | None = None,
        pos: int = 0,
        prev: int = 0,
    ) -> Self: ...

# The object path (`crates/native/src/objects`).

def native_objects() -> bool:
    """Return whether the installed `persistent` is one that native connections work with."""

def references(data: bytes) -> list[Oid]:
    """Return the oids that a record refers to within its database, repeated ones too.

    Raises ValueError where the data are not a record, or not one of the usual kind.
    """

@disjoint_base
class ConnectionBase:
    """Loads a connection's objects: base of connections.

    Its subclass provides the hooks (`perdure.serialize.hooks.ConnectionHooks`).
    """

    _cache: Any
    _storage: Any
    _load_count: int
    opened: float | None

    def __new__(cls, *_args: Any, **_kwargs: Any) -> Self: ...
    def setstate(self, obj: Any) -> None:
        """Load the state of the ghost *obj* (called by `persistent` when it is needed).

        Raises ConnectionStateError when the connection is closed, POSKeyError when the object's
        record is gone, StateLoadError when it can't be read.
        """

    def get(self, oid: bytes) -> Any:
        """Return the object at *oid*: from the cache, just added, or as a new ghost.

        Raises ConnectionStateError when the connection is closed, POSKeyError when there is no
        such object.
        """

    def register(self, obj: Any) -> None:
        """Note that *obj* is about to change (called by `persistent`).

        Raises ValueError where it has no oid.
        """

    def _mark_stored(self, objects: list[Any], tid: Tid) -> None:
        """Note that the states of *objects* are what the transaction *tid* wrote."""

    def _advance(self, view: StorageView, at: bytes | None = None) -> list[Oid]:
        """Move *view* as `advance` does; return the oids but for objects known to be ghosts."""

    def _loaded_among(self, oids: list[Oid]) -> list[Oid]:
        """Return those of *oids* whose objects may have a state in the cache.

        The others are ghosts there, if they are there at all.
        """

    def _tidy_up(self) -> None:
        """Have what was learnt of objects that have left the cache take no more memory."""

    def __getitem__(self, key: bytes, /) -> Any: ...

@final
class OidSet:
    """A set of oids that takes little memory where they follow one another."""

    def __new__(cls) -> Self: ...
    def add(self, oid: bytes) -> None:
        """Add an oid."""

    def __contains__(self, oid: object, /) -> bool: ...
    def __len__(self) -> int: ...

@final
class Intake:
    """Where the objects go that a commit stores: a draft, and what the commit notes.

    *done* gets the oids of all; *stored* and *objects* those (and the objects) that were stored.
    """

    def __new__(
        cls,
        connection: Any,
        draft: Draft,
        done: OidSet,
        stored: list[Oid],
        objects: list[Any],
    ) -> Self: ...

@disjoint_base
class ObjectWriter:
    """Makes records of a connection's objects.

    New objects that are met on the way are adopted by the connection and queued: `take_new()`
    returns them, so that they can be stored next. Iterating takes them, too, the last met first.
    """

    def __new__(cls, connection: Any) -> Self: ...
    def serialize(self, obj: Any) -> bytes:
        """Return the record of *obj*.

        Raises UnpicklableError, which leads to the attribute, where something in the object's
        state can't be pickled, and InvalidObjectReference where it refers to an object that this
        database can't refer to.
        """

    def take_in(self, waiting: list[Any], intake: Intake) -> tuple[Oid, Tid, bytes, Any] | None:
        """Take new objects from the end of *waiting* into a transaction, and what they reach.

        Stops at one that is not of the usual kind, and after some. Returns oid, serial, data and
        object of a record that needs a look before it is stored, if it has come to one. Raises
        what `serialize` does.
        """

    def take_over(
        self, registered: list[Any], number: int, waiting: list[Any], intake: Intake
    ) -> tuple[int, tuple[Oid, Tid, bytes, Any] | None]:
        """Take the changed objects from *number* on in *registered* into a transaction.

        Returns the number of the first that was not taken, and a record that needs a look as
        `take_in` does. Stops, besides, at an object that is not of the usual kind, after some,
        and when new objects were met, which are then in *waiting*. Raises what `serialize` does.
        """

    def put(self, obj: Any) -> None:
        """Queue *obj* as if it had been met."""

    def take_new(self) -> list[Any]:
        """Return the new objects met since the last call, in the order they were met."""

    def require_targets(self, view: Any) -> None:
        """Have the vote of *view*'s transaction look for what the records refer to.

        That is all that any writer of the connection has met since the last call; forgotten
        where *view* is none of perdure's own.
        """

    def __iter__(self) -> Self: ...
    def __next__(self) -> Any: ...

# Records as bytes (`crates/native/src/records.rs`).

def all_references(
    data: bytes,
) -> list[tuple[Literal["same", "weak", "other"], Oid, str | None]]:
    """Return all references of a record, in order: kind, oid, and the other database's name.

    Raises ValueError where the data are not a record, or not one of the usual kind.
    """

def class_name(data: bytes) -> tuple[str, str] | None:
    """Return module and name of a record's class; None where it names none.

    Raises ValueError where the data do not begin with a whole pickle.
    """

def verify_memo(data: bytes, *, only_first: bool = False) -> None:
    """Raise ValueError where a pickle, or the first one, numbers a value beyond its own length.

    No pickler does, and the standard unpickler keeps room for all numbers up to that one: up to
    64 GiB for six bytes of a record.
    """

def replace_references(data: bytes, replacement: Callable[[Oid], bytes]) -> bytes:
    """Return the record with each oid that it refers to within its database replaced.

    References to other databases stay as they are. Raises ValueError where the data are not
    a record, or not one of the usual kind, and whatever *replacement* raises.
    """
