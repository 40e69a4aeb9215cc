"""Savepoints: parts of a transaction that can be taken back, and memory they set free."""

from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from tests.behaviour.models import Node

import perdure
from perdure import errors
from perdure.connection import savepoint as savepoint_module


def commit(conn: perdure.Connection) -> None:
    conn.transaction_manager.commit()


def savepoint(conn: perdure.Connection) -> Any:
    return conn.transaction_manager.savepoint()


def test_what_follows_a_savepoint_can_be_taken_back(db: perdure.DB) -> None:
    with db.transaction() as conn:
        conn.root.x = 1
        conn.root.y = 0
        point = savepoint(conn)
        conn.root.y = 2
        point.rollback()
    with db.transaction() as conn:
        assert [conn.root.x, conn.root.y] == [1, 0]


def test_a_rollback_restores_objects_old_and_new(conn: perdure.Connection) -> None:
    old = conn.root.old = Node(x=1)
    commit(conn)
    old.x = 2
    new = conn.root.new = Node(x=1)
    point = savepoint(conn)
    old.x = 3
    new.x = 2
    late = conn.root.late = Node(x=1)
    point.rollback()
    assert (old.x, new.x) == (2, 1)
    assert not hasattr(conn.root, "late")
    assert late._p_jar is None
    assert late.x == 1
    commit(conn)
    conn.cacheMinimize()
    assert (old.x, new.x) == (2, 1)


def test_savepoints_nest(conn: perdure.Connection) -> None:
    node = conn.root.node = Node(x=0)
    points = []
    for value in range(1, 5):
        node.x = value
        points.append(savepoint(conn))
    node.x = 99
    points[3].rollback()
    assert node.x == 4
    points[1].rollback()
    assert node.x == 2
    points[1].rollback()
    assert node.x == 2
    with pytest.raises(transaction.interfaces.InvalidSavepointRollbackError):
        points[2].rollback()
    points[0].rollback()
    assert node.x == 1
    commit(conn)
    conn.cacheMinimize()
    assert node.x == 1


def test_an_object_created_after_a_rollback_takes_its_place(conn: perdure.Connection) -> None:
    point = savepoint(conn)
    conn.root.first = Node(x=1)
    savepoint(conn)
    point.rollback()
    conn.root.second = Node(x=2)
    commit(conn)
    conn.cacheMinimize()
    assert conn.root.second.x == 2
    assert not hasattr(conn.root, "first")


def test_an_abort_takes_savepoints_back_too(conn: perdure.Connection) -> None:
    old = conn.root.old = Node(x=1)
    commit(conn)
    old.x = 2
    new = conn.root.new = Node(x=1)
    savepoint(conn)
    new.x = 2
    conn.transaction_manager.abort()
    assert old.x == 1
    assert not hasattr(conn.root, "new")
    assert new._p_jar is None
    assert new.x == 2


