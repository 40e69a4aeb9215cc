"""Connections of a collection, opened and closed in any order, stay in their sets."""

from dataclasses import dataclass
from typing import Any

import transaction
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import perdure

NAMES = st.sampled_from("abc")
POOL_SIZE = 2


@dataclass
class Opened:
    """A set that is in use."""

    first: perdure.Connection
    manager: Any


class Sets(RuleBasedStateMachine):
    """Threads that open connections, go to other members, and close them."""

    opened = Bundle("opened")

    def __init__(self) -> None:
        super().__init__()
        self.databases: dict[str, Any] = {}
        for name in "abc":
            perdure.DB(
                None,
                database_name=name,
                databases=self.databases,
                pool_size=POOL_SIZE,
            )
        self.in_use: list[Opened] = []
        self.written = 0

    def teardown(self) -> None:
        for database in self.databases.values():
            database.close()

    @rule(target=opened, name=NAMES)
    def open(self, name: str) -> Opened:
        manager = transaction.TransactionManager()
        one = Opened(self.databases[name].open(manager), manager)
        assert one.first.db().database_name == name
        self.in_use.append(one)
        return one

    @rule(one=opened, via=NAMES, name=NAMES)
    def go_to_another_member(self, one: Opened, via: str, name: str) -> None:
        start = one.first.get_connection(via)
        there = start.get_connection(name)
        assert there.db() is self.databases[name]
        assert there is one.first.get_connection(name)
        assert there.get_connection(one.first.db().database_name) is one.first

    @rule(one=opened, name=NAMES)
    def write(self, one: Opened, name: str) -> None:
        self.written += 1
        one.manager.begin()
        one.first.get_connection(name).root()["written"] = self.written
        one.manager.commit()
        with self.databases[name].transaction() as fresh:
            assert fresh.root()["written"] == self.written

    @rule(one=consumes(opened), by=NAMES)
    def close(self, one: Opened, by: str) -> None:
        members = dict(one.first.connections)
        one.manager.abort()
        members.get(by, one.first).close()
        self.in_use.remove(one)
        assert all(member.opened is None for member in members.values())

    @invariant()
    def every_connection_in_use_is_in_one_set(self) -> None:
        seen: set[int] = set()
        for one in self.in_use:
            for name, member in one.first.connections.items():
                assert member.db() is self.databases[name]
                assert member.connections is one.first.connections
                assert member.transaction_manager is one.manager
                assert member.opened is not None
                assert id(member) not in seen
                seen.add(id(member))

    @invariant()
    def idle_sets_are_whole_and_not_too_many(self) -> None:
        for database in self.databases.values():
            idle = [connection for _, connection in database.pool.available]
            assert len(idle) <= POOL_SIZE
            for connection in idle:
                assert connection.opened is None
                for name, member in connection.connections.items():
                    others = [c for _, c in self.databases[name].pool.available]
                    assert any(other is member for other in others)


TestSets = Sets.TestCase
TestSets.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
