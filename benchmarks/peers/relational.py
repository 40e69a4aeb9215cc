"""RelStorage on SQLite, with histories kept: ZODB's objects in a relational database."""

import logging
from pathlib import Path
from typing import Any

import ZODB
import ZODB.FileStorage
import ZODB.serialize
from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
from relstorage.options import Options
from relstorage.storage import RelStorage

from benchmarks.peers import RELSTORAGE, Peer


def peer() -> Peer:
    """Return the peer."""
    return Peer(RELSTORAGE, _storage, ZODB.DB, ZODB.serialize.referencesf)


def _storage(path: Path, **options: Any) -> Any:
    if "blob_dir" in options:
        options["shared_blob_dir"] = True
    chosen = Options(keep_history=True, **options)
    directory = path.with_suffix(".sqlite")
    directory.mkdir(exist_ok=True)
    return RelStorage(Sqlite3Adapter(str(directory), {}, options=chosen), options=chosen)


def fill(path: Path) -> None:
    """Copy what the data file at *path* has into the relational database beside it."""
    # It warns of what it can't know: how many transactions there are to copy.
    logging.getLogger("relstorage").setLevel(logging.ERROR)
    source = ZODB.FileStorage.FileStorage(str(path), read_only=True)
    target = _storage(path)
    target.copyTransactionsFrom(source)
    source.close()
    target.close()
