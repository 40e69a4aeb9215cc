"""Keeping new references between members from leading nowhere."""

from collections.abc import Iterable
from typing import Any

from perdure import _native
from perdure.connection.state import ConnectionState
from perdure.errors import DanglingReferenceError
from perdure.ids import NO_TID, Oid
from perdure.serialize.unpicklable import parts
from perdure.storage.view import EngineView

__all__ = ["Target", "is_missing", "refuse_dangling"]

Target = tuple[str, Oid, Any]
"""What is referred to: its member, its oid, the object itself."""

_DEPTH_MAX = 20


def is_missing(obj: Any) -> bool:
    """Tell whether *obj*, which belongs to a connection, is neither stored nor about to be."""
    connection, oid = obj._p_jar, obj._p_oid
    savepoint = connection._savepoint_storage
    if oid in connection._added or oid in connection._creating:
        return False
    if savepoint is not None and oid in savepoint.created:
        return False
    view = connection._normal_storage
    try:
        if isinstance(view, EngineView):
            # The newest state, not the snapshot: it may have been deleted since.
            view._storage.getTid(oid)
        elif obj._p_changed is None:
            view.load(oid)
    except KeyError:
        return True
    return False


def refuse_dangling(connection: ConnectionState, obj: Any, missing: Iterable[Target]) -> None:
    """Raise DanglingReferenceError if *obj* has come to refer to one of *missing*.

    What its previous record referred to already is let pass: an object with a damaged
    part can still be changed, or repaired.
    """
    before = _previous_references(connection, obj)
    for database, oid, target in missing:
        if (database, oid) not in before:
            cls = type(obj)
            raise DanglingReferenceError(
                obj._p_oid,
                oid,
                {
                    "class_name": f"{cls.__module__}.{cls.__qualname__}",
                    "path": _path_to(target, obj.__getstate__(), 0) or "",
                    "database": database,
                },
            )


def _previous_references(connection: ConnectionState, obj: Any) -> set[tuple[str | None, Oid]]:
    if obj._p_serial == NO_TID:
        return set()
    data, _serial = connection._storage.load(obj._p_oid)
    try:
        return {(name, oid) for _kind, oid, name in _native.all_references(data)}
    except ValueError:
        # Not a record of the usual kind: what can't be compared is taken for new.
        return set()


def _path_to(target: Any, value: Any, depth: int) -> str | None:
    """Return where *target* is within *value*, as one would write it in Python."""
    if value is target:
        return ""
    if depth < _DEPTH_MAX and (depth == 0 or getattr(value, "_p_oid", None) is None):
        for step, part in parts(value, top=depth == 0):
            path = _path_to(target, part, depth + 1)
            if path is not None:
                return step + path
    return None
