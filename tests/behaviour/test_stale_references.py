"""Who holds an object that another transaction has moved, or deleted, meanwhile."""

import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from tests.behaviour.models import Node
from tests.layers import LAYERED_MEMBERS

import perdure
from perdure import errors


@pytest.fixture(params=["file", "memory", "encrypting-over-zlib"])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.Collection]:
    members: dict[str, Any] = dict.fromkeys(("one", "two", "three"))
    if request.param != "memory":
        members = {name: tmp_path / f"{name}.fs" for name in members}
    if request.param in LAYERED_MEMBERS:
        members["one"] = LAYERED_MEMBERS[request.param](tmp_path, "one")
    with perdure.Collection(members) as made:
        yield made


@pytest.fixture
def conn(collection: perdure.Collection) -> Iterator[Any]:
    """A connection, in a transaction that has seen an object and what refers to it."""
    manager = transaction.TransactionManager()
    conn: Any = collection.open(manager)
    conn.root.held = Node(name="held")
    conn.add(conn.root.held)
    conn.root.near = Node(name="near")
    conn["two"].root.holder = Node(name="holder")
    conn["three"].root.tree = OOBTree({"a": conn.root.held})
    manager.commit()
    assert conn.root.held.name == "held"
    yield conn
    manager.abort()
    conn.close()


def move(collection: perdure.Collection) -> None:
    with collection.transaction() as other:
        collection.move(other.root.held, "two")


def refer_in_the_same_member(conn: Any) -> None:
    conn.root.near.part = conn.root.held


def refer_from_another_member(conn: Any) -> None:
    conn["two"].root.holder.part = {"list": [conn.root.held]}


def refer_from_a_new_object(conn: Any) -> None:
    conn["three"].root.new = Node(part=conn.root.held)


def refer_to_a_ghost(conn: Any) -> None:
    held = conn.root.held
    held._p_deactivate()
    conn["two"].root.holder.part = held


def refer_after_a_savepoint(conn: Any) -> None:
    conn["two"].root.holder.part = conn.root.held
    conn.transaction_manager.savepoint()
    conn["two"].root.holder.more = 1


def change_it(conn: Any) -> None:
    conn.root.held.name = "changed"


def change_it_after_a_savepoint(conn: Any) -> None:
    conn.root.held.name = "changed"
    conn.transaction_manager.savepoint()


REFER = [
    refer_in_the_same_member,
    refer_from_another_member,
    refer_from_a_new_object,
    refer_to_a_ghost,
    refer_after_a_savepoint,
]


@pytest.mark.parametrize("work", [*REFER, change_it, change_it_after_a_savepoint])
def test_a_retry_loop_gets_through_after_an_object_was_moved(
    collection: perdure.Collection, conn: Any, work: Callable[[Any], None]
) -> None:
    manager = conn.transaction_manager
    tries = 0
    manager.begin()
    assert conn.root.held.name == "held"
    for attempt in manager.attempts(3):
        with attempt:
            tries += 1
            assert conn.root.held.name == "held"
            work(conn)
            if tries == 1:
                move(collection)
    assert tries == 2
    held = conn.root.held
    assert held._p_jar is conn["two"]
    assert conn["three"].root.tree["a"] is held
    if work in REFER:
        places = [
            getattr(conn.root.near, "part", None),
            getattr(conn["two"].root.holder, "part", None),
            getattr(conn["three"].root().get("new"), "part", None),
        ]
        assert any(each is held or each == {"list": [held]} for each in places)
    else:
        assert held.name == "changed"
    assert all(report.ok for report in collection.check().values())


def test_run_repeats_what_met_a_move(collection: perdure.Collection, conn: Any) -> None:
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        conn["two"].root.holder.part = conn.root.held
        if len(calls) == 1:
            move(collection)

    conn.transaction_manager.run(work)
    assert len(calls) == 2
    assert conn["two"].root.holder.part._p_jar is conn["two"]


@pytest.mark.parametrize("work", REFER)
def test_the_error_tells_of_both_the_reference_and_the_conflict(
    collection: perdure.Collection, conn: Any, work: Callable[[Any], None]
) -> None:
    manager = conn.transaction_manager
    work(conn)
    missing = conn.root.held._p_oid
    move(collection)
    before = {name: member.lastTransaction() for name, member in collection.items()}
    with pytest.raises(errors.StaleReferenceError) as raised:
        manager.commit()
    error = raised.value
    assert isinstance(error, errors.DanglingReferenceError)
    assert isinstance(error, errors.ConflictError)
    assert (error.missing, error.database) == (missing, "one")
    assert error.path
    assert "doesn't exist any more: abort and run the transaction again" in str(error)
    assert error.path in str(pickle.loads(pickle.dumps(error)))
    manager.abort()
    assert before == {name: member.lastTransaction() for name, member in collection.items()}


@pytest.mark.parametrize("work", [change_it, change_it_after_a_savepoint])
def test_a_change_to_a_moved_object_is_a_conflict(
    collection: perdure.Collection, conn: Any, work: Callable[[Any], None]
) -> None:
    work(conn)
    oid = conn.root.held._p_oid
    move(collection)
    with pytest.raises(errors.ConflictError) as raised:
        conn.transaction_manager.commit()
    assert raised.value.oid == oid
    assert raised.value.class_name == f"{Node.__module__}.Node"


def test_a_change_to_a_moved_tree_is_a_conflict(collection: perdure.Collection, conn: Any) -> None:
    conn["three"].root.tree["b"] = 1
    with collection.transaction() as other:
        collection.move(other["three"].root.tree, "one")
    with pytest.raises(errors.ConflictError):
        conn.transaction_manager.commit()
    conn.transaction_manager.abort()
    conn["three"].root.tree["b"] = 1
    conn.transaction_manager.commit()
    assert conn["three"].root.tree._p_jar is conn


def test_what_relied_on_a_moved_object_is_a_conflict(
    collection: perdure.Collection, conn: Any
) -> None:
    conn.readCurrent(conn.root.held)
    conn["two"].root.holder.name = "relies on it"
    move(collection)
    with pytest.raises(errors.ReadConflictError):
        conn.transaction_manager.commit()


def test_who_keeps_the_old_object_beyond_the_transaction_is_told_once_and_for_all(
    collection: perdure.Collection, conn: Any
) -> None:
    held = conn.root.held
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        conn["two"].root.holder.part = held
        if len(calls) == 1:
            move(collection)

    with pytest.raises(errors.DanglingReferenceError) as raised:
        conn.transaction_manager.run(work, 5)
    assert len(calls) == 2
    assert not isinstance(raised.value, errors.ConflictError)


def test_a_reference_to_collected_garbage_is_a_conflict_once(
    collection: perdure.Collection, conn: Any
) -> None:
    manager = conn.transaction_manager
    held = conn.root.held
    del conn.root.held, conn["three"].root.tree["a"]
    manager.commit()
    assert held.name == "held"
    conn["two"].root.holder.part = held
    assert collection.gc().total == 1
    with pytest.raises(errors.StaleReferenceError):
        manager.commit()
    manager.abort()
    conn["two"].root.holder.part = held
    with pytest.raises(errors.DanglingReferenceError) as raised:
        manager.commit()
    assert not isinstance(raised.value, errors.ConflictError)
