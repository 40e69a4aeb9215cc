"""Conflict resolution: merging two changes of one object.

When a storage finds that an object was changed by another transaction, it asks
the object's class: `_p_resolveConflict(old, committed, new)` is given the three
states and returns the merged one, or raises.  No object of the database is
loaded for it: references in the states are `PersistentReference` stand-ins.

Storages get this by deriving from `ConflictResolvingStorage`.
"""

from typing import TYPE_CHECKING, Any

from perdure._lazy import importing_late
from perdure.ids import Oid, Tid

if TYPE_CHECKING:
    from perdure.persistentreference import (
        BadClass,
        BadClassName,
        IPersistentReference,
        PersistentReference,
        PersistentReferenceFactory,
    )
    from perdure.serialize.classes import AllowedClasses

__all__ = [
    "BadClass",
    "BadClassName",
    "ConflictResolvingStorage",
    "IPersistentReference",
    "PersistentReference",
    "PersistentReferenceFactory",
    "tryToResolveConflict",
]

_REFERENCES = (
    "BadClass",
    "BadClassName",
    "IPersistentReference",
    "PersistentReference",
    "PersistentReferenceFactory",
)
# Every storage can merge, and most programs have no conflicts.
__getattr__ = importing_late(__name__, dict.fromkeys(_REFERENCES, "perdure.persistentreference"))


def limit_classes(storage: Any, allowed: "AllowedClasses | None") -> None:
    """Have a storage, and those below it, merge changes with these classes only."""
    if allowed is None or not isinstance(storage, ConflictResolvingStorage):
        return
    storage._allowed_classes = allowed
    for below in ("base", "changes"):
        limit_classes(getattr(storage, below, None), allowed)


def tryToResolveConflict(
    self: Any,
    oid: Oid,
    committedSerial: Tid,
    oldSerial: Tid,
    newpickle: bytes,
    committedData: bytes = b"",
) -> bytes:
    """Return a record that merges the committed change of an object with the new one.

    *self* is the storage; the new record was made from the revision *oldSerial*,
    while *committedSerial* is the newest.  Raises ConflictError if they can't be
    merged; its cause is what the class's `_p_resolveConflict` raised, if it did.
    """
    from perdure._merging import merged  # late: most programs have no conflicts

    return merged(self, oid, (committedSerial, oldSerial), newpickle, committedData)


class ConflictResolvingStorage:
    """Makes a storage resolve conflicts: derive from it.

    The storage calls `tryToResolveConflict` when an object isn't current any
    more, and stores the record that it returns.
    """

    _allowed_classes: "AllowedClasses | None" = None

    tryToResolveConflict = tryToResolveConflict

    def _crs_transform_record_data(self, data: bytes) -> bytes:
        return data

    def _crs_untransform_record_data(self, data: bytes) -> bytes:
        return data

    def registerDB(self, wrapper: Any) -> None:
        """Accept the layer above; its transformations of records apply here."""
        self._crs_untransform_record_data = (  # type: ignore[method-assign]
            wrapper.untransform_record_data
        )
        self._crs_transform_record_data = (  # type: ignore[method-assign]
            wrapper.transform_record_data
        )
        further = getattr(super(), "registerDB", None)
        if further is not None:
            further(wrapper)
