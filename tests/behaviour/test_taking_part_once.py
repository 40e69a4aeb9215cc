"""Undos and changes in one transaction: together where they can be, refused where not."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB.FileStorage
from tests.behaviour.models import Account
from tests.layers import LAYERED_MEMBERS

import perdure
from perdure.errors import ConflictError, StorageTransactionError, UndoError
from perdure.storage import FileStorage, MappingStorage

PATIENCE_SECONDS = 60
"""More than any commit here takes, and less than for ever."""

Make = Callable[[Path, str], Any]

MEMBERS: dict[str, Make] = {
    "file": lambda where, name: FileStorage(where / f"{name}.fs"),
    **LAYERED_MEMBERS,
}
STORAGES: dict[str, Make] = {
    "memory": lambda _where, name: MappingStorage(name),
    "stock": lambda where, name: ZODB.FileStorage.FileStorage(str(where / f"{name}.fs")),
    **MEMBERS,
}


@pytest.fixture(params=STORAGES)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.DB]:
    with perdure.DB(STORAGES[request.param](tmp_path, "data")) as database:
        yield database


@pytest.fixture
def tm() -> transaction.TransactionManager:
    return transaction.TransactionManager()


@pytest.fixture
def conn(db: perdure.DB, tm: transaction.TransactionManager) -> Iterator[perdure.Connection]:
    """A connection to accounts `a` and `b`, each of which was changed in a transaction."""
    opened = db.open(tm)
    root = opened.root()
    root["a"], root["b"] = Account(0), Account(0)
    committed(tm, "made")
    for balance in (1, 2):
        for name in "ab":
            root[name].balance = balance
            committed(tm, f"{name}{balance}")
    yield opened
    tm.abort()


def committed(tm: transaction.TransactionManager, note: str) -> None:
    tm.get().note(note)
    tm.commit()


def commits(tm: transaction.TransactionManager) -> None:
    """Commit, in a thread that nobody waits for if it doesn't come to an end."""
    raised: list[BaseException] = []

    def commit() -> None:
        try:
            tm.commit()
        except BaseException as error:  # noqa: BLE001 - raised below
            raised.append(error)

    committing = threading.Thread(target=commit, daemon=True)
    committing.start()
    committing.join(PATIENCE_SECONDS)
    assert not committing.is_alive(), "the commit waits for itself"
    if raised:
        raise raised[0]


def undo(db: Any, tm: transaction.TransactionManager, note: str, **chosen: Any) -> None:
    entry = next(each for each in db.undoLog(0, 100) if each["description"] == note)
    db.undo(entry["id"], tm.get(), **chosen)


def balances(conn: perdure.Connection) -> dict[str, float]:
    return {name: conn.root()[name].balance for name in "ab"}


def goes_on(conn: perdure.Connection) -> None:
    """See that the next transactions, of whichever connection, have no lock to wait for."""
    manager = transaction.TransactionManager()
    other = conn.db().open(manager)
    for each in (other, conn):
        each.transaction_manager.begin()
        each.root()["later"] = each.root().get("later", 0) + 1
        commits(each.transaction_manager)
    assert conn.root()["later"] == 2
    other.close()


def test_two_undos_are_one(
    db: perdure.DB, conn: perdure.Connection, tm: transaction.TransactionManager
) -> None:
    undo(db, tm, "a2")
    undo(db, tm, "b2")
    commits(tm)
    assert balances(conn) == {"a": 1, "b": 1}
    goes_on(conn)


def test_an_undo_builds_on_those_before_it(
    db: perdure.DB, conn: perdure.Connection, tm: transaction.TransactionManager
) -> None:
    undo(db, tm, "a2")
    undo(db, tm, "a1")
    db.undoMultiple([each["id"] for each in db.undoLog(0, 1)], tm.get())
    commits(tm)
    assert balances(conn) == {"a": 0, "b": 1}
    goes_on(conn)


