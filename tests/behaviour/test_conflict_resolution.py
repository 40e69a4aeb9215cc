"""Merging conflicting changes: `_p_resolveConflict`, on every storage that does it."""

from typing import Any

import pytest
import transaction
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from tests.behaviour.models import Counter, Node

import perdure
from perdure import errors
from perdure.storage.engine import EngineStorage


@pytest.fixture(autouse=True)
def _needs_resolution(request: pytest.FixtureRequest) -> None:
    if "kind" in request.fixturenames and not request.getfixturevalue("kind").resolves:
        pytest.skip("this storage doesn't resolve conflicts")


def change_in_other(db: perdure.DB, change: Any) -> None:
    with db.transaction() as other:
        change(other.root)


def test_concurrent_increments_add_up(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.counter = Counter()
    conn.transaction_manager.commit()
    conn.root.counter.increase(1)
    change_in_other(db, lambda root: root.counter.increase(10))
    conn.transaction_manager.commit()
    assert conn.root.counter.value == 11
    conn.root.counter.increase(100)
    change_in_other(db, lambda root: root.counter.increase(1000))
    conn.transaction_manager.commit()
    with db.transaction() as other:
        assert other.root.counter.value == 1111


def test_lengths_of_btrees_add_up(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.length = Length()
    conn.transaction_manager.commit()
    conn.root.length.change(1)
    change_in_other(db, lambda root: root.length.change(2))
    conn.transaction_manager.commit()
    assert conn.root.length() == 3


def test_different_keys_of_a_btree_are_merged(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.tree = OOBTree({"a": Node(x=1), "b": Node(x=2)})
    conn.transaction_manager.commit()
    conn.root.tree["c"] = Node(x=3)
    change_in_other(db, lambda root: root.tree.update({"d": Node(x=4)}))
    conn.transaction_manager.commit()
    assert [node.x for node in conn.root.tree.values()] == [1, 2, 3, 4]


def test_different_objects_put_under_different_keys_are_merged(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    if not isinstance(db.storage, EngineStorage):
        pytest.skip("storages of stock ZODB can't tell that these are different objects")
    conn.root.tree = OOBTree({"a": Node(x=1), "b": Node(x=2)})
    conn.transaction_manager.commit()
    conn.root.tree["a"] = Node(x=3)
    change_in_other(db, lambda root: root.tree.update({"b": Node(x=4)}))
    conn.transaction_manager.commit()
    assert [node.x for node in conn.root.tree.values()] == [3, 4]


def test_the_same_key_of_a_btree_is_a_conflict(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.tree = OOBTree({"a": 1})
    conn.transaction_manager.commit()
    conn.root.tree["a"] = 2
    change_in_other(db, lambda root: root.tree.update({"a": 3}))
    with pytest.raises(errors.ConflictError):
        conn.transaction_manager.commit()
    conn.transaction_manager.abort()
    assert conn.root.tree["a"] == 3


def test_a_resolved_object_shows_the_merged_state_in_explicit_mode(db: perdure.DB) -> None:
    tm = transaction.TransactionManager(explicit=True)
    conn = db.open(tm)
    with tm:
        conn.root.counter = Counter()
    tm.begin()
    conn.root.counter.increase(1)
    change_in_other(db, lambda root: root.counter.increase(10))
    tm.commit()
    conn.root()
    with tm:
        assert conn.root.counter.value == 11


class Picky(Node):
    """Refuses to merge, or fails to."""

    def _p_resolveConflict(self, old: Any, committed: Any, new: Any) -> Any:
        raise new["error"]


@pytest.mark.parametrize("error", [ZeroDivisionError("oops"), errors.ConflictError("no")])
def test_what_a_resolver_raises_is_the_cause_of_the_conflict(error: Exception) -> None:
    db = perdure.DB(None)
    tm = transaction.TransactionManager()
    conn = db.open(tm)
    conn.root.picky = Picky(error=error)
    tm.commit()
    conn.root.picky.x = 1
    change_in_other(db, lambda root: setattr(root.picky, "x", 2))
    with pytest.raises(errors.ConflictError) as caught:
        tm.commit()
    assert type(caught.value.__cause__) is type(error)
    assert caught.value.class_name == f"{__name__}.Picky"
    assert caught.value.oid == conn.root.picky._p_oid
    tm.abort()
    db.close()


class Pair(Node):
    """Compares references when merging, and stores one of them."""

    def _p_resolveConflict(self, old: Any, committed: Any, new: Any) -> Any:
        assert old["left"] == committed["left"]
        assert committed["left"] == new["left"]
        assert old["left"] != old["right"]
        assert len({old["left"], committed["left"], new["left"]}) == 1
        assert old["weak"] == new["weak"]
        assert old["weak"] != old["left"]
        return {**new, "other": committed["other"]}


def test_references_in_merged_states_compare_by_identity() -> None:
    from persistent.wref import WeakRef

    db = perdure.DB(None)
    tm = transaction.TransactionManager()
    conn = db.open(tm)
    left = Node(name="left")
    conn.root.pair = Pair(left=left, right=Node(), other=None, weak=WeakRef(left))
    tm.commit()
    conn.root.pair.x = 1
    change_in_other(db, lambda root: setattr(root.pair, "other", Node(name="new")))
    tm.commit()
    pair = conn.root.pair
    assert (pair.x, pair.other.name, pair.left.name) == (1, "new", "left")
    assert pair.left is conn.root.pair.weak()
    db.close()


class Key(Node):
    """A persistent object that can be a key, against all advice."""

    def __lt__(self, other: Any) -> bool:
        return bool(self.name < other.name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Key) and bool(self.name == other.name)

    def __hash__(self) -> int:
        return hash(self.name)


def test_btrees_sorted_by_persistent_objects_are_not_merged() -> None:
    db = perdure.DB(None)
    tm = transaction.TransactionManager()
    conn = db.open(tm)
    conn.root.tree = OOBTree()
    for name in "zyx":
        conn.root.tree[Key(name=name)] = name
    tm.commit()
    conn.root.tree[Key(name="b")] = "b"
    change_in_other(db, lambda root: root.tree.update({Key(name="c"): "c"}))
    with pytest.raises(errors.ConflictError, match="OOBTree") as caught:
        tm.commit()
    assert "order" in str(caught.value.__cause__)
    tm.abort()
    db.close()
