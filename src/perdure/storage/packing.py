"""What packing a storage takes and gives."""

from typing import Any, Final, NamedTuple

__all__ = ["PackResult", "is_plain_referencesf"]

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


def is_plain_referencesf(referencesf: Any) -> bool:
    """Tell whether records can be searched for references without asking *referencesf*.

    A layer that transforms records, as compression does, passes a function of its own.
    """
    if referencesf is None:
        return True
    function = getattr(referencesf, "__func__", referencesf)
    names = (getattr(function, "__module__", None), getattr(function, "__qualname__", None))
    return names in _PLAIN
