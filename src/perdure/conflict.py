"""Merging conflicting changes of one object."""

from typing import Any

from perdure.errors import ConflictError
from perdure.ids import Oid, Tid

__all__ = ["ConflictResolvingStorage"]


class ConflictResolvingStorage:
    """What a storage that resolves conflicts is built on."""

    def registerDB(self, wrapper: Any) -> None:
        """Accept the database above this storage."""

    def tryToResolveConflict(
        self,
        oid: Oid,
        committedSerial: Tid,
        oldSerial: Tid,
        newpickle: bytes,
        committedData: bytes = b"",
    ) -> bytes:
        """Return data merged from three revisions, or raise ConflictError."""
        raise ConflictError(oid=oid, serials=(committedSerial, oldSerial), data=newpickle)
