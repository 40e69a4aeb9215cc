"""Both file storages, and what each reads in a file, in a form that can be compared."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ZODB.Connection
import ZODB.FileStorage
from tests import storing
from tests.storing import oid
from ZODB.utils import load_current

import perdure
from perdure.connection.metadata import TransactionMetaData
from perdure.ids import Tid

__all__ = ["OURS", "PEERS", "THEIRS", "Peer", "commit", "oid", "undo"]


@dataclass(frozen=True)
class Peer:
    """One of the two: how it opens files, and what it tells a storage about a transaction."""

    name: str
    open: Callable[..., Any]
    metadata: Callable[..., Any]

    def __str__(self) -> str:
        return self.name


OURS = Peer("perdure", perdure.FileStorage, TransactionMetaData)
THEIRS = Peer("stock", ZODB.FileStorage.FileStorage, ZODB.Connection.TransactionMetaData)
PEERS = (OURS, THEIRS)


def commit(storage: Any, records: Mapping[int, bytes], *, peer: Peer = OURS, **more: Any) -> Tid:
    """Store records as `storing.commit` does, with the transaction in the peer's form."""
    return storing.commit(storage, records, metadata=peer.metadata, **more)


def undo(storage: Any, tid: Tid, *, peer: Peer = OURS) -> Tid:
    """Undo a transaction; return the tid of the one that does it."""
    return storing.undo(storage, tid, metadata=peer.metadata)


def text(value: bytes) -> str:
    """Return bytes of the manifest's kind: text as UTF-8."""
    return value.decode("utf-8")


def digest(data: bytes | None) -> str | None:
    """Return what the manifest has of a record's data."""
    return None if data is None else hashlib.sha256(data).hexdigest()


def transactions_in(storage: Any) -> list[dict[str, Any]]:
    """Return all transactions and records, as the manifest of the samples describes them."""
    found = []
    transactions = storage.iterator()
    for txn in transactions:
        records = [
            {
                "oid": record.oid.hex(),
                "size": 0 if record.data is None else len(record.data),
                "sha256": digest(record.data),
                "data_txn": record.data_txn.hex() if record.data_txn else None,
            }
            for record in txn
        ]
        found.append(
            {
                "tid": txn.tid.hex(),
                "status": txn.status,
                "user": text(txn.user),
                "description": text(txn.description),
                "extension": txn.extension,
                "records": records,
            }
        )
    transactions.close()
    return found


def current_in(storage: Any) -> dict[str, dict[str, str | None]]:
    """Return the tid and the digest of the current records of all objects that exist."""
    found: dict[str, dict[str, str | None]] = {}
    for key in sorted({record.oid for txn in storage.iterator() for record in txn}):
        try:
            data, tid = load_current(storage, key)
        except KeyError:
            continue
        found[key.hex()] = {"tid": tid.hex(), "sha256": digest(data)}
    return found


def walked(storage: Any) -> dict[str, dict[str, str | None]]:
    """Return the same as `record_iternext` finds it (stock's stops at an undone creation)."""
    found: dict[str, dict[str, str | None]] = {}
    following = None
    while True:
        key, tid, data, following = storage.record_iternext(following)
        found[key.hex()] = {"tid": tid.hex(), "sha256": digest(data)}
        if following is None:
            return found


def all_revisions(storage: Any) -> dict[str, list[Any]]:
    """Return, for every object, all that `history`, `loadSerial` and `loadBefore` tell of it."""
    found: dict[str, list[Any]] = {}
    keys = sorted({record.oid for txn in storage.iterator() for record in txn})
    for key in keys:
        told = []
        for described in storage.history(key, 1000):
            # perdure adds the serial, as the description of the interface has it.
            entry = {name: value for name, value in described.items() if name != "serial"}
            tid = entry["tid"]
            before = _or_missing(storage.loadBefore, key, tid)
            told.append((entry, _or_missing(storage.loadSerial, key, tid), before))
        found[key.hex()] = told
    return found


def _or_missing(method: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return method(*arguments)
    except KeyError:
        return "POSKeyError"


def picture(path: Path, peer: Peer) -> dict[str, Any]:
    """Return everything that a peer reads in a file."""
    storage = peer.open(str(path), read_only=True)
    try:
        return {
            "transactions": transactions_in(storage),
            "current": current_in(storage),
            "revisions": all_revisions(storage),
            "last": storage.lastTransaction(),
            "objects": len(storage),
            "size": storage.getSize(),
        }
    finally:
        storage.close()
