"""What the file storage and the storage in memory have in common: the engine."""

import contextlib
import threading
import time
from collections.abc import Callable, Container, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from zope.interface import implementer

from perdure import _native
from perdure.conflict import ConflictResolvingStorage
from perdure.errors import (
    ConflictError,
    POSKeyError,
    ReadOnlyError,
    StorageTransactionError,
)
from perdure.ids import NO_TID, Oid, Tid
from perdure.interfaces import (
    IExternalGC,
    IStorage,
    IStorageCurrentRecordIteration,
    IStorageIteration,
    IStorageRestoreable,
    IStorageUndoable,
)
from perdure.storage._blobs import KeepsBlobs
from perdure.storage._extension import extension_bytes_of, extension_of
from perdure.storage._planning import IPlansUndo
from perdure.storage._running import Judge, Running
from perdure.storage._tids import ITakesTids

if TYPE_CHECKING:
    from perdure.storage.packing import PackResult, SearchedMember
    from perdure.storage.records import StorageIterator
    from perdure.storage.undo import UndoStep

__all__ = ["EngineStorage"]

_FIRST: Final = Oid(b"\0" * 8)
_LATER_SECONDS: Final = 1e-3
"""More than a tid loses where it becomes a time, in any year."""
_REPLACEABLE: Final = (
    "load",
    "loadBefore",
    "store",
    "checkCurrentSerialInTransaction",
    "lastTransaction",
    "new_oid",
    "tpc_begin",
    "tpc_vote",
    "tpc_finish",
    "tpc_abort",
    "tryToResolveConflict",
)
"""What a connection's native view does itself, as long as nobody replaced it."""


