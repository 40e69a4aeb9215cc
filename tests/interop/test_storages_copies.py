"""Whole databases copied between perdure's storages and those of others."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from tests.behaviour.storages import STORAGES, StorageKind
from tests.interop import filepeers

import perdure

KINDS = [kind for kind in STORAGES if kind.name in {"zodb-file", "relstorage-sqlite", "zeo"}]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def other(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """An empty storage of another package."""
    kind: StorageKind = request.param
    with ExitStack() as stack:
        storage = stack.enter_context(kind.opened(tmp_path, "other"))
        yield storage
        storage.close()


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Any]:
    storage = perdure.FileStorage(str(tmp_path / "own.fs"))
    yield storage
    storage.close()


def fill(storage: Any) -> None:
    """Commit a few transactions through perdure's database, without closing the storage."""
    manager = transaction.TransactionManager()
    connection = perdure.DB(storage).open(manager)
    for turn in range(3):
        manager.get().note(f"turn {turn}")
        manager.get().setUser("ada")
        root = connection.root()
        root[f"tree {turn}"] = OOBTree({number: PersistentMapping(n=turn) for number in range(40)})
        manager.commit()
    connection.close()


def told(storage: Any) -> list[Any]:
    """Return what an iteration tells, in a form that can be compared."""
    return [
        (txn.tid, bytes(txn.user), bytes(txn.description), sorted(records(txn)))
        for txn in storage.iterator()
    ]


def records(txn: Any) -> Iterator[tuple[bytes, bytes]]:
    for record in txn:
        yield bytes(record.oid), filepeers.digest(record.data).encode()  # type: ignore[union-attr]


def test_a_copy_into_perdure_has_every_transaction(other: Any, own: Any) -> None:
    fill(other)
    own.copyTransactionsFrom(other)
    assert told(own) == told(other)
    assert len(told(own)) == 4
    copied = perdure.DB(own)
    with copied.transaction() as connection:
        assert [len(connection.root()[f"tree {turn}"]) for turn in range(3)] == [40] * 3


def test_a_copy_out_of_perdure_has_every_transaction(other: Any, own: Any) -> None:
    if not hasattr(other, "copyTransactionsFrom"):
        pytest.skip("a client that can't copy")
    fill(own)
    other.copyTransactionsFrom(own)
    assert told(other) == told(own)
