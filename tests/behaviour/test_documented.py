"""What ZODB's reference documents of databases and storages, name by name."""

import inspect
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.behaviour.models import Node

import perdure
from perdure import Oid, errors
from perdure.interfaces import (
    IBlobStorage,
    IStorage,
    IStorageCurrentRecordIteration,
    IStorageIteration,
    IStorageRecordInformation,
    IStorageTransactionInformation,
    IStorageUndoable,
)
from perdure.storage.demo import DemoStorage

# Constructors.

FOREVER = 2147483648
ARGUMENTS: list[tuple[Callable[..., Any], dict[str, Any]]] = [
    (
        perdure.DB,
        {
            "pool_size": 7,
            "pool_timeout": FOREVER,
            "cache_size": 400,
            "cache_size_bytes": 0,
            "historical_pool_size": 3,
            "historical_cache_size": 1000,
            "historical_cache_size_bytes": 0,
            "historical_timeout": 300,
            "database_name": "unnamed",
            "databases": None,
            "xrefs": True,
            "large_record_size": 16777216,
        },
    ),
    (perdure.Connection, {"cache_size": 400, "before": None, "cache_size_bytes": 0}),
    (
        perdure.FileStorage,
        {
            "create": False,
            "read_only": False,
            "stop": None,
            "quota": None,
            "pack_gc": True,
            "pack_keep_old": True,
            "packer": None,
            "blob_dir": None,
        },
    ),
    (perdure.MappingStorage, {"name": "MappingStorage"}),
    (
        DemoStorage,
        {
            "name": None,
            "base": None,
            "changes": None,
            "close_base_on_close": None,
            "close_changes_on_close": None,
        },
    ),
    (perdure.DB.open, {"transaction_manager": None, "at": None, "before": None}),
    (perdure.DB.pack, {"t": None, "days": 0}),
    (perdure.DB.history, {"size": 1}),
    (perdure.DB.transaction, {"note": None}),
    (perdure.DB.undo, {"txn": None}),
    (perdure.DB.undoMultiple, {"txn": None}),
    (perdure.Connection.close, {"primary": True}),
    (perdure.FileStorage.undoInfo, {"first": 0, "last": -20, "specification": None}),
    (perdure.FileStorage.iterator, {"start": None, "stop": None}),
    (perdure.FileStorage.record_iternext, {"next": None}),
]


