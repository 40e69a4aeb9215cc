"""Copying between storages."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any

from zope.interface import alsoProvides

from perdure.blob import copyTransactionsFromTo
from perdure.errors import StorageError, Unsupported
from perdure.ids import NO_TID, Tid, tid_repr
from perdure.interfaces import IBlobStorage, IStorageIteration, IStorageRestoreable
from perdure.storage.file import FileStorage
from perdure.timestamp import TimeStamp

__all__ = ["Copied", "copy"]

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class Copied:
    """What was copied."""

    transactions: int
    already_there: Tid
    """The last transaction that the target had before; zeros: it was empty."""
    last: Tid
    """The last transaction that it has now."""
    damaged_blobs: tuple[str, ...] = ()
    """What is wrong with files of blobs: one that is missing isn't in the target either, and one
    that isn't as long as what was stored was copied as it is."""


def copy(
    source: Any, target: Any, progress: Progress | None = None, *, until: Tid | None = None
) -> Copied:
    """Copy all transactions of *source* into *target*, with their ids and blobs.

    Both are storages, databases or paths of data files; the file at a target's path is made where
    there is none. Where the target holds the first transactions of the source, as an earlier copy
    does, only those that follow are copied.

    Args:
        source: what can be iterated over.
        target: what can take over transactions as they are.
        progress: called after each transaction with how much of the time between the first and
            the last to copy is done, in thousandths, and 1000; what it raises stops the copy
            after a whole transaction.
        until: the last transaction to copy.

    Raises:
        StorageError: the target holds something else.
        Unsupported: one of them can't do this.
    """
    with ExitStack() as stack:
        origin = _storage_of(source, stack, read_only=True)
        destination = _storage_of(target, stack, read_only=False)
        if not IStorageIteration.providedBy(origin):
            raise Unsupported(f"{origin!r} can't be iterated over, so it can't be copied")
        if not IStorageRestoreable.providedBy(destination):
            raise Unsupported(f"{destination!r} can't take over transactions of another storage")
        already = _common_prefix(origin, destination)
        rest = _Rest(origin, already, until, progress)
        damaged: list[str] = []
        copyTransactionsFromTo(rest, destination, lambda error: damaged.append(str(error)))
        last = Tid(destination.lastTransaction())
        return Copied(rest.count, already, last, tuple(damaged))


def _storage_of(given: Any, stack: ExitStack, *, read_only: bool) -> Any:
    if isinstance(given, (str, os.PathLike)):
        storage = FileStorage(given, read_only=read_only)
        stack.callback(storage.close)
        return storage
    return getattr(given, "storage", given)


def _contents(transaction: Any) -> list[tuple[bytes, bytes | None]]:
    return sorted((record.oid, record.data) for record in transaction)


def _first(storage: Any, start: Tid | None = None) -> tuple[Tid, Any] | None:
    """Return tid and contents of the first transaction (from *start* on); None: there is none."""
    transactions = storage.iterator(start)
    try:
        for transaction in transactions:
            return transaction.tid, _contents(transaction)
    finally:
        # Iterators over files of stock ZODB keep the file open.
        close = getattr(transactions, "close", None)
        if close is not None:
            close()
    return None


def _common_prefix(source: Any, target: Any) -> Tid:
    """Return the target's last transaction, which the source has, too; zeros: it has none."""
    last = Tid(target.lastTransaction() or NO_TID)
    if last == NO_TID:
        return last
    theirs = _first(source, last)
    if theirs is None or theirs[0] != last:
        raise StorageError(
            f"the target's last transaction {tid_repr(last)} isn't in the source: it holds "
            "something else, or was changed since it was copied; copy into a new one"
        )
    if theirs != _first(target, last):
        raise StorageError(
            f"transaction {tid_repr(last)} isn't the same in source and target; copy into a new one"
        )
    if _first(source) != _first(target):
        raise StorageError("source and target begin with different transactions")
    return last


class _Rest:
    """A storage from a transaction on, as a source to copy from."""

    def __init__(
        self, storage: Any, after: Tid, until: Tid | None, progress: Progress | None
    ) -> None:
        self._storage = storage
        self._after = after
        self._until = until
        self._progress = progress
        self.count = 0
        if IBlobStorage.providedBy(storage):
            alsoProvides(self, IBlobStorage)

    def loadBlob(self, oid: bytes, serial: bytes) -> str:
        """Return the path of a blob's data."""
        path: str = self._storage.loadBlob(oid, serial)
        return path

    def iterator(self) -> Iterator[Any]:
        """Walk over the transactions."""
        if self._until is not None and self._until <= self._after:
            return
        if self._after == NO_TID:
            transactions = iter(self._storage.iterator(None, self._until))
        else:
            transactions = islice(self._storage.iterator(self._after, self._until), 1, None)
        first: float | None = None
        end = _seconds(self._until or self._storage.lastTransaction())
        for transaction in transactions:
            yield transaction
            self.count += 1
            if self._progress is not None:
                now = _seconds(transaction.tid)
                first = now if first is None else first
                done = (now - first) / (end - first) if end > first else 1.0
                self._progress(int(1000 * done), 1000)


def _seconds(tid: bytes) -> float:
    return float(TimeStamp(tid).timeTime())
