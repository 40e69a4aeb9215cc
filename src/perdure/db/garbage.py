"""Garbage collection over all members of a collection.

An object is reachable if a chain of references, which may lead through any member,
begins at the root object of any member.  What is reachable at the pack time is marked
first, natively and on all cores; then everything that was written since, whoever wrote
it, counts as reachable with all that it refers to.  The rest is deleted in joint
transactions, each of which looks once more, under the commit locks of all members, at
what was written until then.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import transaction

from perdure import _native
from perdure.db.undo import TransactionalUndo
from perdure.errors import ConflictError, PackError, ReadOnlyError, Unsupported
from perdure.ids import Tid
from perdure.storage._layers import decoder_of
from perdure.storage.view import EngineFace
from perdure.utils import p64, u64

__all__ = ["GarbageReport", "collect_garbage"]

_SECONDS_PER_DAY = 86_400
_BATCH_OBJECTS_MAX = 10_000
_ATTEMPTS_MAX = 10

Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class GarbageReport:
    """What a garbage collection found, and whether it deleted it."""

    garbage: Mapping[str, Mapping[str, int]]
    """How many unreachable objects of each class, by member."""
    reachable: Mapping[str, int]
    """How many objects were marked as reachable, by member."""
    dry_run: bool
    """Whether nothing was deleted."""
    seconds: float = field(compare=False)
    """How long it took."""

    @property
    def total(self) -> int:
        """The number of unreachable objects."""
        return sum(sum(classes.values()) for classes in self.garbage.values())

    def __str__(self) -> str:
        done = "would be deleted" if self.dry_run else "deleted"
        lines = [f"{self.total} unreachable objects {done}"]
        for name, classes in self.garbage.items():
            lines += [f"  {name}: {count} {cls}" for cls, count in sorted(classes.items())]
        return "\n".join(lines)


class _Revived(Exception):  # noqa: N818 - no error: what was garbage isn't
    """Something was written that refers to what is about to be deleted."""


def collect_garbage(
    members: Mapping[str, Any], days: float, *, dry_run: bool, progress: Progress | None = None
) -> GarbageReport:
    """Delete what can't be reached; see `Collection.gc`."""
    started = time.perf_counter()
    _require_own(members)
    if days < 0:
        raise ValueError(f"days has to be 0 or more, not {days}")
    before = _moments(members, days)
    collector = _native.Collector(
        [
            ((name, member._mvcc_storage.engine._native, decoder_of(member.storage)), before[name])
            for name, member in members.items()
        ],
        progress,
    )
    total = len(collector)
    for start in range(0, total, _BATCH_OBJECTS_MAX):
        stop = min(start + _BATCH_OBJECTS_MAX, total)
        if not dry_run:
            _delete(members, collector, start, stop)
            if progress is not None:
                progress("delete", stop, total)
        collector.count(start, stop)
    return GarbageReport(
        garbage=_by_member(members, collector),
        reachable=dict(zip(members, collector.reachable(), strict=True)),
        dry_run=dry_run,
        seconds=time.perf_counter() - started,
    )


def _by_member(
    members: Mapping[str, Any], collector: _native.Collector
) -> Mapping[str, Mapping[str, int]]:
    names, counts = list(members), collector.counts()
    return {
        name: {cls or "unknown": count for number, cls, count in counts if names[number] == name}
        for name in names
    }


def _require_own(members: Mapping[str, Any]) -> None:
    for name, database in members.items():
        database._require_open()
        if not isinstance(database._mvcc_storage, EngineFace):
            raise Unsupported(
                f"garbage can't be collected: the storage of {name!r} is not one of perdure's own"
            )
        if database.storage.isReadOnly():
            raise ReadOnlyError(f"garbage can't be collected: {name!r} is read-only")


def _moments(members: Mapping[str, Any], days: float) -> dict[str, Tid]:
    """Return, for each member, the transaction before which its roots are followed."""
    newest = next(iter(members.values()))._shared.snapshots() or {
        name: member.lastTransaction() for name, member in members.items()
    }
    cutoff = u64(_native.tid_of_time(time.time() - days * _SECONDS_PER_DAY))
    return {
        name: Tid(p64(min(cutoff, u64(tid) + 1) if days else u64(tid) + 1))
        for name, tid in newest.items()
    }


class _Deletion(TransactionalUndo):
    """Deletes a batch's objects of one member in a transaction, and takes the member's lock.

    It does the latter where there is nothing to delete, too: nobody may come to refer to
    what others delete.
    """

    def __init__(
        self, database: Any, number: int, collector: _native.Collector, start: int, stop: int
    ) -> None:
        super().__init__(database, ())
        self._number = number
        self._collector = collector
        self._start, self._stop = start, stop

    def commit(self, transaction: Any) -> None:
        """Delete them; the vote fails for those that were changed meanwhile."""
        draft = self._view.whole_draft(self._meta)
        self._collector.stage(self._start, self._stop, self._number, draft)


class _LastLook:
    """Takes part in a transaction after all deletions: all members' locks are held then."""

    def __init__(self, collector: _native.Collector, start: int, stop: int) -> None:
        self._collector = collector
        self._start, self._stop = start, stop
        self._wanted = collector.still_garbage(start, stop)

    def sortKey(self) -> str:
        """Return a place after all storages."""
        return "\U0010ffff"

    def tpc_vote(self, transaction: Any) -> None:
        """Raise _Revived if something is needed after all."""
        self._collector.catch_up(True)
        if self._collector.still_garbage(self._start, self._stop) < self._wanted:
            raise _Revived

    def _nothing(self, transaction: Any) -> None:
        """Do nothing: this only looks."""

    abort = tpc_begin = commit = tpc_finish = tpc_abort = _nothing


def _delete(
    members: Mapping[str, Any], collector: _native.Collector, start: int, stop: int
) -> None:
    """Delete in one transaction what is garbage from *start* to *stop*."""
    for _ in range(_ATTEMPTS_MAX):
        if not collector.still_garbage(start, stop):
            return
        manager = transaction.TransactionManager()
        current = manager.begin()
        current.note("collect garbage")
        for number, database in enumerate(members.values()):
            current.join(_Deletion(database, number, collector, start, stop))
        current.join(_LastLook(collector, start, stop))
        try:
            manager.commit()
        except (_Revived, ConflictError):
            manager.abort()
            collector.catch_up(False)
        else:
            return
    raise PackError("garbage was changed again and again while it was to be deleted")