@pytest.mark.parametrize(("called", "documented"), ARGUMENTS)
def test_arguments_have_the_documented_names_order_and_defaults(
    called: Callable[..., Any], documented: dict[str, Any]
) -> None:
    found = {
        name: parameter.default
        for name, parameter in inspect.signature(called).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    assert {name: found[name] for name in documented} == documented
    assert [name for name in found if name in documented] == list(documented)


def test_arguments_for_the_storage_go_to_the_one_that_is_made(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    perdure.DB(str(path)).close()
    with perdure.DB(str(path), read_only=True, blob_dir=None) as db:
        assert db.storage.isReadOnly()
    with perdure.DB(None, name="mine") as db:
        assert db.getName() == "mine"


# Databases.

SETTINGS = [
    ("CacheSize", "cache_size", 400),
    ("CacheSizeBytes", "cache_size_bytes", 0),
    ("PoolSize", "pool_size", 7),
    ("HistoricalCacheSize", "historical_cache_size", 1000),
    ("HistoricalCacheSizeBytes", "historical_cache_size_bytes", 0),
    ("HistoricalPoolSize", "historical_pool_size", 3),
    ("HistoricalTimeout", "historical_timeout", 300),
]


@pytest.mark.parametrize(("name", "argument", "default"), SETTINGS)
def test_a_setting_is_given_told_and_changed(name: str, argument: str, default: int) -> None:
    with perdure.DB(None) as db:
        assert getattr(db, f"get{name}")() == default
    given: dict[str, Any] = {argument: 11}
    with perdure.DB(None, **given) as db:
        assert getattr(db, f"get{name}")() == 11
        getattr(db, f"set{name}")(12)
        assert getattr(db, f"get{name}")() == 12


def test_a_pool_that_is_made_larger_or_smaller_warns_later_or_earlier(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with perdure.DB(None, pool_size=1) as db, caplog.at_level(logging.WARNING, "perdure.db"):
        db.setPoolSize(2)
        opened = [db.open(transaction.TransactionManager()) for _ in range(2)]
        assert not caplog.records
        db.setPoolSize(1)
        opened.append(db.open(transaction.TransactionManager()))
        assert caplog.records[-1].levelname == "CRITICAL"
        for connection in opened:
            connection.close()


def test_connections_that_are_open_follow_the_cache_size_and_those_of_the_past_theirs() -> None:
    with perdure.DB(None) as db:
        with db.transaction() as connection:
            connection.root.nodes = [Node(x=number) for number in range(40)]
        for at, resize in (
            (None, db.setCacheSize),
            (db.lastTransaction(), db.setHistoricalCacheSize),
        ):
            connection = db.open(transaction.TransactionManager(), at=at)
            assert sum(node.x for node in connection.root.nodes) == sum(range(40))
            resize(6)
            connection.cacheGC()
            assert connection._cache.cache_non_ghost_count == 6
            connection.close()


def test_caches_of_the_past_shrink_to_their_size_in_bytes() -> None:
    with perdure.DB(None) as db:
        with db.transaction() as connection:
            connection.root.nodes = [Node(text=str(number) * 1000) for number in range(40)]
        past = db.open(transaction.TransactionManager(), at=db.lastTransaction())
        for node in past.root.nodes:
            node._p_activate()
        db.setHistoricalCacheSizeBytes(5_000)
        past.cacheGC()
        assert past._cache.cache_non_ghost_count < 10
        past.close()


def test_undo_is_described_by_slices_filters_and_specifications(tmp_path: Path) -> None:
    with perdure.DB(str(tmp_path / "data.fs")) as db:
        assert db.supportsUndo()
        for number in range(5):
            manager = transaction.TransactionManager()
            connection = db.open(manager)
            connection.root.x = number
            manager.get().setUser("amk" if number % 2 else "other")
            manager.get().note(f"change {number}")
            manager.get().setExtendedInfo("number", number)
            manager.commit()
            connection.close()
        everything = db.undoLog(0, sys.maxsize)
        assert [each["description"] for each in everything[:2]] == ["change 4", "change 3"]
        assert everything == sorted(everything, key=lambda each: each["time"], reverse=True)
        assert {"id", "time", "user_name", "description", "number"} <= set(everything[0])
        assert db.undoLog(1, 3) == everything[1:3] == db.undoLog(1, -2)
        by_amk = [each for each in everything if each["user_name"].endswith("amk")]
        assert len(by_amk) == 2
        assert db.undoLog(0, -20, lambda each: each["user_name"].endswith(b"amk")) == by_amk
        user = by_amk[0]["user_name"].encode()
        assert db.undoInfo(0, -20, {"user_name": user}) == by_amk
        assert db.undoInfo(specification={"number": 3, "description": b"change 3"}) == by_amk[:1]
        assert db.undoInfo(specification={"number": 3, "description": b"change 4"}) == []
        db.undoMultiple([each["id"] for each in everything[:2]])
        transaction.commit()
        with db.transaction() as connection:
            assert connection.root.x == 2


# Storages.


def test_a_quota_is_an_error_of_its_own(tmp_path: Path) -> None:
    with perdure.DB(str(tmp_path / "data.fs"), quota=2_000) as db:
        with pytest.raises(errors.FileStorageQuotaError), db.transaction() as connection:
            connection.root.text = "x" * 3_000
        with db.transaction() as connection:
            connection.root.text = "fits"


def test_a_storage_tells_what_it_provides_and_so_do_its_transactions(tmp_path: Path) -> None:
    storage = perdure.FileStorage(str(tmp_path / "data.fs"), blob_dir=str(tmp_path / "blobs"))
    provided = (
        IBlobStorage,
        IStorage,
        IStorageCurrentRecordIteration,
        IStorageIteration,
        IStorageUndoable,
    )
    assert all(interface.providedBy(storage) for interface in provided)
    with perdure.DB(storage) as db:
        with db.transaction("second") as connection:
            connection.root.x = 1
        first, second = storage.iterator()
        assert [txn.tid for txn in storage.iterator(second.tid)] == [second.tid]
        assert [txn.tid for txn in storage.iterator(None, first.tid)] == [first.tid]
        assert IStorageTransactionInformation.providedBy(second)
        (record,) = second
        assert IStorageRecordInformation.providedBy(record)
        assert (record.oid, record.tid) == (bytes(8), second.tid)
        assert (record.data, record.tid) == storage.load(Oid(bytes(8)))
        assert record.data_txn is None
        assert len(storage) == 1
        assert Path(storage.temporaryDirectory()).is_dir()
        assert isinstance(storage.sortKey(), str)


def test_every_current_record_is_given_once() -> None:
    with perdure.DB(None) as db:
        with db.transaction() as connection:
            connection.root.nodes = [Node(x=number) for number in range(5)]
        following, given = None, []
        while True:
            oid, tid, data, following = db.storage.record_iternext(following)
            assert db.storage.load(oid) == (data, tid)
            given.append(oid)
            if following is None:
                break
        assert given == sorted(set(given))
        assert len(given) == len(db.storage) == 6


# Connections.


def delete(storage: Any, oid: Any, serial: Any) -> None:
    txn = transaction.Transaction()
    storage.tpc_begin(txn)
    storage.deleteObject(oid, serial, txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)


def test_an_object_that_was_lost_is_replaced_under_its_oid(tmp_path: Path) -> None:
    path = str(tmp_path / "data.fs")
    with perdure.DB(path) as db:
        with db.transaction() as connection:
            connection.root.node = node = Node(x=1)
        delete(db.storage, node._p_oid, node._p_serial)
        db.pack()
    oid = node._p_oid
    with perdure.DB(path) as db:
        connection = db.open()
        with pytest.raises(errors.POSKeyError):
            connection.get(oid)
        replacement = perdure.Persistent()
        replacement._p_oid = oid
        replacement._p_jar = connection
        connection._register(replacement)
        connection._added[oid] = replacement
        transaction.commit()
        connection.close()
    with perdure.DB(path) as db, db.transaction() as connection:
        assert type(connection.get(oid)) is perdure.Persistent
