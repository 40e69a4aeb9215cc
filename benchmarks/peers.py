"""The two that are compared. Only one of them is imported into a process."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

STOCK, OWN = "ZODB", "perdure"
PEERS = (STOCK, OWN)


@dataclass(frozen=True)
class Peer:
    """What a measurement uses of perdure, or of stock ZODB."""

    name: str
    database: Callable[..., Any]
    file_storage: Callable[..., Any]
    references: Callable[[bytes], Any]
    """Gives the oids that a record refers to."""
    index_suffix: str
    """What the file beside the data file that holds the index is called."""


def load_peer(name: str) -> Peer:
    """Import the peer called *name*: `perdure` or `ZODB`."""
    if name == STOCK:
        import ZODB.FileStorage  # only this peer is to be in memory
        import ZODB.serialize

        storage = ZODB.FileStorage.FileStorage
        return Peer(name, ZODB.DB, storage, ZODB.serialize.referencesf, ".index")
    if name == OWN:
        import perdure  # only this peer is to be in memory
        from perdure.serialize import referencesf

        return Peer(name, perdure.DB, perdure.FileStorage, referencesf, ".pindex")
    raise ValueError(f"no peer is called {name!r}: it is `perdure` or `ZODB`")
