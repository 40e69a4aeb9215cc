"""How the messages of errors are put together."""

from collections.abc import Sequence
from typing import Any, Final

from perdure.ids import Oid, Tid, oid_repr, readable_tid_repr

__all__ = [
    "BTREES_REASONS",
    "about",
    "encoded_message",
    "encoding_of",
    "locked_message",
    "no_object_message",
    "undo_message",
    "unflagged_message",
    "with_details",
]

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


def no_object_message(args: Sequence[Any], parts: list[str]) -> str:
    """Return what isn't there, from the arguments of a POSKeyError: an oid, and details."""
    key = oid_repr(args[0]) if args else "unknown object"
    details = [each for each in args[1:] if not isinstance(each, dict)]
    tids = [part for each in details if isinstance(each, bytes) for part in about(tid=Tid(each))]
    parts = parts + tids
    # A detail in words says what is missing: a blob's file, say, of an object that is there.
    told = "; ".join(str(each) for each in details if not isinstance(each, bytes))
    return with_details(key, parts, told or ("there is no such object" if parts else ""))


def undo_message(oid: Oid | None, reason: str | None) -> str:
    """Return what an object keeps from being undone, and why."""
    of = f" {oid_repr(oid)}" if oid is not None else ""
    return f"Undo error{of}" + (f": {reason}" if reason else "")


def unflagged_message(changes: Sequence[tuple[Oid, str, str]], database: str) -> str:
    """Return which attributes changed without notice, and what to do."""
    lines = [f"{name}.{attribute} (oid {oid_repr(oid)})" for oid, name, attribute in changes]
    where = f" in database {database!r}" if database else ""
    return (
        f"changed without notice{where}: {', '.join(lines)}: set _p_changed = True on the "
        "object after changing a plain list, dict or set in it, "
        "or use PersistentList, PersistentMapping or a BTree"
    )


def locked_message(path: str | None, pid: int | None) -> str:
    """Return who has a database open, and what to do."""
    holder = f"process {pid}" if pid else "another process"
    return f"{path} is locked by {holder}: stop it first, or open the database with read_only=True"


_ENCODINGS: Final = {
    b".z": "compressed with zlib",
    b".s": "compressed with Zstandard",
    b".e": "encrypted",
}
"""By what the records of layers begin with, which no pickle does."""


def encoding_of(data: bytes | None) -> str | None:
    """Return what was done to a record that looks as if a layer had written it, else None."""
    return _ENCODINGS.get((data or b"")[:2])


def encoded_message(encoding: str) -> str:
    """Return what a record looks like, and what it can be read with."""
    return (
        f"it looks {encoding}: give what describes the database with its layers, a perdure.toml or "
        "ZConfig file, in place of its data file"
    )
