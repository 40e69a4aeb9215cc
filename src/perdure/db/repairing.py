"""Putting placeholders in the places of objects that were lost.

A reference names the class of its object, and an object is made of that class before its record
is looked at. So those that refer to a lost object are written anew, too, with references to an
object of the placeholder's class; nothing else in their records changes.
"""

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import transaction

from perdure.db.undo import TransactionalUndo
from perdure.errors import ConflictError, ReadOnlyError, StorageError, Unsupported
from perdure.ids import NO_TID, ROOT_OID, Oid, Tid, oid_repr
from perdure.lost import LostObject
from perdure.maintenance import Dangling, ObjectPlace, References
from perdure.serialize.pickling import dump_both
from perdure.serialize.rewriting import Reference, rewrite_references
from perdure.storage.engine import EngineStorage
from perdure.storage.view import EngineFace

__all__ = ["Repaired", "repair"]

_ATTEMPTS_MAX = 10
_CLASS = (LostObject.__module__, LostObject.__qualname__)

Write = tuple[Oid, Tid, bytes]
"""An object, the revision that the new one is made from, and the new record."""


@dataclass(frozen=True)
class Repaired:
    """What a repair did, or would do."""

    placed: tuple[Dangling, ...]
    """The lost objects that got a placeholder."""
    left: tuple[Dangling, ...]
    """Those that can't have one: they belong to no member, or are a root object."""
    rewritten: Mapping[str, int]
    """How many objects that refer to them were written anew, by member."""
    dry_run: bool
    """Whether nothing was changed."""
    tid: Tid | None = field(default=None, compare=False)
    """The transaction that did it, which can be undone; None: there was none."""

    def __str__(self) -> str:
        done = "would be put" if self.dry_run else "put"
        lines = [f"{len(self.placed)} placeholders {done} in place of lost objects"]
        lines += [f"  {lost}" for lost in self.placed]
        lines += [f"  left as it is: {lost}" for lost in self.left]
        return "\n".join(lines)


def repair(
    members: Mapping[str, Any], wanted: Iterable[tuple[str, Oid]] | None, *, dry_run: bool
) -> Repaired:
    """Put placeholders in the places of lost objects; see `Collection.repair`."""
    chosen = None if wanted is None else {ObjectPlace(*each) for each in wanted}
    for _ in range(_ATTEMPTS_MAX):
        placed, left = _found(members, chosen)
        try:
            writes, rewritten = _writes(members, placed)
        except _Changed:
            continue
        if dry_run or not placed:
            return Repaired(placed, left, rewritten, dry_run)
        try:
            tid = _commit(members, writes, placed)
        except ConflictError:
            # Somebody changed one of them meanwhile.
            continue
        return Repaired(placed, left, rewritten, dry_run, tid)
    raise StorageError("what refers to lost objects was changed again and again during the repair")


class _Changed(Exception):  # noqa: N818 - no error: it is looked at again
    """Something isn't any more as it was when references were looked at."""


def _found(
    members: Mapping[str, Any], chosen: set[ObjectPlace] | None
) -> tuple[tuple[Dangling, ...], tuple[Dangling, ...]]:
    """Return what is to be replaced, and what can't be."""
    lost = {ObjectPlace(each.member, each.oid): each for each in References(members).dangling()}
    for place in sorted(chosen or ()):
        if place not in lost:
            raise ValueError(
                f"{place} is not lost: it exists, or nothing refers to it; see references().dangling()"
            )
    wanted = [each for place, each in sorted(lost.items()) if chosen is None or place in chosen]
    placed = tuple(each for each in wanted if each.known_member and each.oid != ROOT_OID)
    return placed, tuple(each for each in wanted if each not in placed)


def _writes(
    members: Mapping[str, Any], placed: Iterable[Dangling]
) -> tuple[dict[str, list[Write]], dict[str, int]]:
    """Return what is to be written to each member."""
    lost = {ObjectPlace(each.member, each.oid) for each in placed}
    changed = {*lost, *(referrer.place for each in placed for referrer in each.referrers)}
    for name in sorted({place.member for place in changed}):
        _require_writable(name, members[name])
    writes: dict[str, list[Write]] = {}
    referrers = {referrer.place: referrer.tid for each in placed for referrer in each.referrers}
    for place, tid in sorted(referrers.items()):
        data = _rewritten(members[place.member].storage, place, tid, lost)
        writes.setdefault(place.member, []).append((place.oid, tid, data))
    rewritten = {name: len(found) for name, found in writes.items()}
    for each in placed:
        engine = members[each.member]._mvcc_storage.engine
        record = (each.oid, _last_tid(engine, each.oid), _record(each))
        writes.setdefault(each.member, []).append(record)
    return writes, rewritten


def _require_writable(name: str, database: Any) -> None:
    if not isinstance(database._mvcc_storage, EngineFace):
        raise Unsupported(
            f"the storage of {name!r} is not one of perdure's own: it can't be repaired"
        )
    if database.storage.isReadOnly():
        raise ReadOnlyError(f"member {name!r} is read-only: it can't be repaired")


def _rewritten(storage: Any, place: ObjectPlace, tid: Tid, lost: set[ObjectPlace]) -> bytes:
    data, serial = storage.load(place.oid)
    if serial != tid:
        raise _Changed

    def replacement(reference: Reference) -> Reference:
        target = ObjectPlace(reference.database or place.member, reference.oid)
        if target not in lost or reference.class_name is None:
            return reference
        return reference._replace(class_name=_CLASS)

    return rewrite_references(data, replacement)


def _last_tid(engine: EngineStorage, oid: Oid) -> Tid:
    """Return the transaction that deleted an object, zeros for one that never was."""
    revisions = engine._native.revisions_after(oid, NO_TID)
    return revisions[-1] if revisions else NO_TID


def _record(lost: Dangling) -> bytes:
    now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    made = LostObject(
        lost.member,
        oid_repr(lost.oid),
        lost.class_names,
        tuple((each.member, oid_repr(each.oid), each.class_name) for each in lost.referrers),
        now,
    )
    return dump_both(LostObject, made.__getstate__(), lambda _: None)


class _Placing(TransactionalUndo):
    """Writes records to one member in a transaction."""

    def __init__(self, database: Any, writes: list[Write]) -> None:
        super().__init__(database, ())
        self._writes = writes

    def commit(self, current: Any) -> None:
        """Write them; the vote fails for those that were changed meanwhile."""
        for oid, serial, data in self._writes:
            # No new object may get the oid of one that was lost with the end of a file.
            self._database._mvcc_storage.engine._native.raise_max_oid(oid)
            self._view.store(oid, serial, data, "", self._meta)


def _commit(
    members: Mapping[str, Any], writes: Mapping[str, list[Write]], placed: tuple[Dangling, ...]
) -> Tid:
    manager = transaction.TransactionManager()
    current = manager.begin()
    current.note(f"repair: placeholders for {len(placed)} lost objects")
    for name, found in writes.items():
        current.join(_Placing(members[name], found))
    try:
        manager.commit()
    except BaseException:
        manager.abort()
        raise
    for name in writes:
        _forget_idle_connections(members[name])
    tids: list[Tid] = [members[name].lastTransaction() for name in writes]
    return max(tids)


def _forget_idle_connections(database: Any) -> None:
    """Let go connections in whose caches the lost objects may be of their own classes."""
    with database._shared.lock:
        for connection in database._all_connections():
            if connection.opened is None:
                database._shared.release(connection._set)
