"""Undo: what can be taken back, what stands in the way, and what the log says of it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB.FileStorage
from BTrees.Length import Length
from persistent.mapping import PersistentMapping

import perdure
from perdure.connection import TransactionMetaData
from perdure.errors import MultipleUndoErrors, UndoError
from perdure.storage import FileStorage, MappingStorage


@pytest.fixture(params=["file", "memory"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.DB]:
    storage = FileStorage(tmp_path / "data.fs") if request.param == "file" else MappingStorage()
    db = perdure.DB(storage)
    yield db
    db.close()


@pytest.fixture
def connection(database: perdure.DB) -> Iterator[Any]:
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    yield connection
    manager.abort()
    connection.close()


def commit(connection: Any, note: str) -> None:
    connection.transaction_manager.get().note(note)
    connection.transaction_manager.commit()


@pytest.fixture
def undo(database: perdure.DB, connection: Any) -> Callable[[str], None]:
    """Undo the newest transaction with a given note."""

    def undo(note: str) -> None:
        manager = connection.transaction_manager
        manager.begin()
        entry = next(e for e in database.undoLog(0, 100) if e["description"] == note)
        database.undo(entry["id"], manager.get())
        manager.get().note(f"undo {note}")
        try:
            manager.commit()
        except BaseException:
            manager.abort()
            raise

    return undo


def test_a_change_is_taken_back_and_brought_again(
    connection: Any, undo: Callable[[str], None]
) -> None:
    root = connection.root()
    root["box"] = PersistentMapping(x=1)
    commit(connection, "add")
    root["box"]["x"] = 2
    commit(connection, "change")
    undo("change")
    assert root["box"]["x"] == 1
    undo("undo change")
    assert root["box"]["x"] == 2


def test_the_record_of_an_undo_refers_to_the_old_data(
    database: perdure.DB, connection: Any, undo: Callable[[str], None]
) -> None:
    root = connection.root()
    root["x"] = 1
    commit(connection, "one")
    first = database.lastTransaction()
    root["x"] = 2
    commit(connection, "two")
    undo("two")
    *_, last = database.storage.iterator()
    assert [record.data_txn for record in last] == [first]


def test_undoing_a_creation_removes_the_object(
    database: perdure.DB, connection: Any, undo: Callable[[str], None]
) -> None:
    root = connection.root()
    root["box"] = box = PersistentMapping()
    commit(connection, "add")
    oid = box._p_oid
    undo("add")
    assert "box" not in root
    with pytest.raises(perdure.errors.POSKeyError):
        database.storage.load(oid)
    *_, last = database.storage.iterator()
    assert {record.oid: record.data for record in last}[oid] is None


def test_later_changes_stand_in_the_way_and_are_named(
    database: perdure.DB, connection: Any, undo: Callable[[str], None]
) -> None:
    root = connection.root()
    for value, note in enumerate(["one", "two", "three"]):
        root["x"] = value
        commit(connection, note)
    size = database.getSize()
    with pytest.raises(UndoError, match="changed later by") as caught:
        undo("two")
    assert perdure.utils.readable_tid_repr(database.lastTransaction()) in str(caught.value)
    assert root["x"] == 2
    assert database.getSize() == size


def test_every_object_in_the_way_is_named(connection: Any, undo: Callable[[str], None]) -> None:
    root = connection.root()
    root["a"], root["b"] = PersistentMapping(), PersistentMapping()
    commit(connection, "add")
    for note in ("one", "two"):
        root["a"]["x"] = root["b"]["x"] = note
        commit(connection, note)
    with pytest.raises(MultipleUndoErrors) as caught:
        undo("one")
    assert len(caught.value.errors) == 2


def test_changes_that_can_be_merged_are_undone(
    connection: Any, undo: Callable[[str], None]
) -> None:
    root = connection.root()
    root["count"] = Length(0)
    commit(connection, "add")
    for by, note in [(10, "ten"), (5, "five")]:
        root["count"].change(by)
        commit(connection, note)
    undo("ten")
    assert root["count"]() == 5


def test_several_transactions_are_undone_in_one(database: perdure.DB, connection: Any) -> None:
    root = connection.root()
    root["x"] = 0
    commit(connection, "add")
    for value in (1, 2):
        root["x"] = value
        commit(connection, f"to {value}")
    ids = [entry["id"] for entry in database.undoLog(0, 2)]
    manager = connection.transaction_manager
    manager.begin()
    database.undoMultiple(ids, manager.get())
    manager.commit()
    assert root["x"] == 0


def test_a_change_committed_meanwhile_is_not_lost(database: perdure.DB, connection: Any) -> None:
    root = connection.root()
    for value in (1, 2):
        root["x"] = value
        commit(connection, f"to {value}")
    meta = TransactionMetaData()
    storage = database.storage
    storage.tpc_begin(meta)
    storage.undo(storage.undoLog(0, 1)[0]["id"], meta)
    root["x"] = 3
    commit(connection, "meanwhile")
    with pytest.raises(perdure.errors.ConflictError):
        storage.tpc_vote(meta)
    storage.tpc_abort(meta)
    connection.sync()
    assert root["x"] == 3


@pytest.mark.parametrize("wrong", [b"nonsense!", b"AAAAAAAAAAE=", b""])
def test_an_unknown_transaction_is_refused(database: perdure.DB, wrong: bytes) -> None:
    meta = TransactionMetaData()
    storage = database.storage
    storage.tpc_begin(meta)
    with pytest.raises(UndoError):
        storage.undo(wrong, meta)
    storage.tpc_abort(meta)


def test_the_log_is_sliced_and_filtered(database: perdure.DB, connection: Any) -> None:
    for number in range(6):
        connection.root()["x"] = number
        connection.transaction_manager.get().setExtendedInfo("parity", number % 2)
        commit(connection, f"n{number}")

    def notes(log: Any) -> list[str]:
        return [entry["description"] for entry in log]

    assert notes(database.undoLog(0, 2)) == ["n5", "n4"]
    assert notes(database.undoLog(1, 3)) == ["n4", "n3"]
    assert notes(database.undoLog(1, -3)) == ["n4", "n3", "n2"]
    odd = database.undoLog(0, 10, lambda entry: entry.get("parity") == 1)
    assert notes(odd) == ["n5", "n3", "n1"]
    assert notes(database.undoInfo(0, -2, {"parity": 0})) == ["n4", "n2"]
    entry = database.undoLog(0, 1)[0]
    assert isinstance(entry["time"], float)
    assert entry["size"] > 0


def test_a_dry_run_says_what_would_happen_and_changes_nothing(
    database: perdure.DB, connection: Any
) -> None:
    root = connection.root()
    root["a"], root["b"], root["n"] = PersistentMapping(), PersistentMapping(), Length(0)
    commit(connection, "add")
    root["a"]["x"] = root["b"]["x"] = 1
    root["n"].change(5)
    root["new"] = PersistentMapping()
    commit(connection, "one")
    root["b"]["x"] = 2
    root["n"].change(1)
    commit(connection, "two")
    entry = next(e for e in database.undoLog(0, 9) if e["description"] == "one")
    size = database.getSize()
    plan = {step.oid: step for step in database.undo(entry["id"], dry_run=True) or ()}
    assert database.getSize() == size
    assert {oid: step.effect for oid, step in plan.items()} == {
        root["a"]._p_oid: "restored",
        root["b"]._p_oid: "impossible",
        root["n"]._p_oid: "merged",
        root["new"]._p_oid: "removed",
        root._p_oid: "restored",
    }
    assert plan[root["a"]._p_oid].class_name == "persistent.mapping.PersistentMapping"
    assert "changed later by" in (plan[root["b"]._p_oid].reason or "")


def test_chosen_objects_of_a_transaction_are_undone(database: perdure.DB, connection: Any) -> None:
    root = connection.root()
    root["a"], root["b"] = PersistentMapping(x=0), PersistentMapping(x=0)
    commit(connection, "add")
    root["a"]["x"] = root["b"]["x"] = 1
    commit(connection, "one")
    manager = connection.transaction_manager
    entry = database.undoLog(0, 1)[0]
    database.undo(entry["id"], manager.get(), oids={root["a"]._p_oid})
    manager.commit()
    assert [root["a"]["x"], root["b"]["x"]] == [0, 1]


def test_a_foreign_storage_undoes_whole_transactions_only(tmp_path: Path) -> None:
    storage = ZODB.FileStorage.FileStorage(str(tmp_path / "data.fs"))
    database = perdure.DB(storage)
    entry = database.undoLog(0, 1)[0]
    with pytest.raises(perdure.errors.Unsupported, match="whole transactions"):
        database.undo(entry["id"], dry_run=True)
    database.close()
