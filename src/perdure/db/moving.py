"""Moving objects from one member of a collection to another.

The objects are loaded by connections of the move's own, with all that refer to them;
given new places there, where the references in memory follow by themselves; and written
again, each in its member, in one transaction that also deletes the old records.  At its
vote all members are locked: whoever has come to refer to a moved object since the
references were looked up makes it fail.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import transaction
from persistent.wref import WeakRef

from perdure import _native
from perdure.blob import Blob
from perdure.connection.commit import Commit
from perdure.connection.connection import Connection
from perdure.db.undo import TransactionalUndo
from perdure.errors import ConflictError, POSKeyError, Unsupported
from perdure.ids import NO_TID, ROOT_OID, Oid, Tid, oid_repr
from perdure.maintenance import ObjectPlace, References
from perdure.serialize.unpicklable import parts
from perdure.storage.view import EngineFace
from perdure.utils import p64, u64

__all__ = ["Moved", "move"]

_DEPTH_MAX = 100


@dataclass(frozen=True)
class Moved:
    """What was moved, and where to."""

    places: Mapping[ObjectPlace, ObjectPlace]
    """The new place of each object that was moved, by its old one."""
    rewritten: Mapping[str, int]
    """How many other objects were written again, since they refer to those, by member."""


def move(members: Mapping[str, Any], obj: Any, target: str, *, reachable: bool) -> Moved:
    """Move an object to the member *target*; see `Collection.move`."""
    start = _place_of(members, obj)
    if target not in members:
        raise KeyError(f"no member {target!r} among {', '.join(sorted(members))}")
    if start.member == target:
        return Moved({}, {})
    _require_own(members)
    since = {name: member.lastTransaction() for name, member in members.items()}
    references = References(members, kept=False)
    moving = _only_reached(references, start) if reachable else {start}
    referrers = {
        referrer
        for place in moving
        for referrer in references.referrers(place.member, place.oid)
        if referrer not in moving
    }
    return _Move(members, moving, target).run(referrers, since)


def _place_of(members: Mapping[str, Any], obj: Any) -> ObjectPlace:
    """Return where *obj* is; raises ValueError for what isn't stored in a member."""
    cls = f"{type(obj).__module__}.{type(obj).__qualname__}"
    jar, oid = getattr(obj, "_p_jar", None), getattr(obj, "_p_oid", None)
    if jar is None or oid is None or isinstance(obj, type):
        raise ValueError(f"an object of {cls} that is stored nowhere can't be moved")
    name = jar.db().database_name
    if members.get(name) is not jar.db():
        raise ValueError(f"{cls} {oid_repr(oid)} is in {name!r}, which is no member")
    savepoint = jar._savepoint_storage
    is_new = obj._p_changed is not None and obj._p_serial == NO_TID
    if obj._p_changed or is_new or (savepoint is not None and oid in savepoint):
        raise ValueError(
            f"{cls} {oid_repr(oid)} in {name!r} has changes that are not committed: "
            "commit or abort first"
        )
    if oid == ROOT_OID:
        raise ValueError(f"the root object of {name!r} can't be moved")
    return ObjectPlace(name, oid)


def _require_own(members: Mapping[str, Any]) -> None:
    for name, member in members.items():
        member._require_open()
        if not isinstance(member._mvcc_storage, EngineFace):
            raise Unsupported(
                f"objects can't be moved: the storage of {name!r} is not one of perdure's own"
            )


def _only_reached(references: References, start: ObjectPlace) -> set[ObjectPlace]:
    """Return *start* and the objects of its member that only these refer to."""
    reached, waiting = {start}, [start]
    while waiting:
        for place in _referred(references, waiting.pop()):
            if place.member == start.member and place not in reached and place.oid != ROOT_OID:
                reached.add(place)
                waiting.append(place)
    referrers = {place: references.referrers(*place) for place in reached}
    while True:
        others = {
            place
            for place in reached
            if place != start and not reached.issuperset(referrers[place])
        }
        if not others:
            return reached
        reached -= others


def _referred(references: References, place: ObjectPlace) -> list[ObjectPlace]:
    try:
        return references.referred(*place)
    except POSKeyError:
        return []


class _Leaving(Connection):
    """A connection that also deletes objects when it commits."""

    leaving: list[tuple[Oid, Tid]]

    def _commit(self, commit: Commit) -> None:
        super()._commit(commit)
        commit.begin(self._normal_storage)
        for oid, serial in self.leaving:
            self._normal_storage.deleteObject(oid, serial, commit.meta)


class _Lock(TransactionalUndo):
    """Takes a member's commit lock: nobody may come to refer, from there, to what moves."""

    def __init__(self, database: Any) -> None:
        super().__init__(database, ())


