"""Undo over a collection: what one transaction did in several members is one thing."""

import base64
import binascii
from collections.abc import Callable, Collection, Mapping
from typing import Any

import transaction

from perdure.db.undo import TransactionalUndo, planned_undo
from perdure.errors import UndoError, Unsupported
from perdure.ids import Tid, p64, tid_repr, u64
from perdure.storage.undo import UndoStep
from perdure.storage.view import EngineFace

__all__ = ["joint_undo", "joint_undo_log"]

_TID_BYTES = 8
_PACKED = "p"


def joint_undo_log(
    members: Mapping[str, Any],
    first: int,
    last: int,
    accepts: Callable[[dict[str, Any]], object] | None,
) -> list[dict[str, Any]]:
    """Merge the undo logs of all members; see `Collection.undoLog`."""
    end = first - last if last < 0 else last
    merged: dict[bytes, dict[str, Any]] = {}
    for name, database in members.items():
        for info in database.undoLog(0, end, accepts):
            known = merged.setdefault(info["id"], {**info, "size": 0, "members": []})
            # RelStorage doesn't tell it.
            known["size"] += info.get("size", 0)
            known["members"].append(name)
    newest_first = sorted(merged.values(), key=lambda info: info["time"], reverse=True)
    return newest_first[first:end]


def joint_undo(
    members: Mapping[str, Any], transaction_id: bytes, current: Any, *, dry_run: bool
) -> dict[str, list[UndoStep]] | None:
    """Undo a transaction in every member that it changed; see `Collection.undo`."""
    changed = _changed_by(members, transaction_id)
    if dry_run:
        steps = planned_undo(
            [TransactionalUndo(database, [transaction_id]) for _name, database in changed]
        )
        return {name: each for (name, _database), each in zip(changed, steps, strict=True)}
    for _name, database in changed:
        database._require_undo()
    current = transaction.get() if current is None else current
    for _name, database in changed:
        database.undo(transaction_id, current)
    return None


def _changed_by(members: Mapping[str, Any], transaction_id: bytes) -> list[tuple[str, Any]]:
    for name, database in members.items():
        database._require_open()
        if not isinstance(database._mvcc_storage, EngineFace):
            raise Unsupported(
                f"whether {name!r} has a part in a transaction can't be told: its storage is not "
                "one of perdure's own; undo in each member by itself"
            )
    tid = _tid_of(transaction_id)
    changed = [
        (name, database)
        for name, database in members.items()
        if any(True for _ in database.storage.iterator(tid, tid))
    ]
    if not changed:
        raise UndoError(f"no member has a transaction {transaction_id!r}")
    _require_unpacked(members, tid, {name for name, _database in changed})
    return changed


def _require_unpacked(members: Mapping[str, Any], tid: Tid, changed: Collection[str]) -> None:
    """Raise UndoError where a pack may have dropped what a member had of a transaction.

    What a later one has replaced is dropped only with a pack time after that one, which is marked
    as packed then.
    """
    for name, database in members.items():
        if name in changed:
            continue
        following = next(iter(database.storage.iterator(Tid(p64(u64(tid) + 1)))), None)
        if following is not None and following.status == _PACKED:
            raise UndoError(
                f"{name!r} was packed to a time after transaction {tid_repr(tid)}: whether that "
                f"changed it, too, isn't known any more; undo in {', '.join(sorted(changed))} alone "
                "if you know"
            )


def _tid_of(transaction_id: bytes) -> Tid:
    try:
        tid = base64.b64decode(transaction_id, validate=True)
    except binascii.Error:
        tid = b""
    if len(tid) != _TID_BYTES:
        raise UndoError(f"{transaction_id!r} is not the id of a transaction in an undo log")
    return Tid(tid)
