"""Those that are compared. Only one of them is imported into a process."""

import importlib.util
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = [
    "DATABASES",
    "FILES",
    "OWN",
    "PEERS",
    "RELSTORAGE",
    "SHELVE",
    "SQLALCHEMY",
    "STOCK",
    "ZEO",
    "Peer",
    "is_installed",
    "load_peer",
]

STOCK, OWN = "ZODB", "perdure"
ZEO, RELSTORAGE, SQLALCHEMY, SHELVE = "ZEO", "RelStorage", "SQLAlchemy", "shelve"

FILES = (STOCK, OWN)
"""Those with a data file in ZODB's format."""
DATABASES = (*FILES, ZEO, RELSTORAGE)
"""Those with ZODB's programming interface."""
PEERS = (*DATABASES, SQLALCHEMY, SHELVE)

_MODULES = {
    STOCK: "ZODB",
    OWN: "perdure",
    ZEO: "ZEO",
    RELSTORAGE: "relstorage",
    SQLALCHEMY: "sqlalchemy",
    SHELVE: "shelve",
}


def _no_storage(*_arguments: Any, **_options: Any) -> Any:
    raise AssertionError("this peer has no storage with ZODB's interface")


@dataclass(frozen=True)
class Peer:
    """What a measurement uses of a peer."""

    name: str
    storage: Callable[..., Any] = _no_storage
    """Opens the storage at a path; takes `read_only` and `blob_dir`."""
    database: Callable[..., Any] = _no_storage
    references: Callable[[bytes], Any] = _no_storage
    """Gives the oids that a record refers to."""
    index_suffix: str = ""
    """What the file beside the data file that holds the index is called."""


def is_installed(name: str) -> bool:
    """Tell whether the peer called *name* can be imported."""
    return importlib.util.find_spec(_MODULES[name]) is not None


def load_peer(name: str, until: ExitStack) -> Peer:
    """Import the peer called *name*; what it keeps running is stopped at the end of *until*."""
    if name == OWN:
        return _own()
    if name == STOCK:
        return _stock()
    if name == ZEO:
        from benchmarks.peers import zeo  # only one peer is to be in memory, here and below

        return zeo.peer(until)
    if name == RELSTORAGE:
        from benchmarks.peers import relational

        return relational.peer()
    if name in {SQLALCHEMY, SHELVE}:
        importlib.import_module(_MODULES[name])
        return Peer(name)
    raise ValueError(f"no peer is called {name!r}; there are: {', '.join(PEERS)}")


def _stock() -> Peer:
    import ZODB.FileStorage  # only this peer is to be in memory
    import ZODB.serialize

    def storage(path: Path, **options: Any) -> Any:
        return ZODB.FileStorage.FileStorage(str(path), **options)

    return Peer(STOCK, storage, ZODB.DB, ZODB.serialize.referencesf, ".index")


def _own() -> Peer:
    import perdure  # only this peer is to be in memory
    from perdure.serialize import referencesf

    def storage(path: Path, **options: Any) -> Any:
        return perdure.FileStorage(str(path), **options)

    return Peer(OWN, storage, perdure.DB, referencesf, ".pindex")