def test_of_several_undos_that_are_in_the_way_of_each_other_none_is_done(
    db: perdure.DB, conn: perdure.Connection, tm: transaction.TransactionManager
) -> None:
    undo(db, tm, "b2")
    undo(db, tm, "a1")
    with pytest.raises(UndoError):
        commits(tm)
    tm.abort()
    assert balances(conn) == {"a": 2, "b": 2}
    goes_on(conn)


def test_each_undo_has_its_own_choice_of_objects(tmp_path: Path) -> None:
    with perdure.DB(tmp_path / "data.fs") as db:
        tm = transaction.TransactionManager()
        root = db.open(tm).root()
        root["a"], root["b"], root["c"] = Account(0), Account(0), Account(0)
        committed(tm, "made")
        root["a"].balance = root["b"].balance = 1
        committed(tm, "both")
        root["c"].balance = 1
        committed(tm, "third")
        undo(db, tm, "both", oids=[root["a"]._p_oid])
        undo(db, tm, "third")
        commits(tm)
        assert [root[name].balance for name in "abc"] == [0, 1, 0]


def test_a_change_and_an_undo_are_refused_together(
    db: perdure.DB, conn: perdure.Connection, tm: transaction.TransactionManager
) -> None:
    conn.root()["a"].balance = 5
    undo(db, tm, "b2")
    with pytest.raises(StorageTransactionError, match=r"twice: undo in a transaction of its own"):
        commits(tm)
    tm.abort()
    assert balances(conn) == {"a": 2, "b": 2}
    goes_on(conn)


def test_changes_through_two_connections_are_refused_together(
    db: perdure.DB, conn: perdure.Connection, tm: transaction.TransactionManager
) -> None:
    second = db.open(tm)
    conn.root()["a"].balance = 5
    second.root()["b"].balance = 5
    with pytest.raises(StorageTransactionError, match="through one connection"):
        commits(tm)
    tm.abort()
    assert balances(conn) == balances(second) == {"a": 2, "b": 2}
    second.close()
    goes_on(conn)


def test_a_connection_that_stores_nothing_is_in_no_undos_way(
    db: perdure.DB, conn: perdure.Connection, tm: transaction.TransactionManager
) -> None:
    conn.root()["a"].balance = 5
    conn.root()["a"]._p_changed = False
    undo(db, tm, "b2")
    commits(tm)
    conn.cacheMinimize()
    assert balances(conn) == {"a": 2, "b": 1}
    goes_on(conn)


def test_an_undo_of_a_failed_transaction_is_refused_as_any_change(
    db: perdure.DB, conn: perdure.Connection, tm: transaction.TransactionManager
) -> None:
    undo(db, tm, "b2")
    manager = transaction.TransactionManager()
    other = db.open(manager)
    other.root()["b"].balance = 7
    manager.commit()
    with pytest.raises((UndoError, ConflictError)):
        commits(tm)
    with pytest.raises(transaction.interfaces.TransactionFailedError):
        undo(db, tm, "a2")
    tm.abort()
    other.close()
    goes_on(conn)


@pytest.fixture(params=MEMBERS)
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.Collection]:
    make = MEMBERS[request.param]
    made = perdure.Collection({name: make(tmp_path, name) for name in ("one", "two")})
    yield made
    made.close()


def test_undos_in_a_collection_are_one_in_each_member(
    collection: perdure.Collection, tm: transaction.TransactionManager
) -> None:
    conn = collection.open(tm)
    for number in (1, 2):
        for name in collection:
            conn[name].root()["x"] = number
            conn[name].root()[f"y{number}"] = Account(number)
        committed(tm, f"x{number}")
    undo(collection, tm, "x2")
    undo(collection, tm, "x1")
    tm.get().note("undone")
    commits(tm)
    assert ["x" in conn[name].root() for name in collection] == [False, False]
    conn["one"].root()["z"] = 1
    undo(collection["one"], tm, "undone")
    with pytest.raises(StorageTransactionError, match="twice"):
        commits(tm)
    tm.abort()
    assert "z" not in conn["one"].root()
    goes_on(conn["one"])
    goes_on(conn["two"])
