"""The pools of a collection, and what is asked of all connections of a set."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.behaviour.models import Account

import perdure
from perdure import errors


@pytest.fixture(params=["own", "foreign"])
def collection(request: pytest.FixtureRequest) -> Iterator[perdure.Collection]:
    from ZODB.MappingStorage import MappingStorage

    names = ("a", "b", "c")
    members = {name: MappingStorage(name) if request.param == "foreign" else None for name in names}
    with perdure.Collection(members, pool_size=2, cache_size=100) as made:
        yield made


def opened(collection: perdure.Collection, name: str) -> Any:
    return collection[name].open(transaction.TransactionManager())


@pytest.mark.parametrize("first", ["a", "b", "c"])
@pytest.mark.parametrize("then", ["a", "b", "c"])
def test_a_set_comes_back_whole_whichever_member_is_opened(
    collection: perdure.Collection, first: str, then: str
) -> None:
    conn = opened(collection, first)
    members = {name: conn[name] for name in collection}
    account = Account()
    members["b"].add(account)
    for each in members.values():
        each.root.account = account
    conn.transaction_manager.commit()
    conn.close()
    again = opened(collection, then)
    assert {name: again[name] for name in collection} == members
    assert all(each.root.account is account for each in members.values())
    assert all(each.transaction_manager is again.transaction_manager for each in members.values())
    account.balance = 7.0
    members["a"].root.x = members["c"].root.x = 1
    again.transaction_manager.commit()
    again.close()
    other = opened(collection, first)
    assert other[then].root.account.balance == account.balance
    other.close()


def test_sets_of_different_members_do_not_mix(collection: perdure.Collection) -> None:
    one, two = opened(collection, "a"), opened(collection, "a")
    pairs = [(each, each["b"]) for each in (one, two)]
    for each in (one, two):
        each.close()
    for _ in range(2):
        conn = opened(collection, "b")
        assert any(conn is b and conn["a"] is a for a, b in pairs)
        more = opened(collection, "a")
        assert any(more is a and more["b"] is b for a, b in pairs)
        assert more is not conn["a"]
        conn.close()
        more.close()


def test_pool_limits_hold_for_every_member(
    collection: perdure.Collection, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "perdure.db"):
        conns = [opened(collection, "a") for _ in range(2)]
        for conn in conns:
            assert conn["b"].opened
        assert not caplog.records
        more = opened(collection, "a")
        assert "3 open connections with a pool_size of 2" in caplog.text
    for conn in (*conns, more):
        conn.close()
    for name in ("a", "b"):
        assert len(collection[name].pool.available) <= 2
        collection[name].setPoolSize(1)
    left = [len(collection[name].pool.available) for name in ("a", "b")]
    assert max(left) <= 1
    conn = opened(collection, "b")
    assert conn["a"].connections is conn.connections
    conn.close()


def test_caches_shrink_in_all_members_of_a_set(collection: perdure.Collection) -> None:
    conn = opened(collection, "a")
    for name in collection:
        conn[name].root.parts = [Account(number) for number in range(200)]
    conn.transaction_manager.commit()
    conn.cacheMinimize()
    assert all(conn[name]._cache.cache_non_ghost_count == 0 for name in collection)
    for name in collection:
        for part in conn[name].root.parts:
            assert part.cash == 0
    collection["b"].setCacheSize(10)
    conn.cacheGC()
    counts = {name: conn[name]._cache.cache_non_ghost_count for name in collection}
    assert counts["b"] <= 10 < counts["a"] <= 101
    conn.close()


def test_sync_shows_all_members_the_newest_state(collection: perdure.Collection) -> None:
    conn = opened(collection, "a")
    other = opened(collection, "b")
    for name in collection:
        assert "x" not in conn[name].root()
        other[name].root.x = 1
    other.transaction_manager.commit()
    assert not any("x" in conn[name].root() for name in collection)
    conn["c"].sync()
    assert all(conn[name].root.x == 1 for name in collection)
    conn.close()
    other.close()


def test_historical_connections_come_in_sets_of_their_own(collection: perdure.Collection) -> None:
    conn = opened(collection, "a")
    moments = []
    for value in (1, 2):
        for name in collection:
            conn[name].root.x = value
        conn.transaction_manager.commit()
        moments.append(collection.lastTransaction())
    first = moments[0]
    past: Any = collection["b"].open(transaction.TransactionManager(), at=first)
    assert [past[name].root.x for name in collection] == [1, 1, 1]
    assert all(past[name].isReadOnly() for name in collection)
    assert past["a"] is not conn
    past["c"].root.x = 3
    with pytest.raises(errors.ReadOnlyHistoryError):
        past.transaction_manager.commit()
    past.transaction_manager.abort()
    members = dict(past.connections)
    past.close()
    again: Any = collection["c"].open(transaction.TransactionManager(), at=first)
    assert again is members["c"]
    assert again["a"] is members["a"]
    again.close()
    conn.close()


def test_debug_information_names_all_open_connections(collection: perdure.Collection) -> None:
    conn = opened(collection, "a")
    conn["b"].setDebugInfo("here")
    info = collection.connectionDebugInfo()
    in_use = {name: [each for each in info[name] if each["opened"]] for name in collection}
    assert [len(in_use[name]) for name in collection] == [1, 1, 0]
    assert "here" in in_use["b"][0]["info"]
    conn.close()


def test_a_member_may_be_in_the_collection_before_it_has_a_file(tmp_path: Path) -> None:
    with perdure.Collection({"a": tmp_path / "a.fs", "b": tmp_path / "b.fs"}) as collection:
        conn = opened(collection, "b")
        assert len(conn["a"].root()) == 0
        conn.close()
    assert {path.name for path in tmp_path.glob("*.fs")} == {"a.fs", "b.fs"}


def test_a_member_that_was_closed_and_opened_anew_is_read_as_it_is(tmp_path: Path) -> None:
    databases: dict[str, Any] = {}

    def opened(name: str) -> perdure.DB:
        return perdure.DB(tmp_path / f"{name}.fs", database_name=name, databases=databases)

    one, two = opened("one"), opened("two")
    for number in range(3):
        with one.transaction() as conn:
            conn["two"].root.number = number
        with one.transaction() as conn:
            assert conn["two"].root.number == number
        two.close()
        with one.transaction() as conn:
            conn.root.number = number
        del databases["two"]
        two = opened("two")
    with one.transaction() as conn:
        assert (conn.root.number, conn["two"].root.number) == (2, 2)
    two.close()
    one.close()
