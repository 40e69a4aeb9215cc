"""The records of an overlay: deletions, and the current records of both layers in one."""

import pickle
from collections.abc import Iterator
from itertools import chain
from typing import Any, Final, NamedTuple

from persistent import Persistent

from perdure.ids import Oid, Tid, p64, u64
from perdure.storage._missing import missing_object

__all__ = ["ChainedTransactions", "DeletedObject", "deletion_record", "next_record", "record_at"]

_NO_OID: Final = bytes(8)


class DeletedObject(Persistent):
    """What an overlay's changes have in the place of an object of the base that is deleted.

    Applications don't meet it: to them the object doesn't exist.
    """


def deletion_record(level: int) -> bytes:
    """Return the record by which an overlay of overlays knows its own deletions."""
    return pickle.dumps(DeletedObject, 3) + pickle.dumps({"level": level}, 3)


class ChainedTransactions:
    """The transactions of one layer, and then those of the other."""

    def __init__(self, *iterations: Iterator[Any]) -> None:
        self._iterations = iterations
        self._chained = chain(*iterations)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._chained)

    def close(self) -> None:
        """Give back what the iterations hold."""
        self._chained = chain()
        for iteration in self._iterations:
            close = getattr(iteration, "close", None)
            if close is not None:
                close()


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
    return record_at(layer, None)


def _after(layer: Any, found: _Found | None, oid: Oid) -> _Found | None:
    if found is None or found.oid != oid:
        return found
    return None if found.following is None else record_at(layer, found.following)


def record_at(layer: Any, place: Any) -> _Found | None:
    """Return the record that a layer has at *place*, or the one after it; None: it has none."""
    try:
        return _Found(*layer.record_iternext(place))
    except ValueError:
        return None
    except missing_object():
        # Stock's file storage stops so at an object whose creation was undone.
        if place is not None and len(place) != len(_NO_OID):
            raise
    return record_at(layer, p64(u64(place or _NO_OID) + 1))
