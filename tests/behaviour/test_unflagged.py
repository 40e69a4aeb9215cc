"""`detect_unflagged_changes`: changes inside plain values that nobody announced are found."""

from collections.abc import Iterator
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent import Persistent
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef
from tests.behaviour.models import Node

import perdure
from perdure.errors import UnflaggedChangeError


@pytest.fixture
def manager() -> Any:
    return transaction.TransactionManager()


@pytest.fixture
def connection(manager: Any) -> Iterator[Any]:
    database = perdure.DB(None, detect_unflagged_changes=True)
    connection = database.open(manager)
    connection.root.thing = PersistentMapping(names=["a"])
    manager.commit()
    yield connection
    manager.abort()
    connection.close()
    database.close()


def test_an_unannounced_change_is_found_though_nothing_else_changed(
    connection: Any, manager: Any
) -> None:
    connection.root.thing["names"].append("b")
    with pytest.raises(UnflaggedChangeError, match="PersistentMapping"):
        manager.commit()


def test_aborting_is_no_commit(connection: Any, manager: Any) -> None:
    connection.root.thing["names"].append("b")
    manager.abort()
    connection.close()
    assert connection.opened is None


def test_an_announced_change_is_stored(connection: Any, manager: Any) -> None:
    connection.root.thing["names"].append("b")
    connection.root.thing._p_changed = True
    manager.commit()
    connection.cacheMinimize()
    assert connection.root.thing["names"] == ["a", "b"]


def test_transactions_without_changes_leave_no_trace(connection: Any, manager: Any) -> None:
    before = connection.db().lastTransaction()
    assert connection.root.thing["names"] == ["a"]
    manager.commit()
    assert connection.db().lastTransaction() == before


class Slotted(Persistent):
    """A persistent object with a slot."""

    __slots__ = ("items",)


class Plain:
    """Not persistent: part of the record of who refers to it."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items


def found_in(connection: Any) -> list[str]:
    """The attributes that the check names, after a failing commit that is aborted."""
    with pytest.raises(UnflaggedChangeError) as caught:
        connection.transaction_manager.commit()
    connection.transaction_manager.abort()
    assert caught.value.database == "unnamed"
    for oid, name, _ in caught.value.changes:
        assert connection.get(oid)._p_oid == oid
        assert name in str(caught.value)
    return [attribute for _, _, attribute in caught.value.changes]


def test_an_abort_takes_the_change_back(connection: Any, manager: Any) -> None:
    connection.root.thing["names"].append("b")
    with pytest.raises(UnflaggedChangeError):
        manager.commit()
    manager.abort()
    assert connection.root.thing["names"] == ["a"]
    manager.commit()


def test_changes_are_found_however_deep_they_are(connection: Any, manager: Any) -> None:
    node = connection.root.node = Node(
        nested={"a": [{1, 2}, ({"b": bytearray(b"x")},)]},
        plain=Plain([1]),
        untouched=[{1: (2, [3])}, None, 1.5, "x"],
        reference=WeakRef(connection.root.thing),
        objects=[connection.root.thing],
    )
    manager.commit()
    node.nested["a"][0].add(3)
    assert found_in(connection) == ["nested"]
    node.nested["a"][1][0]["b"].extend(b"y")
    assert found_in(connection) == ["nested"]
    node.plain.items.append(2)
    assert found_in(connection) == ["plain"]
    node.objects.append(node)
    assert found_in(connection) == ["objects"]
    manager.commit()


def test_changes_in_slots_are_found(connection: Any, manager: Any) -> None:
    slotted = connection.root.slotted = Slotted()
    slotted.items = ["a"]
    manager.commit()
    slotted.items.append("b")
    assert found_in(connection) == ["items"]


def test_changes_beside_others_that_were_flagged_are_found(connection: Any, manager: Any) -> None:
    node = connection.root.node = Node(items=[])
    manager.commit()
    connection.root.other = 1
    node.items.append(1)
    assert found_in(connection) == ["items"]
    assert not hasattr(connection.root, "other")


def test_reading_and_btrees_are_no_changes(connection: Any, manager: Any) -> None:
    connection.root.tree = OOBTree({number: [number] for number in range(100)})
    connection.root.node = Node(items=list(range(5)), _v_cache=[])
    manager.commit()
    connection.cacheMinimize()
    assert sum(map(sum, connection.root.tree.values())) == sum(range(100))
    connection.root.node._v_cache = [1]
    assert connection.root.node.items[4] == 4
    connection.root.x = 1
    manager.commit()


def test_changes_made_before_a_savepoint_are_found(connection: Any, manager: Any) -> None:
    node = connection.root.node = Node(items=[])
    manager.commit()
    connection.root.x = 1
    manager.savepoint()
    node.items.append(1)
    assert found_in(connection) == ["items"]


def test_a_warning_will_do(manager: Any) -> None:
    database = perdure.DB(None, detect_unflagged_changes="warn")
    connection = database.open(manager)
    connection.root.node = Node(items=[])
    manager.commit()
    connection.root.node.items.append(1)
    with pytest.warns(UserWarning, match=r"Node\.items .*_p_changed = True"):
        manager.commit()
    manager.abort()
    database.close()


def test_nothing_is_looked_for_unless_asked(manager: Any) -> None:
    database = perdure.DB(None)
    connection = database.open(manager)
    connection.root.node = Node(items=[])
    manager.commit()
    connection.root.node.items.append(1)
    manager.commit()
    database.close()
