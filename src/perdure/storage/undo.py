"""Undoing transactions of a storage of perdure's own."""

import base64
import binascii
from collections.abc import Callable, Container, Mapping
from typing import Any, NamedTuple, Protocol

from perdure import _native
from perdure.classname import get_pickle_metadata
from perdure.errors import ConflictError, MultipleUndoErrors, UndoError
from perdure.ids import Oid, Tid, readable_tid_repr
from perdure.storage._extension import extension_of
from perdure.storage._missing import missing_object
from perdure.timestamp import TimeStamp

__all__ = [
    "UndoLog",
    "UndoStep",
    "class_name_of",
    "plan_undo",
    "tid_of_undo_id",
    "undo_id_of_tid",
    "undo_into",
]

_BLOCKING_SHOWN_MAX = 3


class _Merges(Protocol):
    """What can merge conflicting changes: `ConflictResolvingStorage`."""

    def tryToResolveConflict(
        self,
        oid: Oid,
        committedSerial: Tid,
        oldSerial: Tid,
        newpickle: bytes,
        committedData: bytes = b"",
    ) -> bytes: ...


def undo_id_of_tid(tid: Tid) -> bytes:
    """Return the id by which `undoLog` names a transaction."""
    return base64.b64encode(tid)


def tid_of_undo_id(transaction_id: bytes) -> Tid:
    """Return the tid of an id that `undoLog` gave, or raise UndoError."""
    try:
        tid = base64.b64decode(transaction_id, validate=False)
    except (binascii.Error, TypeError, ValueError):
        tid = b""
    if len(tid) != 8:
        raise UndoError(f"{transaction_id!r} is no transaction id of undoLog() or undoInfo()")
    return Tid(tid)


class UndoLog:
    """The transactions of a storage that can be undone, newest first."""

    def __init__(self, native: _native.Storage) -> None:
        self._native = native

    def slice(
        self, first: int, last: int, accepts: Callable[[dict[str, Any]], object] | None
    ) -> list[dict[str, Any]]:
        """Return the descriptions *first* to *last* of those that *accepts* lets through.

        A negative *last* is the number of descriptions wanted.
        """
        end = first - last if last < 0 else last
        found: list[dict[str, Any]] = []
        passed = 0
        for fields in self._native.transactions_backwards():
            if passed >= end or fields[1] == "p":
                break
            described = _description(fields)
            if accepts is None or accepts(described):
                if passed >= first:
                    found.append(described)
                passed += 1
        return found

    def info(
        self, first: int, last: int, specification: Mapping[str, Any] | None
    ) -> list[dict[str, Any]]:
        """Return the slice of those that have all items of *specification*."""
        if not specification:
            return self.slice(first, last, None)
        wanted = specification.items()
        return self.slice(first, last, lambda described: wanted <= described.items())


def _description(fields: tuple[Any, ...]) -> dict[str, Any]:
    tid, _, user, description, extension, position, end, _ = fields
    return {
        "id": undo_id_of_tid(tid),
        "time": TimeStamp(tid).timeTime(),
        "user_name": user,
        "description": description,
        "size": end - position - 8,
        **extension_of(extension),
    }


class UndoStep(NamedTuple):
    """What undoing a transaction does to one object."""

    oid: Oid
    class_name: str | None
    """Module and name of the object's class; None where there is no record to tell."""
    effect: str
    """"restored", "removed", "merged" with later changes, or "impossible"."""
    reason: str | None
    """Why it is impossible, and what is in the way."""


def plan_undo(
    native: _native.Storage,
    draft: _native.Draft,
    merging: _Merges,
    transaction_id: bytes,
    oids: Container[Oid] | None = None,
) -> list[UndoStep]:
    """Say what undoing a transaction (for *oids* only) would do; *draft* stays as it is."""
    work = _Work(native, draft, merging, transaction_id, oids)
    failed = dict(work.failures)
    effects = {"point": "restored", "remove": "removed", "merge": "merged"}
    return [
        UndoStep(
            oid,
            class_name_of(native, oid),
            "impossible" if oid in failed else effects[action],
            failed.get(oid),
        )
        for oid, _, action, _, _, _ in work.steps
    ]


def undo_into(
    native: _native.Storage,
    draft: _native.Draft,
    merging: _Merges,
    transaction_id: bytes,
    oids: Container[Oid] | None = None,
) -> list[Oid]:
    """Add to *draft* what undoes a transaction (for *oids* only); return the oids it changes.

    Raises UndoError (MultipleUndoErrors for several objects) where later changes are
    in the way that can't be merged; nothing is added then.
    """
    if oids is None:
        done = draft.undo_as_it_is(tid_of_undo_id(transaction_id))
        if done is not None:
            return done
    work = _Work(native, draft, merging, transaction_id, oids)
    if len(work.failures) == 1:
        raise UndoError(work.failures[0][1], work.failures[0][0])
    if work.failures:
        raise MultipleUndoErrors(list(work.failures))
    for oid, current, action, position, _, _ in work.steps:
        if action == "point":
            draft.undo_to(oid, current, position)
        elif action == "remove":
            draft.delete(oid, current)
        else:
            draft.store(oid, current, work.merged[oid])
    return [oid for oid, *_ in work.steps]


class _Work:
    """What undoing a transaction takes: steps, merged data, and what is in the way."""

    def __init__(
        self,
        native: _native.Storage,
        draft: _native.Draft,
        merging: _Merges,
        transaction_id: bytes,
        oids: Container[Oid] | None,
    ) -> None:
        tid = tid_of_undo_id(transaction_id)
        steps = draft.plan_undo(tid)
        self.steps = [step for step in steps if oids is None or step[0] in oids]
        self.merged: dict[Oid, bytes] = {}
        self.failures: list[tuple[Oid, str]] = []
        for oid, current, action, _, before, now in self.steps:
            data = None
            if before is not None and now is not None:
                data = _merge(merging, oid, current, tid, before, now)
            if data is not None:
                self.merged[oid] = data
            elif action not in {"point", "remove"}:
                self.failures.append((oid, _reason(native, action, oid, tid)))


def class_name_of(records: Any, oid: Oid) -> str | None:
    """Return module and name of an object's class, None where its record doesn't tell.

    *records* is a storage, or what has a storage's `load`.
    """
    try:
        module, name = get_pickle_metadata(records.load(oid)[0])
    except missing_object():
        return None
    return f"{module}.{name}" if name else None


def _merge(
    merging: _Merges, oid: Oid, current: Tid, undone: Tid, before: bytes, now: bytes
) -> bytes | None:
    """Return the current data without what the undone transaction did, None if that fails."""
    try:
        return merging.tryToResolveConflict(oid, current, undone, before, now)
    except ConflictError:
        return None


def _reason(native: _native.Storage, action: str, oid: Oid, tid: Tid) -> str:
    """Say what is in the way, and which transactions."""
    later = native.revisions_after(oid, tid)
    shown = ", ".join(readable_tid_repr(one) for one in later[:_BLOCKING_SHOWN_MAX])
    more = (
        f" and {len(later) - _BLOCKING_SHOWN_MAX} more" if len(later) > _BLOCKING_SHOWN_MAX else ""
    )
    by = f" by {shown}{more}" if later else ""
    if action == "gone":
        return f"the object was removed{by}, or by the transaction itself"
    if action == "blocked":
        return f"the transaction created the object, which was changed later{by}"
    return f"the object was changed later{by}, and the changes can't be merged; undo those first"
