"""How the messages of errors are put together."""

from collections.abc import Sequence

from perdure.ids import Oid, Tid, oid_repr, readable_tid_repr

__all__ = ["about", "with_details"]


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