class _LastLook:
    """Sees that no reference to the old places is left, and that none comes."""

    def __init__(
        self, members: Mapping[str, Any], moving: set[ObjectPlace], since: Mapping[str, Tid]
    ) -> None:
        self._members = members
        self._moving = moving
        self._since = since
        self.connections: Mapping[str, Any] = {}

    def sortKey(self) -> str:
        """Return a place after all storages."""
        return "\U0010ffff"

    def commit(self, transaction: Any) -> None:
        """Look at what was written; raises Unsupported where a reference is left."""
        for name, connection in self.connections.items():
            commit, view = connection._commit_running, connection._normal_storage
            if commit is None or not commit.begun:
                continue
            for number in range(len(view.whole_draft(commit.meta))):
                left = self._references(name, view.new_data(number))
                if left:
                    raise Unsupported(
                        f"an object in {name!r} keeps a reference to {left.pop()} that can't be "
                        "rewritten"
                    )

    def tpc_vote(self, transaction: Any) -> None:
        """Look at what others have committed; raises ConflictError where it refers to those."""
        for name, member in self._members.items():
            member._mvcc_storage.engine._native.catch_up()
            for written in member.storage.iterator(Tid(p64(u64(self._since[name]) + 1))):
                for record in written:
                    found = self._references(name, record.data)
                    if found:
                        raise ConflictError(
                            f"{oid_repr(record.oid)} in {name!r} has come to refer to "
                            f"{found.pop()} while that was being moved",
                            oid=record.oid,
                        )

    def _references(self, name: str, data: bytes | None) -> set[ObjectPlace]:
        if data is None:
            return set()
        found = _native.all_references(data)
        return self._moving.intersection(
            ObjectPlace(name if other is None else other, oid) for _kind, oid, other in found
        )

    def _nothing(self, transaction: Any) -> None:
        """Do nothing."""

    abort = tpc_begin = tpc_finish = tpc_abort = _nothing


class _Move:
    """One move, with connections of its own."""

    def __init__(self, members: Mapping[str, Any], moving: set[ObjectPlace], target: str) -> None:
        self._members = members
        self._moving = sorted(moving)
        self._target = target
        self._source = self._moving[0].member
        self._manager = transaction.TransactionManager()

    def run(self, referrers: Iterable[ObjectPlace], since: Mapping[str, Tid]) -> Moved:
        source = self._members[self._source]
        connection = _Leaving(source)
        connection.leaving = []
        connection.open(self._manager)
        try:
            return self._move(connection, list(referrers), since)
        finally:
            self._manager.abort()
            connection._set.leave(self._manager)
            source._shared.release(connection._set)

    def _move(
        self, connection: _Leaving, referrers: list[ObjectPlace], since: Mapping[str, Tid]
    ) -> Moved:
        current = self._manager.begin()
        current.note(f"move objects from {self._source} to {self._target}")
        look = _LastLook(self._members, set(self._moving), since)
        current.join(look)
        objects = [self._loaded(connection, place) for place in self._moving]
        others = [self._loaded(connection, place) for place in referrers]
        weak = list(_weak_references([*objects, *others], connection, set(self._moving)))
        target = connection[self._target]
        for obj in objects:
            _rehome(obj, connection, target)
        for reference, place in weak:
            moved = objects[self._moving.index(place)]
            reference.oid, reference.dm = moved._p_oid, target
            reference.database_name = self._target
        for other in others:
            other._p_changed = True
        connection._register()
        look.connections = connection.connections
        written = {self._source, self._target, *(place.member for place in referrers)}
        for name, member in self._members.items():
            if name not in written:
                current.join(_Lock(member))
        self._manager.commit()
        new = [ObjectPlace(self._target, obj._p_oid) for obj in objects]
        rewritten = [place.member for place in referrers]
        return Moved(
            places=dict(zip(self._moving, new, strict=True)),
            rewritten={name: rewritten.count(name) for name in dict.fromkeys(rewritten)},
        )

    def _loaded(self, connection: _Leaving, place: ObjectPlace) -> Any:
        obj = connection[place.member].get(place.oid)
        if isinstance(obj, type):
            raise Unsupported(f"{place} is a persistent class, which can't be moved or rewritten")
        obj._p_activate()
        return obj


def _rehome(obj: Any, source: _Leaving, target: Any) -> None:
    """Make a loaded object of one connection a new one of another."""
    source.leaving.append((obj._p_oid, obj._p_serial))
    data = _copied_data(obj) if isinstance(obj, Blob) else None
    del source._cache[obj._p_oid]
    source._disown(obj)
    obj._p_serial = NO_TID
    target.add(obj)
    if data is not None:
        obj._p_blob_committed = None
        obj.consumeFile(data)


def _copied_data(blob: Blob) -> str:
    """Return the path of a copy of a blob's data."""
    committed = blob.committed()
    handle, path = tempfile.mkstemp(prefix="moving", dir=blob._p_jar._storage.temporaryDirectory())
    os.close(handle)
    shutil.copyfile(committed, path)
    return path


def _weak_references(
    objects: Iterable[Any], connection: _Leaving, moving: set[ObjectPlace]
) -> Iterator[tuple[WeakRef, ObjectPlace]]:
    """Find the weak references to what moves."""
    names = {id(member): name for name, member in connection.connections.items()}
    for obj in objects:
        for reference in _weak_within(obj.__getstate__(), 0):
            name = names.get(id(reference.dm))
            if name is not None and ObjectPlace(name, reference.oid) in moving:
                yield reference, ObjectPlace(name, reference.oid)


def _weak_within(value: Any, depth: int) -> Iterator[WeakRef]:
    if isinstance(value, WeakRef):
        yield value
    elif depth < _DEPTH_MAX and getattr(value, "_p_oid", None) is None:
        for _step, part in parts(value, top=depth == 0):
            yield from _weak_within(part, depth + 1)
