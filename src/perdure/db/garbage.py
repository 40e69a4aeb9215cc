"""Garbage collection over all members of a collection.

An object is reachable if a chain of references, which may lead through any member,
begins at the root object of any member.  What is reachable at the pack time is marked
first, member by member at one common snapshot; then everything that was written since,
whoever wrote it, counts as reachable with all that it refers to.  The rest is deleted in
joint transactions, each of which looks once more, under the commit locks, at what was
written until then.
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import transaction

from perdure import _native
from perdure.db.undo import TransactionalUndo
from perdure.errors import ConflictError, PackError, ReadOnlyError, Unsupported
from perdure.ids import ROOT_OID, Oid, Tid, oid_repr
from perdure.serialize.references import oid_of, references
from perdure.storage.view import EngineAdapter
from perdure.utils import p64, u64

__all__ = ["GarbageReport", "collect_garbage"]

_SECONDS_PER_DAY = 86_400
_BATCH_OBJECTS_MAX = 1_000
_ATTEMPTS_MAX = 10

Place = tuple[str, Oid]
"""An object: the name of its member, and its oid."""


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


def collect_garbage(members: Mapping[str, Any], days: float, *, dry_run: bool) -> GarbageReport:
    """Delete what can't be reached; see `Collection.gc`."""
    started = time.perf_counter()
    _require_own(members)
    marking = _Marking(members, days)
    marking.follow()
    marking.catch_up()
    garbage = marking.garbage()
    counts: dict[str, Counter[str]] = {name: Counter() for name in members}
    while garbage:
        batch, garbage = garbage[:_BATCH_OBJECTS_MAX], garbage[_BATCH_OBJECTS_MAX:]
        if not dry_run:
            batch = _delete(members, marking, batch)
        for name, _oid, _serial, cls in batch:
            counts[name][cls] += 1
    return GarbageReport(
        garbage={name: dict(classes) for name, classes in counts.items()},
        reachable={name: len(marked) for name, marked in marking.marked.items()},
        dry_run=dry_run,
        seconds=time.perf_counter() - started,
    )


def _require_own(members: Mapping[str, Any]) -> None:
    for name, database in members.items():
        database._require_open()
        if not isinstance(database._mvcc_storage, EngineAdapter):
            raise Unsupported(
                f"garbage can't be collected: the storage of {name!r} is not one of perdure's own"
            )
        if database.storage.isReadOnly():
            raise ReadOnlyError(f"garbage can't be collected: {name!r} is read-only")


_Garbage = tuple[str, Oid, Tid, str]
"""An object to delete: member, oid, serial, name of its class."""


class _Marking:
    """What is known to be reachable."""

    def __init__(self, members: Mapping[str, Any], days: float) -> None:
        self._members = members
        self.marked: dict[str, set[Oid]] = {name: set() for name in members}
        self._waiting: list[Place] = [(name, ROOT_OID) for name in members]
        cutoff = u64(_native.tid_of_time(time.time() - days * _SECONDS_PER_DAY))
        newest = next(iter(members.values()))._shared.snapshots() or {
            name: member.lastTransaction() for name, member in members.items()
        }
        self._before = {
            name: Tid(p64(min(cutoff, u64(tid) + 1) if days else u64(tid) + 1))
            for name, tid in newest.items()
        }
        """The state before these transactions is searched from the roots."""
        self._unread = dict(self._before)
        """From these transactions on, nothing was looked at yet."""

    def follow(self) -> None:
        """Mark all that can be reached from what waits, at the pack time."""
        waiting, marked = self._waiting, self.marked
        while waiting:
            name, oid = waiting.pop()
            if oid in marked[name]:
                continue
            marked[name].add(oid)
            native = self._members[name].storage._native
            try:
                found = native.load_before(oid, self._before[name])
            except KeyError:
                continue
            # What did not exist then is looked at as a part of what was written since.
            if found is not None:
                waiting.extend(self._links(name, oid, found[0]))

    def catch_up(self) -> None:
        """Mark what was written since the last time, and all that it refers to."""
        for name, database in self._members.items():
            for written in database.storage.iterator(self._unread[name]):
                for record in written:
                    if record.data is not None:
                        self._waiting.append((name, record.oid))
                        self._waiting.extend(self._links(name, record.oid, record.data))
                self._unread[name] = Tid(p64(u64(written.tid) + 1))
        self.follow()

    def garbage(self) -> list[_Garbage]:
        """Return what is not reachable."""
        found: list[_Garbage] = []
        for name, database in self._members.items():
            following: Oid | None = Oid(bytes(8))
            while following is not None:
                record = database.storage._native.next_record(following)
                if record is None:
                    break
                oid, serial, data, following = record
                if oid not in self.marked[name] and serial < self._before[name]:
                    found.append((name, oid, serial, _class_name(data)))
        return found

    def still_garbage(self, batch: list[_Garbage]) -> list[_Garbage]:
        """Return those of *batch* that nothing has come to refer to."""
        return [each for each in batch if each[1] not in self.marked[each[0]]]

    def _links(self, name: str, oid: Oid, data: bytes) -> Iterator[Place]:
        for other, target in _strong_references(data):
            if other is None:
                yield name, target
            elif other in self.marked:
                yield other, target
            else:
                raise PackError(
                    f"garbage can't be collected: {oid_repr(oid)} in {name!r} refers to database "
                    f"{other!r}, which isn't at hand, and may refer to what looks like garbage here"
                )


