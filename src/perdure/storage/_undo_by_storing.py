"""Undoing a transaction by storing what was there before it.

Storages bring an earlier record back as it is; a layer that ties records to their tids
has to store it anew.
"""

import base64
import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

from perdure.errors import ConflictError, MultipleUndoErrors, UndoError
from perdure.ids import Oid, Tid, readable_tid_repr
from perdure.storage._missing import missing_object

__all__ = ["Restored", "plan_undo_by_storing"]

_LATER_SHOWN_MAX = 3
_ALL = 1 << 31


class Restored(NamedTuple):
    """What undoing does to an object."""

    oid: Oid
    current: Tid
    """The revision that it replaces."""
    data: bytes | None
    """Its data then; None: it is gone."""
    serial: Tid | None
    """The revision that the data, and the blob's, come from; None where they were merged."""


def plan_undo_by_storing(
    storage: Any, transaction_id: bytes, changed: Mapping[Oid, bytes | None]
) -> list[Restored]:
    """Say what undoing a transaction of *storage* takes.

    *changed* is what the undoing transaction stores already (None: the object is gone). Raises UndoError
    (MultipleUndoErrors for several objects) where later changes are in the way.
    """
    tid = _tid(transaction_id)
    steps: list[Restored] = []
    failures: list[tuple[Oid | None, str]] = []
    for oid in _oids(storage, tid):
        step = _step(storage, oid, tid, changed)
        if isinstance(step, Restored):
            steps.append(step)
        else:
            failures.append((oid, step))
    if len(failures) == 1:
        raise UndoError(failures[0][1], failures[0][0])
    if failures:
        raise MultipleUndoErrors(failures)
    return steps


def _tid(transaction_id: bytes) -> Tid:
    try:
        tid = base64.b64decode(transaction_id, validate=False)
    except (binascii.Error, TypeError, ValueError):
        tid = b""
    if len(tid) != 8:
        raise UndoError(f"{transaction_id!r} is no transaction id of undoLog() or undoInfo()")
    return Tid(tid)


def _oids(storage: Any, tid: Tid) -> list[Oid]:
    # The base's, whose records need not be decoded.
    transactions = storage.base.iterator(tid, tid)
    try:
        for found in transactions:
            if found.tid == tid and found.status != "p":
                return [record.oid for record in found]
    finally:
        close = getattr(transactions, "close", None)
        if close is not None:
            close()
    raise UndoError(f"{readable_tid_repr(tid)}: there is no such transaction since the last pack")


def _step(storage: Any, oid: Oid, tid: Tid, changed: Mapping[Oid, bytes | None]) -> Restored | str:
    """Return what undoing does to an object, or what is in the way."""
    revisions = [Tid(entry["tid"]) for entry in storage.history(oid, size=_ALL)]
    current = revisions[0]
    now = changed[oid] if oid in changed else _data(storage, oid, current)
    made = _data(storage, oid, tid)
    before = next((each for each in revisions if each < tid), None)
    data = None if before is None else _data(storage, oid, before)
    if now == made and (made is not None or current == tid or oid in changed):
        return Restored(oid, current, data, before)
    if before is None or None in (now, made, data) or oid in changed:
        return _reason(revisions, tid)
    try:
        merged = storage.merged_for_undo(oid, current, tid, before)
    except ConflictError:
        return _reason(revisions, tid)
    return Restored(oid, current, merged, None)


def _data(storage: Any, oid: Oid, serial: Tid) -> bytes | None:
    try:
        data: bytes = storage.loadSerial(oid, serial)
    except missing_object():
        return None
    return data


def _reason(revisions: list[Tid], tid: Tid) -> str:
    later = [readable_tid_repr(each) for each in revisions if each > tid]
    shown = ", ".join(later[:_LATER_SHOWN_MAX])
    more = f" and {len(later) - _LATER_SHOWN_MAX} more" if len(later) > _LATER_SHOWN_MAX else ""
    return (
        f"the object was changed later by {shown}{more}, and the changes can't be merged; "
        "undo those first"
    )
