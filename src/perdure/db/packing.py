"""Packing a member of a collection without dropping what only others refer to."""

from collections.abc import Callable, Mapping
from typing import Any

from perdure.errors import Unsupported

__all__ = ["pack_keeping_garbage"]


def pack_keeping_garbage(
    storage: Any, members: Mapping[str, Any], until: float, references: Callable[..., Any]
) -> None:
    """Drop revisions that were no longer current at *until* (seconds since the epoch).

    No object is dropped: the other *members* of the collection may refer to it, which
    this storage alone can't know.  Raises Unsupported for one that can't be told.
    """
    try:
        # IStorage's pack has no such argument, and no interface declares those that have.
        storage.pack(until, references, gc=False)
    except TypeError as error:
        if "keyword argument 'gc'" not in str(error):
            raise
        raise Unsupported(
            f"{storage.getName()} can't be told to pack without dropping objects that only other "
            f"members of the collection ({', '.join(sorted(members))}) refer to. If it is set up "
            "to keep them anyhow, call the storage's own pack(time, referencesf)"
        ) from error