@implementer(
    IStorage,
    IStorageIteration,
    IStorageRestoreable,
    IStorageCurrentRecordIteration,
    IExternalGC,
    IStorageUndoable,
    IPlansUndo,
    ITakesTids,
)
class EngineStorage(KeepsBlobs, ConflictResolvingStorage):
    """A storage that keeps its records with perdure's engine.

    Any number of transactions may be begun; they take turns from their vote
    to their finish.  Reading never waits for them.
    """

    _pack_gc = True
    pack_keep_old = False

    def __init__(self, native: _native.Storage, name: str) -> None:
        self.__name__ = name
        self._native = native
        self._running: dict[int, Running] = {}
        # The earliest time (seconds since the epoch) that a tid may be chosen from.
        self._earliest = 0.0
        # For layers written for ZODB, which share it; nothing here takes it.
        self._lock = threading.RLock()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.__name__!r}>"

    # Facts.

    def getName(self) -> str:
        """Return the storage's name."""
        return self.__name__

    def sortKey(self) -> str:
        """Return the storage's place among the resources of a transaction."""
        return self.__name__

    def getSize(self) -> int:
        """Return the length of the data in bytes."""
        return self._native.size_bytes()

    def __len__(self) -> int:
        return self._native.object_count()

    def __bool__(self) -> bool:
        return True

    def isReadOnly(self) -> bool:
        """Tell whether nothing can be committed."""
        return self._native.read_only

    def lastTransaction(self) -> Tid:
        """Return the newest transaction that others see; zeros if there is none."""
        return self._native.last_transaction()

    # Undoing.

    def supportsUndo(self) -> bool:
        """Tell whether transactions can be undone."""
        return True

    def undoLog(
        self,
        first: int = 0,
        last: int = -20,
        filter: Callable[[dict[str, Any]], object] | None = None,  # noqa: A002 - ZODB's name
    ) -> list[dict[str, Any]]:
        """Describe transactions that can be undone, newest first.

        The descriptions *first* to *last* of those that *filter* lets through; a
        negative *last* is the number wanted.  Each has `id` (for `undo`), `time`
        (seconds since the epoch), `user_name`, `description` (bytes), `size` (bytes)
        and what the transaction was annotated with.
        """
        # Late, here and below: most programs undo nothing, and need no memory for it.
        from perdure.storage.undo import UndoLog

        return UndoLog(self._native).slice(first, last, filter)

    def undoInfo(
        self, first: int = 0, last: int = -20, specification: Mapping[str, Any] | None = None
    ) -> list[dict[str, Any]]:
        """As `undoLog`, of the transactions whose description has all of *specification*."""
        from perdure.storage.undo import UndoLog

        return UndoLog(self._native).info(first, last, specification)

    def undo(
        self, transaction_id: bytes, transaction: Any, oids: Container[Oid] | None = None
    ) -> tuple[Tid | None, list[Oid]]:
        """Undo a transaction as part of *transaction*; return (None, changed oids).

        The tid is chosen at the vote.  UndoError is raised where later changes are
        in the way that can't be merged.
        """
        draft = self._running_for(transaction).draft
        return None, self._undo_draft(draft, transaction_id, oids)

    def undo_plan(
        self, transaction_id: bytes, oids: Container[Oid] | None = None
    ) -> "list[UndoStep]":
        """Say what undoing a transaction would do, object by object; nothing is changed.

        UndoError is raised for an unknown or packed transaction.
        """
        from perdure.storage.undo import plan_undo

        draft = self._native.begin(b"", b"", b"")
        return plan_undo(self._native, draft, self, transaction_id, oids)

    def _undo_draft(
        self,
        draft: _native.Draft,
        transaction_id: bytes,
        chosen: Container[Oid] | None = None,
    ) -> list[Oid]:
        from perdure.storage.undo import tid_of_undo_id, undo_into

        oids = undo_into(self._native, draft, self, transaction_id, chosen)
        if self.blobs is not None:
            tid = tid_of_undo_id(transaction_id)
            for oid in oids:
                with contextlib.suppress(POSKeyError):  # gone before
                    before = self.loadBefore(oid, tid)
                    if before is not None:
                        self.blobs.stage_again(draft, oid, before[1])
        return oids

    # Reading.

    def load(self, oid: Oid, version: str = "") -> tuple[bytes, Tid]:
        """Return an object's current data and serial, or raise POSKeyError."""
        return self._native.load(oid)

    def loadBefore(self, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        """Return data, serial and next serial of the last revision before *tid*.

        The next serial is None for the current revision.  None is returned where
        the object did not exist yet; POSKeyError is raised where it was gone by then,
        or never existed.
        """
        return self._native.load_before(oid, tid)

    def loadSerial(self, oid: Oid, serial: Tid) -> bytes:
        """Return the data of one revision, or raise POSKeyError."""
        return self._native.load_serial(oid, serial)

    def getTid(self, oid: Oid) -> Tid:
        """Return the serial of an object's current revision, or raise POSKeyError."""
        return self._native.current_tid(oid)

    def lastTid(self, oid: Oid) -> Tid | None:
        """Return the serial of an object's current revision, None if it doesn't exist."""
        try:
            return self.getTid(oid)
        except POSKeyError:
            return None

    def history(
        self,
        oid: Oid,
        size: int = 1,
        filter: Callable[[dict[str, Any]], object] | None = None,  # noqa: A002 - ZODB's name
    ) -> list[dict[str, Any]]:
        """Describe an object's last *size* revisions, newest first.

        Each description has `time` (seconds since the epoch), `tid`, `serial`,
        `user_name` and `description` (bytes), `size` (bytes), and whatever the
        transaction was annotated with.  POSKeyError is raised for an unknown object.
        """
        if filter is None:
            return self._native.history(oid, size, extension_of)
        every = self._native.history(oid, 1 << 62, extension_of)
        return list(islice((entry for entry in every if filter(entry)), max(0, size)))

    def iterator(self, start: Tid | None = None, stop: Tid | None = None) -> "StorageIterator":
        """Walk over the transactions from *start* to *stop*, both included."""
        from perdure.storage.records import StorageIterator  # late: few programs iterate

        return StorageIterator(self._native, start, stop)

    def record_iternext(self, next: Oid | None = None) -> tuple[Oid, Tid, bytes, Oid | None]:  # noqa: A002 - ZODB's name
        """Return oid, serial and data of the object at or after *next*, and what is next.

        Start with None; what is next is None for the last object.  ValueError is
        raised where there is no object.
        """
        found = self._native.next_record(_FIRST if next is None else next)
        if found is None:
            raise ValueError("the storage has no object there")
        return found

    def lastInvalidations(self, count: int) -> list[tuple[Tid, list[Oid]]]:
        """Return the tids of the last *count* transactions and what they changed."""
        return self._native.last_changes(count)

    # Writing.

    def new_oid(self) -> Oid:
        """Return an oid that nothing has yet."""
        return self._native.new_oid()

    def set_max_oid(self, possible_new_max_oid: Oid) -> None:
        """Give out only greater oids from now on."""
        self._native.raise_max_oid(possible_new_max_oid)

    def tpc_begin(self, transaction: Any, tid: Tid | None = None, status: str = " ") -> None:
        """Begin to commit; with *tid*, to copy a transaction committed elsewhere.

        No lock is taken: that is for the vote.
        """
        if self.isReadOnly():
            raise ReadOnlyError(f"{self.__name__} is read-only")
        if id(transaction) in self._running:
            raise StorageTransactionError("Duplicate tpc_begin calls for same transaction")
        draft = self._begin_draft(transaction, tid, status)
        self._running[id(transaction)] = Running(transaction, draft)

    def commit_after(self, tid: Tid) -> None:
        """Give the transactions from now on later tids than *tid* (`ITakesTids`)."""
        if tid != NO_TID:
            self._earliest = max(self._earliest, _native.time_of_tid(tid) + _LATER_SECONDS)

    def _begin_draft(self, transaction: Any, tid: Tid | None, status: str) -> _native.Draft:
        user, description = transaction.user, transaction.description
        return self._native.begin(
            user.encode() if isinstance(user, str) else user,
            description.encode() if isinstance(description, str) else description,
            extension_bytes_of(transaction),
            tid,
            status,
        )

    def _running_for(self, transaction: Any) -> Running:
        if self.isReadOnly():
            raise ReadOnlyError(f"{self.__name__} is read-only")
        try:
            return self._running[id(transaction)]
        except KeyError:
            raise StorageTransactionError(self, transaction) from None

    def tpc_transaction(self) -> Any:
        """Return the transaction that is being committed; None if there is none.

        Of several, the one that has voted, else the last that was begun.
        """
        running = list(self._running.values())
        for one in running:
            if one.voted:
                return one.transaction
        return running[-1].transaction if running else None

    @property
    def _transaction(self) -> Any:
        """What `tpc_transaction` returns, under the name that ZODB's storages have."""
        return self.tpc_transaction()

    def store(self, oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any) -> None:
        """Add an object's new data, made from the revision *serial* (zeros: it is new).

        Conflicts are found at the vote.
        """
        self._running_for(transaction).draft.store(oid, serial or NO_TID, data)

    def restore(
        self,
        oid: Oid,
        serial: Tid,
        data: bytes | None,
        version: str,
        prev_txn: Tid | None,
        transaction: Any,
    ) -> None:
        """Add a copy of a record committed elsewhere, without checks.

        *data* None: the object does not exist in this revision.  *prev_txn* names
        the transaction that may have the same data here already.
        """
        self._running_for(transaction).draft.restore(oid, data, prev_txn)

    def deleteObject(self, oid: Oid, oldserial: Tid, transaction: Any) -> None:
        """Add a revision in which the object doesn't exist; *oldserial* has to be current.

        POSKeyError is raised for an unknown object.
        """
        draft = self._running_for(transaction).draft
        self._native.current_tid(oid)
        draft.delete(oid, oldserial)

    def checkCurrentSerialInTransaction(self, oid: Oid, serial: Tid, transaction: Any) -> None:
        """Have the vote fail with ReadConflictError unless *serial* is current."""
        self._running_for(transaction).draft.check_current(oid, serial)

    def tpc_vote(self, transaction: Any) -> list[Oid]:
        """Wait for the turn, look for conflicts, write the transaction.

        Returns the oids whose conflicts were resolved.  Raises ConflictError where
        one can't be, ReadConflictError where an object that was to stay is changed.
        """
        running = self._running_for(transaction)
        if running.finish is None:
            running.resolved = self._lock_draft(running.draft, running.judge)
            now = self._now()
            tid = running.draft.least_tid(now)
            running.tie_to(tid)
            running.draft.write(now, tid)
            self._voted(running, tid)
        return running.resolved

    def _voted(self, running: Running, tid: Tid) -> None:
        """Note that a transaction was written as *tid*."""
        running.tid, running.voted = tid, True
        if self.blobs is not None:
            self.blobs.place(running.draft, tid)

    def voted_tid(self, transaction: Any) -> Tid:
        """Return the tid of a transaction between vote and finish."""
        tid = self._running_for(transaction).tid
        if tid is None:
            raise StorageTransactionError("the transaction has not voted", transaction)
        return tid

    def may_be_committed(self, transaction: Any) -> bool:
        """Tell whether a running transaction may be permanent, though its finish failed."""
        running = self._running.get(id(transaction))
        return running is not None and running.draft.may_be_committed()

    def _vote_draft(
        self,
        draft: _native.Draft,
        judge: Judge | None = None,
        vote: Callable[[float], Tid | None] | None = None,
    ) -> tuple[list[Oid], Tid]:
        """Vote, by *vote* where nothing is in the way; return the resolved oids and the tid."""
        resolved: list[Oid] = []
        tid = None
        if judge is None or judge.is_content():
            try:
                tid = (vote or draft.vote)(self._now())
                if tid is None:
                    resolved = self._resolve(draft, draft.conflicts())
            except ConflictError:
                self._make_way(draft)
                raise
            if tid is None and judge is not None:
                judge(draft)
        else:
            resolved = self._lock_draft(draft, judge)
        if tid is None:
            tid = draft.write(self._now())
        if self.blobs is not None:
            self.blobs.place(draft, tid)
        return resolved, tid

    def _now(self) -> float:
        return max(time.time(), self._earliest)

    def _lock_draft(self, draft: _native.Draft, judge: Judge | None = None) -> list[Oid]:
        """Wait for the turn and resolve conflicts; return the oids of those.

        *judge* has the last word, under the commit lock.
        """
        try:
            resolved = self._resolve(draft, draft.lock())
        except ConflictError:
            self._make_way(draft)
            raise
        if judge is not None:
            judge(draft)
        return resolved

    def _make_way(self, draft: _native.Draft) -> None:
        """Have who tries again after a conflict see what was in the way.

        That may be finished, but not durable yet: the next vote would meet it again.
        """
        draft.abort()
        self._native.catch_up()

    def _resolve(
        self, draft: _native.Draft, conflicts: list[tuple[int, Oid, Tid, Tid]]
    ) -> list[Oid]:
        resolved: list[Oid] = []
        for record, oid, committed, seen in conflicts:
            data = self.tryToResolveConflict(
                oid,
                committed,
                seen,
                draft.data(record) or b"",
                # Not loaded by its serial: others may not see that revision yet.
                draft.committed_data(record) or b"",
            )
            draft.resolve(record, data)
            resolved.append(oid)
        return resolved

    def tpc_finish(self, transaction: Any, f: Callable[[Tid], object] | None = None) -> Tid:
        """Make it permanent; return the tid when it is durable and others see it.

        *f* is called with the tid when it is durable, before others see it.
        """
        running = self._running_for(transaction)
        if not running.voted:
            raise StorageTransactionError("tpc_finish comes after tpc_vote")
        del self._running[id(transaction)]
        try:
            tid = self._finish(running, f)
        except BaseException:
            if self.blobs is not None:
                self.blobs.given_up(running.draft, running.draft.may_be_committed())
            raise
        if self.blobs is not None:
            self.blobs.finished(running.draft)
        return tid

    def _finish(self, running: Running, func: Callable[[Tid], object] | None) -> Tid:
        if running.finish is None:
            return running.draft.finish(func)
        tid = running.finish()
        running.draft.abort()  # frees the lock where nothing was written
        if func is not None:
            func(tid)
        return tid

    def tpc_abort(self, transaction: Any) -> None:
        """Forget what was stored; ignored where the transaction is not this storage's."""
        running = self._running.pop(id(transaction), None)
        if running is not None:
            running.draft.abort()
            if self.blobs is not None:
                self.blobs.given_up(running.draft, running.draft.may_be_committed())

    def copyTransactionsFrom(self, other: Any, verbose: int = 0) -> None:
        """Copy all transactions of another storage into this one."""
        if self.blobs is not None:
            self._copy_with_blobs(other)
        else:
            from perdure.storage.base import copy  # late, as above

            copy(other, self)

    # Packing.

    def packs_itself(self) -> bool:
        """Tell whether `pack` is perdure's own, not a subclass's or a plugged-in packer's."""
        return "pack" not in vars(self) and type(self).pack is EngineStorage.pack

    @property
    def collects_garbage(self) -> bool:
        """Whether a pack drops unreachable objects unless told otherwise."""
        return self._pack_gc

    def pack(
        self,
        t: float,
        referencesf: Any = None,
        gc: bool | None = None,
        progress: Callable[[str, int, int], object] | None = None,
        members: "Mapping[str, EngineStorage | SearchedMember] | None" = None,
    ) -> "PackResult | None":
        """Drop what is not needed any more: revisions, and with *gc* unreachable objects.

        Commits go on meanwhile.  Killed at any point, the next open finds the
        database as it was or packed, never anything between.

        Args:
            t: revisions that were not current then are dropped (seconds since the epoch).
            referencesf: `referencesf(data, oids)` adds a record's references to a list;
                None, or perdure's or stock ZODB's own: records are searched natively.
            gc: drop objects that nothing reachable refers to; None: as the storage says.
            progress: called now and then with the phase ("scan", "mark", "copy"), and how
                much of how much is done; what it raises stops the pack.
            members: the databases of the collection that it belongs to, by name, itself
                included, in the order in which they are locked: what they lead to is no
                garbage.  A `SearchedMember` says how its records are decoded.  None: references from and to other databases don't count.

        Returns:
            What was gained; None where nothing was committed up to *t* since the last pack.

        Raises:
            PackError: another pack is running, a record can't be searched, or one of the
                *members* takes no more writes until it is reopened: what it refers to is unknown.
            MissingMemberError: (a PackError) a record refers to none of the *members*.
            RedundantPackWarning: (a PackError) it was packed to a later time already.
            ReadOnlyError: the storage is read-only.
        """
        if self.isReadOnly():
            raise ReadOnlyError(f"{self.__name__} is read-only and can't be packed")
        from perdure.storage.packing import PackResult, is_plain_referencesf  # late: few pack

        last = self.lastTransaction()
        result = self._native.pack(
            _native.tid_of_time(t),
            collect_garbage=self._pack_gc if gc is None else gc,
            keep_old=self.pack_keep_old,
            references=None if is_plain_referencesf(referencesf) else referencesf,
            progress=progress,
            members=[
                (name, one._native, None)
                if isinstance(one, EngineStorage)
                else (name, one.storage._native, one.decode)
                for name, one in (members or {}).items()
            ],
        )
        if self.blobs is not None:
            # Also where there is nothing to pack: a crash may have left files behind.
            keep_old = None if result is None else self.pack_keep_old
            self.blobs.remove_dropped(self, last, keep_old=keep_old, alone=True)
        return None if result is None else PackResult(*result)

    # The rest of a storage's life.

    def close(self) -> None:
        """Close the storage; transactions that are not finished are forgotten."""
        for running in list(self._running.values()):
            self.tpc_abort(running.transaction)
        self._native.close()

    def is_plain(self) -> bool:
        """Tell whether connections may go to the engine directly.

        Not where a subclass or somebody on the instance replaced a method on their way.
        """
        replaced = vars(self)
        return not any(
            name in replaced or getattr(type(self), name) is not getattr(EngineStorage, name)
            for name in _REPLACEABLE
        )

    @property
    def _oid(self) -> Oid:
        """The greatest oid given out, under the name that ZODB's storages have."""
        return self._native.max_oid

    @property
    def _ltid(self) -> Tid:
        return self.lastTransaction()

    def getExtensionMethods(self) -> dict[str, None]:
        """Return the names of methods that a server offers its clients beyond the usual."""
        return {}
