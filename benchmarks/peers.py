"""The two that are compared. Only one of them is imported into a process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Peer:
    """What a measurement uses of perdure, or of stock ZODB."""

    name: str
    database: Callable[..., Any]
    file_storage: Callable[..., Any]
    index_suffixes: tuple[str, ...]
    """What the files beside the data file that hold the index are called."""


def load_peer(name: str) -> Peer:
    """Import the peer called *name*: `perdure` or `ZODB`."""
    if name == "ZODB":
        import ZODB.FileStorage  # only this peer is to be in memory

        return Peer(name, ZODB.DB, ZODB.FileStorage.FileStorage, (".index",))
    if name == "perdure":
        import perdure  # only this peer is to be in memory

        return Peer(name, perdure.DB, perdure.FileStorage, (".pindex",))
    raise ValueError(f"no peer is called {name!r}: it is `perdure` or `ZODB`")
