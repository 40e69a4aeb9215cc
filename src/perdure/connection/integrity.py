"""Keeping new references from leading nowhere, within a member and between members."""

import weakref
from collections.abc import Iterable
from typing import Any

from perdure.connection.state import ConnectionState
from perdure.errors import ConflictError
from perdure.ids import Oid
from perdure.serialize import ObjectWriter
from perdure.storage.view import EngineView

__all__ = [
    "ConnectionJudge",
    "ForeignTargets",
    "Target",
    "forget_targets",
    "note_foreign_target",
    "refuse_dangling",
    "require_targets",
]

Target = tuple[str, Oid, Any]
"""What is referred to: its member, its oid, the object itself."""


class ForeignTargets:
    """Objects of another member that a transaction has come to refer to."""

    def __init__(self, connection: Any) -> None:
        self._storage = connection._normal_storage.engine
        self._removals = self._storage._native.removals()
        self.oids: set[Oid] = set()

    def gone(self) -> set[Oid]:
        """Return those that were deleted since they were looked up first."""
        native = self._storage._native
        if native.removals() == self._removals:
            return set()
        # What was deleted may not be visible yet.
        native.catch_up()
        return {oid for oid in self.oids if not self._exists(oid)}

    def _exists(self, oid: Oid) -> bool:
        try:
            self._storage.getTid(oid)
        except KeyError:
            return False
        return True


def note_foreign_target(connection: ConnectionState, name: str, obj: Any) -> None:
    """Look whether *obj*, of the member *name*, exists; remember it either way."""
    other, oid = obj._p_jar, obj._p_oid
    if _is_created(other, oid):
        return
    if isinstance(other._normal_storage, EngineView):
        targets = connection._foreign_targets.get(other)
        if targets is None:
            targets = connection._foreign_targets[other] = ForeignTargets(other)
        targets.oids.add(oid)
    if _is_missing(other, oid, obj):
        connection._missing.append((name, oid, obj))


def _is_created(connection: Any, oid: Oid) -> bool:
    savepoint = connection._savepoint_storage
    return (
        oid in connection._added
        or oid in connection._creating
        or (savepoint is not None and oid in savepoint.created)
    )


def _is_missing(connection: Any, oid: Oid, obj: Any) -> bool:
    view = connection._normal_storage
    try:
        if isinstance(view, EngineView):
            # The newest state, not the snapshot: it may have been deleted since.
            view.engine.getTid(oid)
        elif obj._p_changed is None:
            view.load(oid)
    except KeyError:
        return True
    return False


def require_targets(connection: ConnectionState, writer: ObjectWriter) -> None:
    """Have the vote look for what the records of this transaction refer to."""
    checked = connection._db.check_references
    writer.require_targets(connection._normal_storage if checked else None)


def forget_targets(connection: ConnectionState) -> None:
    """Forget what the records of this transaction refer to."""
    ObjectWriter(connection).require_targets(None)


class ConnectionJudge:
    """The judge of a connection's transactions (`Judge`), which does not keep it alive."""

    def __init__(self, connection: ConnectionState) -> None:
        self._known = weakref.ref(connection)

    def __call__(self, draft: Any) -> None:
        """Raise DanglingReferenceError for new references to objects that don't exist."""
        found = self._known()
        if found is not None:
            _judge(found, draft)

    def describe(self, error: ConflictError) -> None:
        """Have a conflict name class and database."""
        found = self._known()
        if found is not None:
            found._describe_conflict(error)

    def is_content(self) -> bool:
        """Tell whether nothing in other members has come to be referred to."""
        found = self._known()
        return found is None or not found._foreign_targets


def _judge(connection: ConnectionState, draft: Any) -> None:
    """Raise DanglingReferenceError for new references to objects that don't exist.

    The draft holds the commit lock.  A collection's garbage is deleted under the locks
    of all members: what is there now will be there after the commit.
    """
    gone: set[tuple[str | None, Oid]] = {(None, oid) for oid in draft.missing()}
    for other, targets in connection._foreign_targets.items():
        gone.update((other._db.database_name, oid) for oid in targets.gone())
    if gone:
        from perdure.connection.dangling import refuse_gone  # late: few commits are refused

        refuse_gone(connection, gone)


def refuse_dangling(connection: ConnectionState, obj: Any, missing: Iterable[Target]) -> None:
    """Raise DanglingReferenceError if *obj* has come to refer to one of *missing*.

    What its previous record referred to already is let pass: an object with a damaged
    part can still be changed, or repaired.
    """
    from perdure.connection.dangling import refuse  # late, as above

    refuse(connection, obj, missing)
