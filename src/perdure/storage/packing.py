"""What packing a storage takes and gives."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from perdure.ids import Oid, Tid

if TYPE_CHECKING:
    from perdure.storage.engine import EngineStorage

__all__ = ["Decode", "PackResult", "SearchedMember", "is_plain_referencesf"]

Decode = Callable[[bytes, Oid, Tid], bytes]
"""Gives a record of an object's revision back as it was before layers put it into another form."""

_PLAIN: Final = {
    ("perdure.serialize.references", "referencesf"),
    ("perdure.db.history", "History.references"),
    ("perdure.mvcc.views", "MVCCAdapter.references"),
    ("ZODB.serialize", "referencesf"),
    ("ZODB.DB", "DB.references"),
    ("ZODB.mvccadapter", "MVCCAdapter.references"),
}
"""The functions that take a record for what it is: two pickles."""


class PackResult(NamedTuple):
    """What a pack gained."""

    bytes_before: int
    bytes_after: int
    objects_before: int
    objects_after: int


class SearchedMember(NamedTuple):
    """A database of a collection whose records are searched for references."""

    storage: "EngineStorage"
    """The storage, which layers may stand on."""
    decode: Decode | None = None
    """What decodes records that layers have put into another form; None: they are as they are."""


def is_plain_referencesf(referencesf: Any) -> bool:
    """Tell whether records can be searched for references without asking *referencesf*.

    A layer that transforms records, as compression does, passes a function of its own.
    """
    if referencesf is None:
        return True
    function = getattr(referencesf, "__func__", referencesf)
    names = (getattr(function, "__module__", None), getattr(function, "__qualname__", None))
    return names in _PLAIN
