"""Which members of a set refer to an object: for the error that names them all."""

from collections.abc import Iterator
from typing import Any

from perdure.connection.state import ConnectionState
from perdure.errors import POSKeyError
from perdure.serialize.unpicklable import parts

__all__ = ["members_that_reach"]

_DEPTH_MAX = 50


def members_that_reach(connections: dict[str, Any], target: Any) -> list[str]:
    """Return the names of the members whose changed or new objects refer to *target*.

    References through new objects count for the member where they begin.
    """
    return [name for name, member in connections.items() if _reaches(member, target)]


def _reaches(member: ConnectionState, target: Any) -> bool:
    return any(_leads_to(target, obj, 0, {}) for obj in _written(member) if obj is not target)


def _written(member: ConnectionState) -> Iterator[Any]:
    """Give the objects that this transaction writes to a member, as far as they are known."""
    yield from member._registered_objects
    storage = member._savepoint_storage
    for oid in [*member._creating, *(storage or ())]:
        obj = member._cache.get(oid)
        if obj is not None:
            yield obj


def _leads_to(target: Any, value: Any, depth: int, seen: dict[int, Any]) -> bool:
    if value is target:
        return True
    if depth > _DEPTH_MAX or id(value) in seen:
        return False
    if depth and getattr(value, "_p_oid", None) is not None:
        return False
    # Kept, so that no other value gets the same id.
    seen[id(value)] = value
    if hasattr(value, "_p_jar"):
        try:
            value, depth = value.__getstate__(), depth or 1
        except POSKeyError:
            # A new blob that was stored already is a ghost until all is committed.
            return False
    found = (_leads_to(target, part, depth + 1, seen) for _step, part in parts(value, top=False))
    return any(found)
