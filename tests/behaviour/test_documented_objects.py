"""What ZODB's guides show of persistent objects and transactions, beyond the life cycle."""

import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import transaction
from BTrees.check import check
from persistent import Persistent
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping
from tests.behaviour.models import Node
from transaction.interfaces import (
    AlreadyInTransaction,
    DoomedTransaction,
    NoTransaction,
    TransactionFailedError,
)

import perdure
from perdure import errors


@pytest.fixture
def db() -> Iterator[perdure.DB]:
    with perdure.DB(None) as opened:
        yield opened


class Hooked(Persistent):
    """Has all of the attribute hooks, written as the guide says; notes what they are asked."""

    def __init__(self) -> None:
        self.own = "own"

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("virtual_") and not Persistent._p_getattr(self, name):
            return name.removeprefix("virtual_")
        return super().__getattribute__(name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("made_"):
            return self.own + name.removeprefix("made")
        raise AttributeError(name)

    def __setattr__(self, name: str, value: Any) -> None:
        if not Persistent._p_setattr(self, name, value):
            self.__dict__[name] = value
            self._p_changed = True

    def __delattr__(self, name: str) -> None:
        if not Persistent._p_delattr(self, name):
            del self.__dict__[name]
            self._p_changed = True


def test_classes_can_have_attribute_hooks(db: perdure.DB) -> None:
    with db.transaction() as connection:
        connection.root.hooked = Hooked()
    with db.transaction() as connection:
        hooked = connection.root.hooked
        hooked._p_deactivate()
        assert hooked._p_changed is None
        assert hooked.made_up == "own_up"
        assert hooked._p_changed is False
        assert hooked.virtual_x == "x"
        hooked.own, hooked.other = "changed", 1
        assert hooked._p_changed is True
    with db.transaction() as connection:
        hooked = connection.root.hooked
        hooked._p_deactivate()
        assert (hooked.made_up, hooked.other) == ("changed_up", 1)
        del hooked.other
    with db.transaction() as connection:
        connection.cacheMinimize()
        assert not hasattr(connection.root.hooked, "other")


FAMILIES = ["OO", "IO", "OI", "II", "IF", "LO", "OL", "LL", "LF", "OQ", "QO", "UU"]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_of_btrees_is_stored_searched_and_changed(db: perdure.DB, family: str) -> None:
    module = importlib.import_module(f"BTrees.{family}BTree")
    keys: Any = [f"{n:04}" for n in range(500)] if family[0] == "O" else range(500)
    values: Any = {"O": lambda n: f"v{n}", "F": float}.get(family[1], int)
    with db.transaction() as connection:
        connection.root.tree = module.BTree()
        connection.root.set = module.TreeSet(keys)
        connection.root.tree.update({key: values(n) for n, key in enumerate(keys)})
    with db.transaction() as connection:
        connection.cacheMinimize()
        tree, members = connection.root.tree, connection.root.set
        assert list(tree.items()) == [(key, values(n)) for n, key in enumerate(keys)]
        assert list(tree.keys(keys[10], keys[12])) == list(keys[10:13])
        inside = tree.values(min=keys[10], max=keys[12], excludemin=True, excludemax=True)
        assert list(inside) == [values(11)]
        assert (tree.minKey(), tree.maxKey(), tree.minKey(keys[7])) == (keys[0], keys[-1], keys[7])
        assert list(module.difference(members, module.Set(keys[1:]))) == [keys[0]]
        assert len(module.union(members, tree)) == 500
        assert list(module.intersection(members, module.Set(keys[:2]))) == list(keys[:2])
        if family[0] != "O":
            assert list(module.multiunion([module.Set(keys[:2]), 9])) == [0, 1, 9]
        tree._check()
        check(tree)
        del tree[keys[0]]
        members.remove(keys[-1])
    with db.transaction() as connection:
        connection.cacheMinimize()
        assert keys[0] not in connection.root.tree
        assert connection.root.tree.has_key(keys[1])
        assert len(connection.root.set) == 499


def test_persistent_lists_and_mappings_note_their_changes(db: perdure.DB) -> None:
    with db.transaction() as connection:
        connection.root.list = PersistentList([3, 1, 2])
        connection.root.mapping = PersistentMapping({"a": 1})
    with db.transaction() as connection:
        connection.root.list.sort()
        connection.root.list.append(4)
        connection.root.mapping.setdefault("b", []).append("plain")
        connection.root.mapping.pop("a")
    with db.transaction() as connection:
        connection.cacheMinimize()
        assert list(connection.root.list) == [1, 2, 3, 4]
        assert dict(connection.root.mapping) == {"b": ["plain"]}


def test_an_object_can_be_made_a_ghost_by_hand(db: perdure.DB) -> None:
    with db.transaction() as connection:
        connection.root.node = Node(x=1)
    with db.transaction() as connection:
        node = connection.root.node
        node._p_activate()
        node._p_changed = None
        assert (node._p_changed, bool(node._p_oid)) == (None, True)
        assert node.x == 1
        assert node._p_changed is False


# Transactions.


def test_after_a_failed_commit_only_an_abort_or_a_begin_leads_on(db: perdure.DB) -> None:
    manager = transaction.TransactionManager()
    for goes_on in (manager.abort, manager.begin):
        connection = db.open(manager)
        connection.root.unpicklable = lambda: None
        with pytest.raises(errors.POSError):
            manager.commit()
        for attempt in (manager.commit, manager.savepoint):
            with pytest.raises(TransactionFailedError):
                attempt()
        goes_on()
        connection.root.x = 1
        manager.commit()
        connection.close()


def test_a_doomed_transaction_says_so_and_is_not_committed(db: perdure.DB) -> None:
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    connection.root.x = 1
    assert not manager.isDoomed()
    manager.doom()
    assert manager.isDoomed()
    with pytest.raises(DoomedTransaction):
        manager.commit()
    manager.abort()
    assert not hasattr(connection.root, "x")
    connection.close()


def test_hooks_are_listed_and_called_in_their_order(db: perdure.DB) -> None:
    called: list[Any] = []
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    running = manager.get()
    connection.root.x = 1
    running.addBeforeCommitHook(called.append, ("before",))
    running.addAfterCommitHook(lambda succeeded, end: called.append((succeeded, end)), ("after",))
    running.addBeforeCommitHook(called.append, args=("last before",))
    assert [args for _hook, args, _kws in running.getBeforeCommitHooks()] == [
        ("before",),
        ("last before",),
    ]
    assert [args for _hook, args, _kws in running.getAfterCommitHooks()] == [("after",)]
    manager.savepoint()
    assert called == []
    manager.commit()
    assert called == ["before", "last before", (True, "after")]
    connection.root.x = 2
    manager.commit()
    assert len(called) == 3
    connection.close()


def test_in_explicit_mode_everything_needs_a_transaction(db: perdure.DB) -> None:
    manager = transaction.TransactionManager(explicit=True)
    connection = db.open(manager)
    for needing in (
        manager.get,
        manager.commit,
        manager.abort,
        manager.doom,
        manager.isDoomed,
        manager.savepoint,
    ):
        with pytest.raises(NoTransaction):
            needing()
    manager.begin()
    with pytest.raises(AlreadyInTransaction):
        manager.begin()
    connection.root.x = 1
    manager.commit()
    connection.close()


def test_a_savepoint_can_be_gone_back_to_more_than_once_and_an_optimistic_one_too(
    db: perdure.DB,
) -> None:
    with db.transaction() as connection:
        connection.root.x, connection.root.y = 1, 0
        savepoint = connection.transaction_manager.savepoint(optimistic=True)
        for value in (2, 3):
            connection.root.y = value
            savepoint.rollback()
            assert connection.root.y == 0
    with db.transaction() as connection:
        assert (connection.root.x, connection.root.y) == (1, 0)


def test_one_thread_can_run_several_transactions_at_once(db: perdure.DB) -> None:
    managers = [transaction.TransactionManager() for _ in range(3)]
    connections = [db.open(manager) for manager in managers]
    for number, connection in enumerate(connections):
        connection.add(node := Node(number=number))
        connection.root()
        assert node._p_jar is connection
        assert connection.transaction_manager is managers[number]
    for manager in managers:
        manager.commit()
    for connection in connections:
        connection.close()
    with db.transaction() as connection:
        connection.root.x = 5
        with db.transaction() as other:
            assert not hasattr(other.root, "x")
