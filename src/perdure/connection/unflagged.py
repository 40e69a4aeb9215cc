"""Finding changes that the database was never told of.

A change inside a plain list, dict or set of a persistent object isn't noticed
(`self.items.append(x)`), so it isn't stored.  A database opened with
`detect_unflagged_changes` compares, at each commit, what is in memory with what
was loaded.  That costs one load per cached object: it is for development.
"""

import warnings
from typing import TYPE_CHECKING, Any, Final, Literal

from persistent import Persistent

from perdure.errors import UnflaggedChangeError
from perdure.ids import Oid

if TYPE_CHECKING:
    from perdure.connection.state import ConnectionState

__all__ = ["Reaction", "UnflaggedChanges"]

Reaction = Literal["raise", "warn"]

_DEPTH_MAX: Final = 100
_CONTAINERS: Final = (list, dict, set, bytearray)
_PLAIN: Final = (str, bytes, int, float, complex, bool, type(None), type)


class UnflaggedChanges:
    """Looks for changes that were never flagged, and raises or warns."""

    def __init__(self, reaction: Reaction) -> None:
        self._reaction = reaction

    def check(self, connection: "ConnectionState") -> None:
        """Compare the unchanged objects in the cache with their records.

        Raises UnflaggedChangeError (or warns) that lists all differences.
        """
        found: list[tuple[Oid, str, str]] = []
        for oid, obj in connection._cache.lru_items():
            if obj._p_changed is False and _can_hide_changes(obj):
                differences = _differences(connection, oid, obj)
                if differences:
                    found += differences
                    # So that an abort takes this change back like any other.
                    connection._registered_objects.append(obj)
        if not found:
            return
        error = UnflaggedChangeError(found, connection._db.database_name)
        if self._reaction == "raise":
            raise error
        warnings.warn(str(error), stacklevel=2)


def _can_hide_changes(obj: Any) -> bool:
    """Tell whether the object has attributes that could change unnoticed."""
    attributes: dict[str, Any] = getattr(obj, "__dict__", {})
    return _has_slots(type(obj)) or not all(isinstance(v, _PLAIN) for v in attributes.values())


def _has_slots(cls: type) -> bool:
    return any(vars(base).get("__slots__") for base in cls.__mro__ if base is not Persistent)


def _differences(connection: "ConnectionState", oid: Oid, obj: Any) -> list[tuple[Oid, str, str]]:
    data, serial = connection._storage.load(oid)
    if serial != obj._p_serial:
        return []
    stored = _attributes(connection._reader.getState(data))
    present = _attributes(obj.__getstate__())
    cls = type(obj)
    name = f"{cls.__module__}.{cls.__qualname__}"
    return [
        (oid, name, attribute)
        for attribute, value in present.items()
        if attribute in stored and not _same(value, stored[attribute], 0)
    ]


def _attributes(state: Any) -> dict[str, Any]:
    if isinstance(state, tuple) and len(state) == 2:
        # The state of an object with slots: attributes, and slots.
        return {**_attributes(state[0]), **_attributes(state[1])}
    return state if isinstance(state, dict) else {}


def _same(one: Any, other: Any, depth: int) -> bool:  # noqa: PLR0911 - one for each kind
    """Compare by value, without calling what applications define.

    Whatever can't be compared safely counts as the same.
    """
    if one is other or depth > _DEPTH_MAX:
        return True
    if type(one) is not type(other):
        return False
    if hasattr(one, "_p_oid"):
        # References: the same object is the same object (compared above), unless
        # it is a weak reference.
        return bool(getattr(one, "oid", one) == getattr(other, "oid", other))
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(
            _same(a, b, depth + 1) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(
            _same(value, other[key], depth + 1) for key, value in one.items()
        )
    if isinstance(one, (set, frozenset, bytearray, *_PLAIN)):
        return bool(one == other)
    return _same(getattr(one, "__dict__", None), getattr(other, "__dict__", None), depth + 1)