def test_others_do_not_see_savepoints(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.x = 1
    savepoint(conn)
    with db.transaction() as other:
        assert not hasattr(other.root, "x")
    commit(conn)
    with db.transaction() as other:
        assert other.root.x == 1


def test_changed_objects_may_leave_memory_after_a_savepoint(conn: perdure.Connection) -> None:
    nodes = [Node(x=number) for number in range(10)]
    conn.root.nodes = nodes
    commit(conn)
    for node in nodes:
        node.x += 100
    savepoint(conn)
    conn.cacheMinimize()
    assert all(node._p_changed is None for node in nodes)
    assert [node.x for node in nodes] == list(range(100, 110))
    commit(conn)
    assert [node.x for node in nodes] == list(range(100, 110))


def test_savepoints_shrink_the_cache(open_db: Any, tm: transaction.TransactionManager) -> None:
    conn = open_db(cache_size=50).open(tm)
    conn.root.tree = OOBTree()
    for number in range(1000):
        conn.root.tree[number] = Node(x=number)
        if number % 100 == 99:
            tm.savepoint(optimistic=True)
            assert conn._cache.cache_non_ghost_count < 120
    tm.commit()
    assert [node.x for node in conn.root.tree.values()] == list(range(1000))


def test_savepoints_larger_than_memory_go_to_a_file(
    conn: perdure.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(savepoint_module, "MEMORY_BYTES_MAX", 1000)
    nodes = conn.root.nodes = [Node(text="x" * 300) for _ in range(20)]
    point = savepoint(conn)
    for node in nodes:
        node.text = "y" * 400
    savepoint(conn)
    conn.cacheMinimize()
    assert {node.text for node in nodes} == {"y" * 400}
    point.rollback()
    assert {node.text for node in nodes} == {"x" * 300}
    commit(conn)
    conn.cacheMinimize()
    assert {node.text for node in nodes} == {"x" * 300}


def test_a_conflict_with_a_change_in_a_savepoint(db: perdure.DB, conn: perdure.Connection) -> None:
    node = conn.root.node = Node(x=1)
    commit(conn)
    node.x = 2
    new = conn.root.new = Node(x=1)
    savepoint(conn)
    with db.transaction() as other:
        other.root.node.x = 7
    with pytest.raises(errors.ConflictError) as caught:
        commit(conn)
    assert caught.value.oid == node._p_oid
    conn.transaction_manager.abort()
    assert node.x == 7
    assert new._p_jar is None
    node.x = 8
    commit(conn)
    conn.cacheMinimize()
    assert node.x == 8


def test_a_savepoint_that_fails_asks_for_an_abort(conn: perdure.Connection) -> None:
    conn.root.fine = Node(x=1)
    conn.root.bad = Node(inner=lambda: 1)
    with pytest.raises(errors.UnpicklableError):
        savepoint(conn)
    conn.transaction_manager.abort()
    assert not hasattr(conn.root, "fine")
    conn.root.fine = Node(x=2)
    commit(conn)
    assert conn.root.fine.x == 2


def test_a_change_that_is_only_in_a_savepoint_is_committed(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root.node = Node(x=1)
    commit(conn)
    conn.root.node.x = 2
    savepoint(conn)
    commit(conn)
    with db.transaction() as other:
        assert other.root.node.x == 2
        assert other.root.node._p_serial == db.lastTransaction()


def test_objects_added_explicitly_survive_savepoints(conn: perdure.Connection) -> None:
    node = Node(x=1)
    conn.add(node)
    savepoint(conn)
    node.x = 2
    savepoint(conn)
    conn.cacheMinimize()
    assert node.x == 2
    commit(conn)
    assert conn.get(node._p_oid).x == 2


def test_after_a_savepoint_read_current_still_holds(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root.limit = Node(x=1)
    conn.root.node = Node(x=1)
    commit(conn)
    conn.readCurrent(conn.root.limit)
    conn.root.node.x = 2
    savepoint(conn)
    with db.transaction() as other:
        other.root.limit.x = 2
    with pytest.raises(errors.ReadConflictError):
        commit(conn)
    conn.transaction_manager.abort()


def test_every_connection_of_the_transaction_takes_part(
    open_db: Any, tm: transaction.TransactionManager
) -> None:
    databases: dict[str, Any] = {}
    one = open_db("One", database_name="one", databases=databases).open(tm)
    open_db("Two", database_name="two", databases=databases)
    two = one.get_connection("two")
    one.root.x = two.root.x = 1
    point = tm.savepoint()
    one.root.x = two.root.x = 2
    point.rollback()
    assert (one.root.x, two.root.x) == (1, 1)
    tm.commit()
    assert (one.root.x, two.root.x) == (1, 1)


def test_a_connection_that_joins_later_is_rolled_back_to_its_beginning(
    db: perdure.DB, tm: transaction.TransactionManager
) -> None:
    conn = db.open(tm)
    conn.root.node = Node(x=1)
    tm.commit()
    point = tm.savepoint()
    conn.root.node.x = 2
    point.rollback()
    assert conn.root.node.x == 1
    conn.root.node.x = 3
    tm.commit()
    assert conn.root.node.x == 3