def _strong_references(data: bytes) -> Iterator[tuple[str | None, Oid]]:
    """Give name (None: the same) of the member, and oid, of each object referred to."""
    try:
        for kind, oid, other in _native.all_references(data):
            if kind != "weak":
                yield other, oid
    except ValueError:
        # Not one of the usual kind.
        for reference in references(data):
            if isinstance(reference, tuple):
                yield None, oid_of(reference[0])
            elif not isinstance(reference, list):
                yield None, oid_of(reference)
            elif reference[0] in {"m", "n"}:
                yield reference[1][0], oid_of(reference[1][1])


def _class_name(data: bytes) -> str:
    try:
        found = _native.class_name(data)
    except ValueError:
        found = None
    return "unknown" if found is None else ".".join(found)


class _Deletion(TransactionalUndo):
    """Deletes objects of one member in a transaction."""

    def __init__(self, database: Any, objects: list[tuple[Oid, Tid]]) -> None:
        super().__init__(database, ())
        self._objects = objects

    def commit(self, transaction: Any) -> None:
        """Delete them; the vote fails for those that were changed meanwhile."""
        for oid, serial in self._objects:
            self._view.deleteObject(oid, serial, self._meta)


class _LastLook:
    """Takes part in a transaction after all deletions: their members' locks are held then."""

    def __init__(self, marking: _Marking, batch: list[_Garbage]) -> None:
        self._marking = marking
        self._batch = batch

    def sortKey(self) -> str:
        """Return a place after all storages."""
        return "\U0010ffff"

    def tpc_vote(self, transaction: Any) -> None:
        """Raise _Revived if something is needed after all."""
        self._marking.catch_up()
        if len(self._marking.still_garbage(self._batch)) < len(self._batch):
            raise _Revived

    def _nothing(self, transaction: Any) -> None:
        """Do nothing: this only looks."""

    abort = tpc_begin = commit = tpc_finish = tpc_abort = _nothing


def _delete(members: Mapping[str, Any], marking: _Marking, batch: list[_Garbage]) -> list[_Garbage]:
    """Delete a batch in one transaction; return what of it was deleted."""
    for _ in range(_ATTEMPTS_MAX):
        manager = transaction.TransactionManager()
        current = manager.begin()
        current.note("collect garbage")
        for name, database in members.items():
            objects = [(oid, serial) for member, oid, serial, _ in batch if member == name]
            if objects:
                current.join(_Deletion(database, objects))
        current.join(_LastLook(marking, batch))
        try:
            manager.commit()
        except (_Revived, ConflictError):
            manager.abort()
            marking.catch_up()
            batch = marking.still_garbage(batch)
            if not batch:
                return []
        else:
            return batch
    raise PackError("garbage was changed again and again while it was to be deleted")
