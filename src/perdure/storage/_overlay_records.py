"""Going through the current records of two storages as through those of one."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from perdure.ids import Oid, Tid
from perdure.storage._missing import missing_object

__all__ = ["next_record"]


class _Found(NamedTuple):
    """What a layer's ``record_iternext`` returned."""

    oid: Oid
    tid: Tid
    data: bytes
    following: Any


class _Place(NamedTuple):
    """How far an iteration has come: what each layer has next, None where it is through."""

    base: _Found | None
    changes: _Found | None


def next_record(overlay: Any, place: _Place | None) -> tuple[Oid, Tid, bytes, _Place | None]:
    """Return the record at *place* (None: the first), and the place of the one after it."""
    if place is None:
        place = _Place(_first(overlay.base), _first(overlay.changes))
    records = _records(overlay, place)
    current = next(records, None)
    if current is None:
        raise ValueError("the storage has no object there")
    oid, tid, data, after = current
    following = next(_records(overlay, after), None)
    return oid, tid, data, None if following is None else after


def _records(overlay: Any, place: _Place) -> Iterator[tuple[Oid, Tid, bytes, _Place]]:
    """The current records from *place* on, each with the place after it."""
    while place.base is not None or place.changes is not None:
        oid = min(found.oid for found in place if found is not None)
        place = _Place(
            _after(overlay.base, place.base, oid), _after(overlay.changes, place.changes, oid)
        )
        try:
            data, tid = overlay.load(oid)
        except missing_object():
            continue
        yield oid, tid, data, place


def _first(layer: Any) -> _Found | None:
    try:
        return _Found(*layer.record_iternext())
    except ValueError:
        return None
    except missing_object():
        return None


def _after(layer: Any, found: _Found | None, oid: Oid) -> _Found | None:
    if found is None or found.oid != oid:
        return found
    return None if found.following is None else _Found(*layer.record_iternext(found.following))
