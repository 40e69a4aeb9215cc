"""Databases: pools, caches, past states, and what they tell about themselves."""

import datetime as dt
import gc
import logging
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import transaction
from tests.behaviour.models import Node
from zope.interface import Interface, alsoProvides
from zope.interface.verify import verifyObject

import perdure
from perdure import errors, interfaces
from perdure.ids import ROOT_OID, Tid
from perdure.timestamp import TimeStamp

OpenDatabase = Callable[..., perdure.DB]


def manager() -> transaction.TransactionManager:
    return transaction.TransactionManager()


# Opening.


def test_a_path_makes_a_file_storage(tmp_path: Any) -> None:
    for path in (str(tmp_path / "a.fs"), tmp_path / "b.fs"):
        db = perdure.DB(path)
        with db.transaction() as conn:
            conn.root.x = 1
        db.close()
        db = perdure.DB(path)
        with db.transaction() as conn:
            assert conn.root.x == 1
        db.close()


def test_none_makes_a_storage_in_memory() -> None:
    db = perdure.DB(None, name="my memory")
    assert db.getName() == "my memory"
    db.close()


def test_arguments_for_a_made_storage_are_refused() -> None:
    with pytest.raises(TypeError, match="no_such"):
        perdure.DB(perdure.storage.mapping.MappingStorage(), no_such=1)


def test_a_database_that_cannot_be_opened_frees_its_file(tmp_path: Any) -> None:
    class Unopenable(perdure.DB):
        def _create_root(self) -> None:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Unopenable(str(tmp_path / "Data.fs"))
    perdure.DB(str(tmp_path / "Data.fs")).close()


def test_what_was_stored_is_there_after_reopening(kind: Any, tmp_path: Any) -> None:
    if not kind.reopens:
        pytest.skip("a storage in memory")
    with kind.opened(tmp_path, "Data") as storage:
        db = perdure.DB(storage)
        with db.transaction() as conn:
            conn.root.node = Node(x=1)
        db.close()
    with kind.opened(tmp_path, "Data") as storage:
        db = perdure.DB(storage)
        with db.transaction() as conn:
            assert conn.root.node.x == 1
        db.close()


def test_connection_is_a_short_way_to_one() -> None:
    conn = perdure.connection(None)
    conn.root.x = 1
    transaction.commit()
    db = conn.db()
    conn.close()
    with pytest.raises(errors.ConnectionStateError, match="closed"):
        db.open()


def test_a_database_can_be_closed_by_a_block() -> None:
    with perdure.DB(None) as db, db.transaction() as conn:
        conn.root.x = 1
    assert db.closed
    with pytest.raises(ZeroDivisionError), perdure.DB(None) as db:
        raise ZeroDivisionError
    assert db.closed


def test_a_closed_database_opens_no_connections(db: perdure.DB) -> None:
    db.close()
    db.close()
    with pytest.raises(errors.ConnectionStateError, match="'unnamed' is closed"):
        db.open()


def test_closing_a_database_closes_its_connections(db: perdure.DB) -> None:
    tm = manager()
    conn = db.open(tm)
    conn.root.node = Node()
    db.close()
    assert conn.opened is None
    with pytest.raises(errors.ConnectionStateError):
        conn.root()
    tm.abort()


def test_interfaces_are_provided(db: perdure.DB, conn: perdure.Connection) -> None:
    assert interfaces.IDatabase.providedBy(db)
    assert verifyObject(interfaces.IDatabase, db)
    assert verifyObject(interfaces.IConnection, conn)
    assert verifyObject(transaction.interfaces.ISavepointDataManager, conn)
    assert verifyObject(transaction.interfaces.ISynchronizer, conn)


class IMarker(Interface):
    """A marker that an application puts on a database."""


def test_databases_take_markers_and_attributes(db: perdure.DB) -> None:
    alsoProvides(db, IMarker)
    db.application_setting = 1  # type: ignore[attr-defined]
    assert IMarker.providedBy(db)
    assert interfaces.IDatabase.providedBy(db)


# Connections and their pool.


