"""How the messages of errors are put together."""

from collections.abc import Sequence
from typing import Final

from perdure.ids import Oid, Tid, oid_repr, readable_tid_repr

__all__ = ["BTREES_REASONS", "about", "with_details"]

BTREES_REASONS: Final = [
    "both split the bucket",
    "both changed the value of a key, to different values",
    "the committed change deleted a key whose value was changed",
    "the new change deleted a key whose value was changed",
    "both inserted or both deleted a key",
    "both deleted a key",
    "both inserted a key",
    "a key was deleted that the other changed or deleted",
    "a key was deleted that the other changed or deleted",
    "both deleted a key",
    "all keys were deleted, which leaves an empty bucket",
    "both changed an internal node",
    "one of them emptied the bucket",
    "the first key was deleted, which changes the parent node",
]
"""Why two changes of a BTree can't be merged, by the number that `BTrees` gives."""


def about(
    oid: Oid | None = None,
    class_name: str | None = None,
    database: str | None = None,
    **tids: Tid | None,
) -> list[str]:
    """Return what a message says about the object concerned, piece by piece."""
    parts = []
    if oid:
        parts.append(f"oid {oid_repr(oid)}")
    if class_name:
        parts.append(f"class {class_name}")
    if database:
        parts.append(f"database {database!r}")
    for label, tid in tids.items():
        if tid:
            parts.append(f"{label.replace('_', ' ')} {readable_tid_repr(tid)}")
    return parts


def with_details(message: str, parts: Sequence[str], advice: str = "") -> str:
    """Return *message* with *parts* in parentheses and *advice* at its end."""
    details = f" ({', '.join(parts)})" if parts else ""
    return f"{message}{details}{': ' + advice if advice else ''}"
