"""Refusing a commit whose references would lead nowhere: which ones, and where they are."""

from collections.abc import Iterable
from typing import Any, Final

from perdure import _native
from perdure.connection.integrity import Target
from perdure.connection.state import ConnectionState
from perdure.errors import DanglingReferenceError, StaleReferenceError
from perdure.ids import NO_TID, Oid
from perdure.serialize.unpicklable import Part, parts, parts_of
from perdure.storage.view import EngineView

__all__ = ["refuse", "refuse_gone"]

_DEPTH_MAX: Final = 20


def refuse_gone(connection: ConnectionState, gone: set[tuple[str | None, Oid]]) -> None:
    """Raise DanglingReferenceError for what this transaction has come to refer to of *gone*."""
    running = connection._commit_running
    assert running is not None
    for number, oid in enumerate(running.stored):
        found = _references(connection._normal_storage.new_data(number) or b"") & gone
        obj = connection._cache.get(oid) if found else None
        if obj is None:
            continue
        refuse(
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


def refuse(connection: ConnectionState, obj: Any, missing: Iterable[Target]) -> None:
    """Do what `perdure.connection.integrity.refuse_dangling` says."""
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
