"""Several connections against a plain model of what snapshot isolation promises.

The model keeps every committed state as a dictionary. A connection's snapshot is
a copy of the newest one; its changes lie over it. A commit conflicts if another
commit since the snapshot changed one of the same objects.
"""

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import Any

import pytest
import transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from persistent import Persistent
from persistent.mapping import PersistentMapping
from tests.behaviour.storages import STORAGES

import perdure
from perdure import errors

NAMES = st.sampled_from("abcdef")
VALUES = st.integers(0, 99)
KINDS = [
    kind
    for kind in STORAGES
    if kind.name in {"perdure-mapping", "perdure-file", "zodb-mapping", "zodb-file"}
]


class Item(Persistent):
    """An object with one value."""

    def __init__(self, value: int) -> None:
        self.value = value


NAME_TABLE = 0
"""The id of the mapping of names, in the model."""


@dataclass
class State:
    """What a connection sees: which object has which name, and each object's value."""

    names: dict[str, int] = field(default_factory=dict)
    values: dict[int, int] = field(default_factory=dict)
    touched: set[int] = field(default_factory=set)
    """The ids of the objects that the transaction changed or created."""

    def copy(self) -> "State":
        return State(dict(self.names), dict(self.values), set(self.touched))

    def shown(self) -> dict[str, int]:
        return {name: self.values[number] for name, number in self.names.items()}

    def touch_names(self) -> None:
        self.touched.add(NAME_TABLE)


@dataclass
class Modelled:
    """A connection, and what it should see."""

    connection: perdure.Connection
    began: int = 0
    """How many commits there were when its transaction began."""
    state: State = field(default_factory=State)
    savepoints: list[tuple[Any, State]] = field(default_factory=list)


class Snapshots(RuleBasedStateMachine):
    """Connections that change objects and commit, in any order."""

    database: perdure.DB

    connections = Bundle("connections")

    @initialize()
    def begin(self) -> None:
        self.database = self.new_database()
        self.commits: list[set[int]] = []
        self.newest = State()
        self.numbers = itertools.count(NAME_TABLE + 1)
        with self.database.transaction() as connection:
            connection.root.items = PersistentMapping()

    def new_database(self) -> perdure.DB:
        return perdure.DB(None)

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.close()

    @rule(target=connections)
    def open(self) -> Modelled:
        connection = self.database.open(transaction.TransactionManager())
        return self._begun(Modelled(connection))

    def _begun(self, one: Modelled) -> Modelled:
        one.began = len(self.commits)
        one.state = self.newest.copy()
        one.savepoints = []
        return one

    @rule(one=consumes(connections))
    def close(self, one: Modelled) -> None:
        one.connection.transaction_manager.abort()
        one.connection.close()

    @rule(one=connections, name=NAMES, value=VALUES)
    def put(self, one: Modelled, name: str, value: int) -> None:
        items, state = one.connection.root.items, one.state
        if name in items:
            items[name].value = value
        else:
            items[name] = Item(value)
            state.names[name] = next(self.numbers)
            state.touch_names()
        state.values[state.names[name]] = value
        state.touched.add(state.names[name])

    @rule(one=connections, name=NAMES)
    def delete(self, one: Modelled, name: str) -> None:
        items = one.connection.root.items
        if name in items:
            del items[name]
            del one.state.names[name]
            one.state.touch_names()

    @rule(one=connections, minimize=st.booleans())
    def shrink_cache(self, one: Modelled, minimize: bool) -> None:
        if minimize:
            one.connection.cacheMinimize()
        else:
            one.connection.cacheGC()

    @rule(one=connections)
    def savepoint(self, one: Modelled) -> None:
        point = one.connection.transaction_manager.savepoint(optimistic=True)
        one.savepoints.append((point, one.state.copy()))

    @rule(one=connections, data=st.data())
    def rollback(self, one: Modelled, data: st.DataObject) -> None:
        if one.savepoints:
            index = data.draw(st.integers(0, len(one.savepoints) - 1))
            point, state = one.savepoints[index]
            point.rollback()
            one.state = state.copy()
            del one.savepoints[index + 1 :]

    @rule(one=connections)
    def abort(self, one: Modelled) -> None:
        one.connection.transaction_manager.abort()
        self._begun(one)

    @rule(one=connections)
    def begin_again(self, one: Modelled) -> None:
        one.connection.sync()
        self._begun(one)

    @rule(one=connections)
    def commit(self, one: Modelled) -> None:
        others = set().union(*self.commits[one.began :])
        if one.state.touched & others:
            with pytest.raises(errors.ConflictError):
                one.connection.transaction_manager.commit()
            one.connection.transaction_manager.abort()
        else:
            one.connection.transaction_manager.commit()
            if one.state.touched:
                self.newest = self._merged(one.state)
                self.commits.append(one.state.touched)
        self._begun(one)

    def _merged(self, state: State) -> State:
        """The newest state with a transaction's changes over it."""
        names = state.names if NAME_TABLE in state.touched else self.newest.names
        changed = {n: value for n, value in state.values.items() if n in state.touched}
        return State(dict(names), {**self.newest.values, **changed})

    @rule(one=connections)
    def look(self, one: Modelled) -> None:
        items = one.connection.root.items
        assert {name: item.value for name, item in items.items()} == one.state.shown()

    @invariant()
    def a_fresh_look_sees_the_newest_state(self) -> None:
        if hasattr(self, "database"):
            with self.database.transaction() as connection:
                items = connection.root.items
                assert {name: item.value for name, item in items.items()} == self.newest.shown()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_connections_see_what_snapshot_isolation_promises(kind: Any, tmp_path: Any) -> None:
    counted = itertools.count()
    kept_open = contextlib.ExitStack()

    class OverThisStorage(Snapshots):
        def new_database(self) -> perdure.DB:
            storage = kept_open.enter_context(kind.opened(tmp_path, f"Data{next(counted)}"))
            return perdure.DB(storage, cache_size=3)

    with kept_open:
        run_state_machine_as_test(
            OverThisStorage,
            settings=settings(max_examples=60, stateful_step_count=40, deadline=None),
        )
