"""One object on its way to the storage."""

from typing import Any, NamedTuple

from perdure.ids import Oid, Tid

__all__ = ["Record"]


class Record(NamedTuple):
    """An object, ready to be stored."""

    oid: Oid
    serial: Tid
    """The revision that it was made from."""
    data: bytes
    obj: Any
    """The object; None where it is no longer needed."""
