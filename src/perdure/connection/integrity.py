"""Keeping new references from leading nowhere, within a member and between members."""

import weakref
from collections.abc import Iterable
from typing import Any

from perdure import _native
from perdure.connection.state import ConnectionState
from perdure.errors import ConflictError, DanglingReferenceError, StaleReferenceError
from perdure.ids import NO_TID, Oid
from perdure.serialize import ObjectWriter
from perdure.serialize.unpicklable import Part, parts, parts_of
from perdure.storage.view import EngineView

__all__ = [
    "ConnectionJudge",
    "ForeignTargets",
    "Target",
    "forget_targets",
    "note_foreign_target",
    "refuse_dangling",
    "require_targets",
]

Target = tuple[str, Oid, Any]
"""What is referred to: its member, its oid, the object itself."""

_DEPTH_MAX = 20


class ForeignTargets:
    """Objects of another member that a transaction has come to refer to."""

    def __init__(self, connection: Any) -> None:
        self._storage = connection._normal_storage.engine
        self._removals = self._storage._native.removals()
        self.oids: set[Oid] = set()

    def gone(self) -> set[Oid]:
        """Return those that were deleted since they were looked up first."""
        native = self._storage._native
        if native.removals() == self._removals:
            return set()
        # What was deleted may not be visible yet.
        native.catch_up()
        return {oid for oid in self.oids if not self._exists(oid)}

    def _exists(self, oid: Oid) -> bool:
        try:
            self._storage.getTid(oid)
        except KeyError:
            return False
        return True


def note_foreign_target(connection: ConnectionState, name: str, obj: Any) -> None:
    """Look whether *obj*, of the member *name*, exists; remember it either way."""
    other, oid = obj._p_jar, obj._p_oid
    if _is_created(other, oid):
        return
    if isinstance(other._normal_storage, EngineView):
        targets = connection._foreign_targets.get(other)
        if targets is None:
            targets = connection._foreign_targets[other] = ForeignTargets(other)
        targets.oids.add(oid)
    if _is_missing(other, oid, obj):
        connection._missing.append((name, oid, obj))


def _is_created(connection: Any, oid: Oid) -> bool:
    savepoint = connection._savepoint_storage
    return (
        oid in connection._added
        or oid in connection._creating
        or (savepoint is not None and oid in savepoint.created)
    )


def _is_missing(connection: Any, oid: Oid, obj: Any) -> bool:
    view = connection._normal_storage
    try:
        if isinstance(view, EngineView):
            # The newest state, not the snapshot: it may have been deleted since.
            view.engine.getTid(oid)
        elif obj._p_changed is None:
            view.load(oid)
    except KeyError:
        return True
    return False


def require_targets(connection: ConnectionState, writer: ObjectWriter) -> None:
    """Have the vote look for what the records of this transaction refer to."""
    checked = connection._db.check_references
    writer.require_targets(connection._normal_storage if checked else None)


def forget_targets(connection: ConnectionState) -> None:
    """Forget what the records of this transaction refer to."""
    ObjectWriter(connection).require_targets(None)


class ConnectionJudge:
    """The judge of a connection's transactions (`Judge`), which does not keep it alive."""

    def __init__(self, connection: ConnectionState) -> None:
        self._known = weakref.ref(connection)

    def __call__(self, draft: Any) -> None:
        """Raise DanglingReferenceError for new references to objects that don't exist."""
        found = self._known()
        if found is not None:
            _judge(found, draft)

    def describe(self, error: ConflictError) -> None:
        """Have a conflict name class and database."""
        found = self._known()
        if found is not None:
            found._describe_conflict(error)

    def is_content(self) -> bool:
        """Tell whether nothing in other members has come to be referred to."""
        found = self._known()
        return found is None or not found._foreign_targets


def _judge(connection: ConnectionState, draft: Any) -> None:
    """Raise DanglingReferenceError for new references to objects that don't exist.

    The draft holds the commit lock.  A collection's garbage is deleted under the locks
    of all members: what is there now will be there after the commit.
    """
    gone: set[tuple[str | None, Oid]] = {(None, oid) for oid in draft.missing()}
    for other, targets in connection._foreign_targets.items():
        gone.update((other._db.database_name, oid) for oid in targets.gone())
    if gone:
        _refuse_gone(connection, gone)


def _refuse_gone(connection: ConnectionState, gone: set[tuple[str | None, Oid]]) -> None:
    running = connection._commit_running
    assert running is not None
    for number, oid in enumerate(running.stored):
        found = _references(connection._normal_storage.new_data(number) or b"") & gone
        obj = connection._cache.get(oid) if found else None
        if obj is None:
            continue
        refuse_dangling(
            connection,
            obj,
            [
                (name or connection._db.database_name, target, _target(connection, name, target))
                for name, target in found
            ],
        )


def _target(connection: ConnectionState, name: str | None, oid: Oid) -> Any:
    member = connection if name is None else connection.connections[name]
    return member._cache.get(oid)


def refuse_dangling(connection: ConnectionState, obj: Any, missing: Iterable[Target]) -> None:
    """Raise DanglingReferenceError if *obj* has come to refer to one of *missing*.

    What its previous record referred to already is let pass: an object with a damaged
    part can still be changed, or repaired.
    """
    before = _previous_references(connection, obj)
    own = connection._db.database_name
    for database, oid, target in missing:
        if (None if database == own else database, oid) not in before:
            cls = type(obj)
            kind = _kind_of_failure(connection, database, oid)
            raise kind(
                obj._p_oid,
                oid,
                {
                    "class_name": f"{cls.__module__}.{cls.__qualname__}",
                    "path": "" if target is None else _path_to(target, obj),
                    "database": database,
                },
            )


def _kind_of_failure(
    connection: ConnectionState, database: str, oid: Oid
) -> type[DanglingReferenceError]:
    """Tell whether an object that is gone was there when the transaction began."""
    own = connection._db.database_name
    view = (connection if database == own else connection.connections[database])._normal_storage
    try:
        view.load(oid)
    except KeyError:
        return DanglingReferenceError
    if isinstance(view, EngineView):
        # Who tries again has to see that it is gone.
        view.engine._native.catch_up()
    return StaleReferenceError


def _previous_references(connection: ConnectionState, obj: Any) -> set[tuple[str | None, Oid]]:
    if obj._p_serial == NO_TID:
        return set()
    data, _serial = connection._storage.load(obj._p_oid)
    return _references(data)


def _references(data: bytes) -> set[tuple[str | None, Oid]]:
    """Return the ordinary references in a record: the other member's name, and the oid."""
    try:
        found = _native.all_references(data)
    except ValueError:
        # Not a record of the usual kind: what can't be compared is taken for new.
        return set()
    return {(name, oid) for kind, oid, name in found if kind != "weak"}


def _path_to(target: Any, obj: Any) -> str:
    """Return where *target* is within *obj*, as one would write it in Python; "" if unknown."""
    return _path_within(target, parts_of(obj, obj.__getstate__()), 1) or ""


def _path_within(target: Any, inside: Iterable[Part], depth: int) -> str | None:
    for step, part in inside:
        if part is target:
            return step
        if depth < _DEPTH_MAX and getattr(part, "_p_oid", None) is None:
            path = _path_within(target, parts(part), depth + 1)
            if path is not None:
                return step + path
    return None
