"""A method that somebody replaced is the one that is called, native or not."""

from pathlib import Path
from typing import Any

import pytest
import transaction
from persistent.mapping import PersistentMapping

import perdure
from perdure.ids import Oid, Tid


class Counting(perdure.FileStorage):
    """Counts what goes through it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.counts = {"load": 0, "store": 0, "new_oid": 0, "tpc_finish": 0}

    def load(self, oid: Oid, version: str = "") -> tuple[bytes, Tid]:
        self.counts["load"] += 1
        return super().load(oid, version)

    def loadBefore(self, oid: Oid, tid: Tid) -> tuple[bytes, Tid, Tid | None] | None:
        self.counts["load"] += 1
        return super().loadBefore(oid, tid)

    def store(self, oid: Oid, serial: Tid, data: bytes, version: str, transaction: Any) -> Any:
        self.counts["store"] += 1
        return super().store(oid, serial, data, version, transaction)

    def new_oid(self) -> Oid:
        self.counts["new_oid"] += 1
        return super().new_oid()

    def tpc_finish(self, transaction: Any, f: Any = None) -> Tid:
        self.counts["tpc_finish"] += 1
        return super().tpc_finish(transaction, f)


def test_the_methods_of_a_subclass_are_called(tmp_path: Path) -> None:
    storage = Counting(str(tmp_path / "data.fs"))
    database = perdure.DB(storage)
    storage.counts = dict.fromkeys(storage.counts, 0)
    with database.transaction() as connection:
        connection.root()["a"] = PersistentMapping(n=1)
    assert storage.counts["store"] == 2
    assert storage.counts["new_oid"] >= 1
    assert storage.counts["tpc_finish"] == 1
    database.cacheMinimize()
    loaded = storage.counts["load"]
    with database.transaction() as connection:
        assert connection.root()["a"]["n"] == 1
    assert storage.counts["load"] >= loaded + 2
    database.close()


@pytest.mark.parametrize("name", ["store", "load", "tpc_vote", "tpc_finish"])
def test_a_method_replaced_on_a_connections_view_is_called(name: str) -> None:
    database = perdure.DB(None)
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    connection.root()["a"] = PersistentMapping(n=1)
    manager.commit()
    view, called = connection._storage, []
    original = getattr(view, name)

    def replacement(*args: Any) -> Any:
        called.append(args)
        return original(*args)

    setattr(view, name, replacement)
    connection.cacheMinimize()
    connection.root()["a"]["n"] += 1
    manager.commit()
    assert called
    assert connection.root()["a"]["n"] == 2
    manager.abort()
    database.close()


def test_an_error_raised_by_a_replaced_method_aborts_the_transaction() -> None:
    database = perdure.DB(None)
    manager = transaction.TransactionManager()
    connection = database.open(manager)

    def refuse(*_args: Any) -> None:
        raise ValueError("no more records today")

    connection._storage.store = refuse
    connection.root()["a"] = 1
    with pytest.raises(ValueError, match="today"):
        manager.commit()
    manager.abort()
    del connection._storage.store
    assert "a" not in connection.root()
    connection.root()["a"] = 2
    manager.commit()
    assert connection.root()["a"] == 2
    manager.abort()
    database.close()
