"""What a database's storage knows of the past: history, undo, pack."""

import time
from collections.abc import Callable, Container, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any

import transaction

from perdure.errors import Unsupported
from perdure.ids import Oid, Tid
from perdure.storage._planning import IPlansUndo

if TYPE_CHECKING:
    from perdure.db.packing import Progress
    from perdure.storage.undo import UndoStep

__all__ = ["History"]

_SECONDS_PER_DAY = 86_400
_TEXTS = ("user_name", "description")


class History:
    """The part of a database that asks its storage about transactions."""

    database_name: str
    databases: MutableMapping[str, Any]
    storage: Any
    _mvcc_storage: Any
    references: Callable[..., list[Oid]]
    """Finds the oids that a record refers to; given to the storage for packing."""

    def lastTransaction(self) -> Tid:
        """Return the tid of the newest transaction; 8 zero bytes if there is none."""
        tid: Tid = self._mvcc_storage.lastTransaction()
        return tid

    def objectCount(self) -> int:
        """Return the approximate number of objects."""
        return len(self.storage)

    def getName(self) -> str:
        """Return the storage's name."""
        return str(self.storage.getName())

    def getSize(self) -> int:
        """Return the storage's approximate size in bytes."""
        return int(self.storage.getSize())

    def new_oid(self) -> Oid:
        """Return an oid that nothing has yet."""
        oid: Oid = self.storage.new_oid()
        return oid

    def history(self, oid: Oid, size: int = 1) -> Sequence[dict[str, Any]]:
        """Return descriptions of the newest *size* revisions of an object."""
        return _with_text(self._mvcc_storage.history(oid, size))

    def supportsUndo(self) -> bool:
        """Tell whether transactions can be undone."""
        return bool(self._mvcc_storage.supportsUndo())

    def undoLog(self, *args: Any, **kw: Any) -> Sequence[dict[str, Any]]:
        """Return descriptions of transactions that can be undone, newest first.

        See `IStorageUndoable.undoLog`; empty where nothing can be undone.
        """
        if not self.supportsUndo():
            return ()
        return _with_text(self._mvcc_storage.undoLog(*args, **kw))

    def undoInfo(self, *args: Any, **kw: Any) -> Sequence[dict[str, Any]]:
        """Return descriptions of transactions that can be undone, newest first.

        See `IStorageUndoable.undoInfo`; empty where nothing can be undone.
        """
        if not self.supportsUndo():
            return ()
        return _with_text(self._mvcc_storage.undoInfo(*args, **kw))

    def undo(
        self,
        id: bytes,  # noqa: A002 - ZODB's name
        txn: Any = None,
        *,
        oids: Container[Oid] | None = None,
        dry_run: bool = False,
    ) -> "list[UndoStep] | None":
        """Undo a transaction when *txn* (default: the thread's) commits.

        *id* is an `id` that `undoLog` or `undoInfo` gave, not a tid.  The commit
        raises UndoError if it can't be undone: where later changes are in the way, or where
        references would lead nowhere, to what was deleted since or what would be taken away
        (not with `check_references=False`).

        With *oids*, only what it did to these objects is undone.  With *dry_run*,
        nothing is: what would change, and what is in the way, is returned, object by
        object.  Both need a storage, and layers, of perdure's own (else Unsupported is raised).
        """
        self._require_undo()
        if (dry_run or oids is not None) and not IPlansUndo.providedBy(self.storage):
            raise Unsupported(
                f"the storage of {self.database_name!r} can only undo whole transactions"
            )
        if dry_run:
            # Late, here and below: most programs undo and pack nothing, and need no memory for it.
            from perdure.db.undo import TransactionalUndo, planned_undo

            (steps,) = planned_undo([TransactionalUndo(self, [id], oids)])
            return steps
        self._join_undo([id], txn, oids)
        return None

    def undoMultiple(self, ids: Any, txn: Any = None) -> None:
        """Undo several transactions when *txn* (default: the thread's) commits."""
        self._require_undo()
        self._join_undo([ids] if isinstance(ids, (str, bytes)) else ids, txn, None)

    def _require_undo(self) -> None:
        if not self.supportsUndo():
            raise NotImplementedError(f"the storage of {self.database_name!r} can't undo")

    def _join_undo(self, ids: Any, txn: Any, oids: Container[Oid] | None) -> None:
        from perdure.db.undo import TransactionalUndo

        current = transaction.get() if txn is None else txn
        TransactionalUndo(self, ids, oids).join(current)

    def pack(
        self,
        t: float | None = None,
        days: float = 0,
        *,
        gc: bool | None = None,
        progress: "Progress | None" = None,
    ) -> None:
        """Drop revisions that were no longer current at a time, and garbage.

        The time is *days* days before *t* (seconds since the epoch, default: now).
        With *gc* false, no object is dropped; None leaves that to the storage.
        *progress(phase, done, total)* is called now and then ("scan", "mark",
        "copy"); what it raises stops the pack, with the database as it was.

        In a collection, what another member refers to is no garbage: all of them are
        searched.  MissingMemberError is raised if that isn't possible, because one is
        closed or read-only, or a record refers to a database that is no member.  Where
        a member's storage is not perdure's own, layers aside, no object is dropped; one that can't be
        told so raises Unsupported.
        """
        from perdure.db.packing import pack_database

        when = time.time() if t is None else t
        until = when - days * _SECONDS_PER_DAY
        pack_database(self, until, gc=gc, progress=progress)


def _with_text(infos: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """Decode what storages give as bytes in descriptions of transactions."""
    for info in infos:
        for key in _TEXTS:
            text = info.get(key)
            if isinstance(text, bytes):
                info[key] = text.decode()
    return infos
