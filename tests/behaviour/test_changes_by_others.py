"""What others change is seen by the next transaction, however an object came into memory."""

from collections.abc import Callable
from pathlib import Path

import pytest
from persistent.mapping import PersistentMapping
from tests.behaviour.models import Account, Node

import perdure

Arrival = Callable[[perdure.Connection, bytes], Account]


def account_of(connection: perdure.Connection, oid: bytes) -> Account:
    found: Account = connection.get(oid)
    return found


def loaded(connection: perdure.Connection, oid: bytes) -> Account:
    return account_of(connection, oid)


def loaded_again(connection: perdure.Connection, oid: bytes) -> Account:
    account = account_of(connection, oid)
    assert account.balance == 1
    connection.cacheMinimize()
    return account


def loaded_into_a_new_cache(connection: perdure.Connection, oid: bytes) -> Account:
    assert account_of(connection, oid).balance == 1
    connection._resetCache()
    return account_of(connection, oid)


def changed_here(connection: perdure.Connection, oid: bytes) -> Account:
    account = account_of(connection, oid)
    account.name = "changed here"
    connection.transaction_manager.commit()
    return account


def created_here(connection: perdure.Connection, _oid: bytes) -> Account:
    account = connection.root.created = Account(1)
    connection.transaction_manager.commit()
    return account


def created_in_a_savepoint(connection: perdure.Connection, _oid: bytes) -> Account:
    account = connection.root.created = Account(1)
    connection.transaction_manager.savepoint()
    connection.transaction_manager.commit()
    return account


def added_here(connection: perdure.Connection, _oid: bytes) -> Account:
    account = Account(1)
    connection.add(account)
    connection.root.created = account
    connection.transaction_manager.commit()
    return account


def rolled_back(connection: perdure.Connection, oid: bytes) -> Account:
    account = account_of(connection, oid)
    savepoint = connection.transaction_manager.savepoint()
    account.balance = 9
    savepoint.rollback()
    return account


def refused_a_change(connection: perdure.Connection, oid: bytes) -> Account:
    account = account_of(connection, oid)
    account.balance = 9
    connection.transaction_manager.abort()
    return account


ARRIVALS: list[Arrival] = [
    loaded,
    loaded_again,
    loaded_into_a_new_cache,
    changed_here,
    created_here,
    created_in_a_savepoint,
    added_here,
    rolled_back,
    refused_a_change,
]


@pytest.mark.parametrize("arrive", ARRIVALS, ids=lambda arrive: arrive.__name__)
def test_an_object_shows_what_others_changed(
    db: perdure.DB, conn: perdure.Connection, arrive: Arrival
) -> None:
    conn.root.account = Account(1)
    conn.transaction_manager.commit()
    oid = conn.root.account._p_oid
    with db.transaction() as other:
        other.root.others = PersistentMapping()
    conn.transaction_manager.begin()
    conn.cacheMinimize()
    account = arrive(conn, oid)
    assert account.balance == 1
    for balance in 2, 3:
        conn.transaction_manager.abort()
        with db.transaction() as other:
            account_of(other, account._p_oid).balance = balance
        conn.transaction_manager.begin()
        assert account._p_changed is None
        assert account.balance == balance


def test_a_ghost_that_others_changed_loads_the_newest_state(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root.account = Account(1)
    conn.transaction_manager.commit()
    account = conn.root.account
    conn.cacheMinimize()
    with db.transaction() as other:
        other.root.account.balance = 2
    conn.transaction_manager.begin()
    assert account._p_changed is None
    assert account.balance == 2


def test_objects_are_still_known_after_many_others_have_come_and_gone(tmp_path: Path) -> None:
    database = perdure.DB(perdure.FileStorage(str(tmp_path / "data.fs"), create=True))
    database.setCacheSize(50)
    connection = database.open()
    manager = connection.transaction_manager
    connection.root.kept = kept = Account(1)
    manager.commit()
    oids = []
    for number in range(5_000):
        # Oids far apart: each of them takes room of its own in what is remembered of them.
        database.storage.set_max_oid((number << 20).to_bytes(8, "big"))
        node = Node(number=number)
        connection.add(node)
        oids.append(node._p_oid)
        if number % 500 == 0:
            manager.commit()
    manager.commit()
    for oid in oids:
        assert connection.get(oid).number >= 0
        if oid == oids[2_500]:
            manager.commit()
    manager.commit()
    with database.transaction() as other:
        account_of(other, kept._p_oid).balance = 2
        other.get(oids[-1]).number = -1
    manager.begin()
    assert kept.balance == 2
    assert connection.get(oids[-1]).number == -1
    connection.close()
    database.close()