def test_a_closed_connection_is_used_again_with_its_cache(db: perdure.DB) -> None:
    conn = db.open(manager())
    conn.root.node = Node()
    conn.transaction_manager.commit()
    node = conn.root.node
    conn.close()
    again = db.open(manager())
    assert again is conn
    assert again.root.node is node
    again.close()


def test_a_reopened_connection_sees_what_changed_meanwhile(db: perdure.DB) -> None:
    first, second = db.open(manager()), db.open(manager())
    first.root.node = Node(x=1)
    first.transaction_manager.commit()
    second.sync()
    assert second.root.node.x == 1
    second.close()
    first.root.node.x = 2
    first.transaction_manager.commit()
    again = db.open(manager())
    assert again is second
    assert again.root.node.x == 2
    again.close()
    first.close()


def test_the_connection_with_most_in_its_cache_is_taken_first(db: perdure.DB) -> None:
    with db.transaction() as conn:
        conn.root.nodes = [Node() for _ in range(20)]
    full, empty = db.open(manager()), db.open(manager())
    empty.cacheMinimize()
    for node in full.root.nodes:
        node._p_activate()
    full.close()
    empty.close()
    assert db.open(manager()) is full
    full.close()


def test_too_many_connections_are_logged(
    open_db: OpenDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    db = open_db(pool_size=2)
    with caplog.at_level(logging.WARNING, "perdure.db"):
        conns = [db.open(manager()) for _ in range(2)]
        assert not caplog.records
        conns += [db.open(manager()) for _ in range(2)]
        assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
        conns.append(db.open(manager()))
        assert caplog.records[-1].levelname == "CRITICAL"
    assert "5 open connections with a pool_size of 2" in caplog.records[-1].getMessage()
    for conn in conns:
        conn.close()


def test_looking_at_many_moments_one_after_another_is_no_cause_for_a_warning(
    db: perdure.DB, caplog: pytest.LogCaptureFixture
) -> None:
    for number in range(5):
        with db.transaction() as connection:
            connection.root.number = number
        with db.transaction(), caplog.at_level(logging.WARNING, "perdure.db"):
            past = db.open(at=db.lastTransaction())
            assert past.root.number == number
            past.close()
    assert not caplog.records


def test_no_more_than_pool_size_wait_in_the_pool(open_db: OpenDatabase) -> None:
    db = open_db(pool_size=2)
    conns = [db.open(manager()) for _ in range(4)]
    for conn in conns:
        conn.close()
    assert len(db.pool.available) == 2
    db.setPoolSize(1)
    assert len(db.pool.available) == 1
    assert db.getPoolSize() == db.pool.getSize() == 1
    db.pool.setSize(3)
    db.pool.setTimeout(50)
    assert (db.getPoolSize(), db.pool.getTimeout()) == (3, 50)


def test_connections_idle_for_too_long_are_let_go(
    open_db: OpenDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = open_db(pool_timeout=100)
    conns = [db.open(manager()) for _ in range(3)]
    for conn in conns:
        conn.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 99)
    db.open(manager()).close()
    assert len(db.pool.available) == 3
    monkeypatch.setattr(time, "time", lambda: now + 101)
    conn = db.open(manager())
    assert conn in conns
    assert not db.pool.available
    conn.close()


def test_a_connection_dropped_without_closing_is_forgotten(db: perdure.DB) -> None:
    conn = db.open(manager())
    assert len(db.connectionDebugInfo()) == 1
    del conn
    gc.collect()
    assert db.connectionDebugInfo() == []


def test_close_callbacks_are_called_once(db: perdure.DB, caplog: pytest.LogCaptureFixture) -> None:
    called: list[str] = []
    conn = db.open()
    conn.onCloseCallback(lambda: called.append("first"))
    conn.onCloseCallback(lambda: 1 / 0)
    conn.onCloseCallback(lambda: called.append("last"))
    conn.close()
    assert called == ["first", "last"]
    assert "Close callback failed" in caplog.text
    db.open().close()
    assert called == ["first", "last"]


def test_a_connection_with_changes_cannot_be_closed(db: perdure.DB) -> None:
    conn = db.open()
    conn.root.x = 1
    with pytest.raises(errors.ConnectionStateError, match="Cannot close a connection joined"):
        conn.close()
    transaction.abort()
    conn.close()


def test_a_connection_can_be_closed_in_another_thread(db: perdure.DB) -> None:
    conn = db.open()
    thread = threading.Thread(target=conn.close)
    thread.start()
    thread.join()
    assert conn.opened is None
    assert db.open() is conn
    conn.close()


def test_each_thread_gets_a_connection_of_its_own(db: perdure.DB) -> None:
    with db.transaction() as conn:
        conn.root.nodes = [Node(x=0) for _ in range(4)]
    failures: list[BaseException] = []

    def work(index: int) -> None:
        try:
            conn = db.open()
            for _ in range(10):
                conn.root.nodes[index].x += 1
                transaction.commit()
            conn.close()
        except BaseException as error:  # noqa: BLE001 - whatever fails the thread fails the test
            failures.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    with db.transaction() as conn:
        assert [node.x for node in conn.root.nodes] == [10] * 4


def test_debug_information_is_shown_until_the_connection_is_closed(db: perdure.DB) -> None:
    conn = db.open()
    conn.setDebugInfo("serving", "/index")
    assert conn.getDebugInfo() == ("serving", "/index")
    (info,) = db.connectionDebugInfo()
    assert "/index" in info["info"]
    assert info["before"] is None
    assert info["opened"].endswith("s)")
    conn.close()
    assert conn.getDebugInfo() == ()
    (info,) = db.connectionDebugInfo()
    assert info["opened"] is None


def test_an_activity_monitor_is_told_of_closed_connections(db: perdure.DB) -> None:
    class Monitor:
        def __init__(self) -> None:
            self.counts: list[tuple[int, int]] = []

        def closedConnection(self, conn: perdure.Connection) -> None:
            self.counts.append(conn.getTransferCounts(True))

    monitor = Monitor()
    db.setActivityMonitor(monitor)
    assert db.getActivityMonitor() is monitor
    with db.transaction() as conn:
        conn.root.node = Node()
    assert monitor.counts[0][1] >= 2


# What others replace.


def test_a_method_replaced_on_a_connections_storage_is_called(conn: perdure.Connection) -> None:
    stored: list[bytes] = []
    loaded: list[bytes] = []
    original_store, original_load = conn._storage.store, conn._storage.load

    def store(oid: bytes, *args: Any) -> Any:
        stored.append(oid)
        return original_store(oid, *args)

    def load(oid: bytes, *args: Any) -> Any:
        loaded.append(oid)
        return original_load(oid, *args)

    conn._storage.store = store
    conn._storage.load = load
    node = conn.root.node = Node()
    conn.transaction_manager.commit()
    conn.cacheMinimize()
    node._p_activate()
    assert sorted(stored) == [ROOT_OID, node._p_oid]
    assert loaded[-1] == node._p_oid
    savepoint_stored: list[bytes] = []
    conn.transaction_manager.begin()
    node.x = 1
    conn.transaction_manager.savepoint()
    original_savepoint_store = conn._storage.store

    def savepoint_store(oid: bytes, *args: Any) -> None:
        savepoint_stored.append(oid)
        original_savepoint_store(oid, *args)

    conn._storage.store = savepoint_store
    node.x = 2
    conn.transaction_manager.savepoint()
    assert savepoint_stored == [node._p_oid]


def test_caches_can_be_dropped_as_a_whole(db: perdure.DB) -> None:
    if not hasattr(db.storage, "new_instance"):
        conn = db.open(manager())
        conn.root()._p_activate()
        db.invalidateCache()
        assert conn.root()._p_changed is False, "not in the middle of a transaction"
        conn.sync()
        assert conn.root()._p_changed is None
        conn.close()


# Caches.


def test_caches_shrink_to_their_size(open_db: OpenDatabase) -> None:
    db = open_db(cache_size=10)
    with db.transaction() as conn:
        conn.root.nodes = [Node(x=number) for number in range(50)]
    assert db.getCacheSize() == 10
    with db.transaction() as conn:
        assert sum(node.x for node in conn.root.nodes) == sum(range(50))
        assert conn._cache.cache_non_ghost_count > 50
        conn.cacheGC()
        assert conn._cache.cache_non_ghost_count == 10
        db.setCacheSize(5)
        conn.cacheGC()
        assert db.cacheSize() == 5
    assert db.getCacheSize() == 5


def test_caches_shrink_to_their_size_in_bytes(open_db: OpenDatabase) -> None:
    db = open_db(cache_size_bytes=20_000)
    with db.transaction() as conn:
        conn.root.nodes = [Node(text=str(number) * 1000) for number in range(50)]
    assert db.getCacheSizeBytes() == 20_000
    with db.transaction() as conn:
        for node in conn.root.nodes:
            node._p_activate()
        conn.cacheGC()
        assert 1 < conn._cache.cache_non_ghost_count < 20
        db.setCacheSizeBytes(5_000)
        conn.cacheGC()
        assert conn._cache.cache_non_ghost_count < 8
    assert db.getCacheSizeBytes() == 5_000


def test_cache_statistics(db: perdure.DB) -> None:
    with db.transaction() as conn:
        conn.root.nodes = [Node(id=str(number)) for number in range(3)]
    conn = db.open()
    nodes = conn.root.nodes
    nodes[0]._p_activate()
    nodes[1]._p_deactivate()
    nodes[2].x = 1
    assert db.cacheDetail() == [
        ("persistent.mapping.PersistentMapping", 1),
        ("tests.behaviour.models.Node", 3),
    ]
    (size,) = db.cacheDetailSize()
    assert size["connection"] == repr(conn)
    assert size["ngsize"] == db.cacheSize() == conn._cache.cache_non_ghost_count
    assert size["size"] == len(conn._cache)
    details = {d["oid"]: d for d in db.cacheExtremeDetail()}
    described = [details[node._p_oid] for node in nodes]
    assert [d["state"] for d in described] == [False, None, True]
    assert described[0]["id"] == "0"
    assert {d["klass"] for d in described} == {"tests.behaviour.models.Node"}
    assert {d["conn_no"] for d in described} == {1}
    transaction.abort()
    for drop in (db.cacheMinimize, db.cacheFullSweep):
        nodes[0]._p_activate()
        assert db.cacheSize() > 0
        drop()
        assert db.cacheSize() == 0
        assert nodes[0]._p_changed is None
    conn.close()


# The past.


def test_a_past_state_can_be_opened(db: perdure.DB) -> None:
    tids = []
    for value in range(3):
        with db.transaction() as conn:
            conn.root.x = value
            conn.root.node = Node(x=value)
        tids.append(db.lastTransaction())
    for value, tid in enumerate(tids):
        conn = db.open(manager(), at=tid)
        assert (conn.root.x, conn.root.node.x) == (value, value)
        assert conn.isReadOnly()
        conn.close()
    conn = db.open(manager(), before=tids[1])
    assert conn.root.x == 0
    conn.close()


def test_a_past_state_can_be_opened_by_time(db: perdure.DB) -> None:
    with db.transaction() as conn:
        conn.root.x = 1
    first = db.lastTransaction()
    with db.transaction() as conn:
        conn.root.x = 2
    then = dt.datetime.fromtimestamp(TimeStamp(first).timeTime(), dt.timezone.utc)
    for moment in (
        then + dt.timedelta(microseconds=1),
        (then + dt.timedelta(microseconds=1)).replace(tzinfo=None),
        (then + dt.timedelta(microseconds=1)).astimezone(dt.timezone(dt.timedelta(hours=5))),
    ):
        conn = db.open(manager(), at=moment)
        assert conn.root.x == 1
        conn.close()


def test_a_past_state_cannot_be_changed(db: perdure.DB) -> None:
    with db.transaction() as conn:
        conn.root.node = Node(x=1)
    tm = manager()
    conn = db.open(tm, at=db.lastTransaction())
    conn.root.node.x = 2
    with pytest.raises(errors.ReadOnlyHistoryError):
        tm.commit()
    tm.abort()
    assert conn.root.node.x == 1
    with pytest.raises(errors.ReadOnlyError):
        conn.add(Node())
    tm.abort()
    conn.close()


def test_connections_to_the_same_past_are_used_again(open_db: OpenDatabase) -> None:
    db = open_db(historical_pool_size=2, historical_cache_size=7, historical_timeout=50)
    with db.transaction() as conn:
        conn.root.x = 1
    tid = db.lastTransaction()
    with db.transaction() as conn:
        conn.root.x = 2
    past = db.open(manager(), at=tid)
    assert past._cache.cache_size == 7
    past.close()
    assert db.open(manager(), at=tid) is past
    past.close()
    other = db.open(manager(), at=db.lastTransaction())
    assert other is not past
    assert other.before != past.before
    other.close()
    assert db.getHistoricalPoolSize() == 2
    assert db.getHistoricalCacheSize() == 7
    assert db.getHistoricalTimeout() == 50
    db.setHistoricalCacheSize(8)
    assert past._cache.cache_size == 8
    db.setHistoricalCacheSizeBytes(9000)
    assert db.getHistoricalCacheSizeBytes() == 9000
    db.setHistoricalPoolSize(1)
    assert len(db.historical_pool.available) == 1
    db.setHistoricalTimeout(-1)
    assert len(db.historical_pool.available) == 0


def test_the_future_cannot_be_opened(db: perdure.DB) -> None:
    with pytest.raises(ValueError, match="future"):
        db.open(at=dt.datetime.now(dt.timezone.utc) + dt.timedelta(days=1))
    with pytest.raises(ValueError, match="one of"):
        db.open(at=db.lastTransaction(), before=db.lastTransaction())
    with pytest.raises(ValueError, match="transaction id"):
        db.open(at=Tid(b"short"))


# What the storage knows.


def test_a_database_describes_its_storage(db: perdure.DB) -> None:
    with db.transaction() as conn:
        conn.root.node = Node()
    assert db.objectCount() == len(db.storage)
    assert db.getName() == db.storage.getName()
    assert db.getSize() == db.storage.getSize()
    assert db.storage is db._storage
    assert len(db.new_oid()) == 8


def test_history_tells_of_revisions(db: perdure.DB) -> None:
    for value in range(3):
        with db.transaction(f"setting {value}") as conn:
            conn.root.x = value
    revisions = db.history(ROOT_OID, 2)
    assert [revision["description"] for revision in revisions] == ["setting 2", "setting 1"]
    assert revisions[0]["tid"] == db.lastTransaction()
    assert revisions[0]["size"] > 0
    assert len(db.history(ROOT_OID)) == 1


def test_what_was_done_can_be_undone(db: perdure.DB) -> None:
    if not db.supportsUndo():
        assert db.undoLog(0, 10) == ()
        assert db.undoInfo() == ()
        with pytest.raises(NotImplementedError):
            db.undo(b"any")
        return
    with db.transaction("one") as conn:
        conn.root.node = Node(x=1)
    with db.transaction("two") as conn:
        conn.root.node.x = 2
    conn = db.open()
    assert conn.root.node.x == 2
    newest = db.undoInfo()[0]
    assert newest["description"] == "two"
    assert db.undoLog(0, 1)[0]["id"] == newest["id"]
    db.undo(newest["id"])
    transaction.commit()
    assert conn.root.node.x == 1
    conn.close()


def test_packing_drops_old_revisions(db: perdure.DB) -> None:
    for value in range(3):
        with db.transaction() as conn:
            conn.root.node = Node(x=value)
    try:
        db.pack()
    except errors.Unsupported:
        pytest.skip("this storage can't be packed yet")
    with db.transaction() as conn:
        assert conn.root.node.x == 2
    assert len(db.history(ROOT_OID, 10)) <= 1
