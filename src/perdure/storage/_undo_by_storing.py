"""Undoing a transaction by storing what was there before it.

Storages bring an earlier record back as it is; a layer that ties records to their tids
has to store it anew.
"""

from collections.abc import Container, Mapping
from typing import Any, NamedTuple

from perdure.errors import ConflictError, MultipleUndoErrors, UndoError
from perdure.ids import Oid, Tid, readable_tid_repr
from perdure.storage._missing import missing_object
from perdure.storage.undo import UndoStep, class_name_of, tid_of_undo_id

__all__ = ["Restored", "plan_undo_by_storing", "told_undo_by_storing"]

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
    storage: Any,
    transaction_id: bytes,
    changed: Mapping[Oid, bytes | None],
    oids: Container[Oid] | None = None,
) -> list[Restored]:
    """Say what undoing a transaction of *storage*, for *oids* only, takes.

    *changed* is what the undoing transaction stores already (None: the object is gone). Raises
    UndoError (MultipleUndoErrors for several objects) where later changes are in the way.
    """
    steps = _steps(storage, transaction_id, changed, oids)
    failures: list[tuple[Oid | None, str]] = [
        (oid, step) for oid, step in steps if isinstance(step, str)
    ]
    if len(failures) == 1:
        raise UndoError(failures[0][1], failures[0][0])
    if failures:
        raise MultipleUndoErrors(failures)
    return [step for _oid, step in steps if isinstance(step, Restored)]


def told_undo_by_storing(
    storage: Any, transaction_id: bytes, oids: Container[Oid] | None
) -> list[UndoStep]:
    """Say what undoing a transaction of *storage* would do, object by object."""
    return [
        UndoStep(
            oid,
            class_name_of(storage, oid),
            "impossible" if isinstance(step, str) else _effect(step),
            step if isinstance(step, str) else None,
        )
        for oid, step in _steps(storage, transaction_id, {}, oids)
    ]


def _effect(step: Restored) -> str:
    if step.data is None:
        return "removed"
    return "merged" if step.serial is None else "restored"


def _steps(
    storage: Any,
    transaction_id: bytes,
    changed: Mapping[Oid, bytes | None],
    oids: Container[Oid] | None,
) -> list[tuple[Oid, Restored | str]]:
    """Return, for each object, what undoing takes, or what is in the way."""
    tid = tid_of_undo_id(transaction_id)
    return [
        (oid, _step(storage, oid, tid, changed))
        for oid in _oids(storage, tid)
        if oids is None or oid in oids
    ]


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
