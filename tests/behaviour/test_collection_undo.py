"""Undo over collections."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transaction

import perdure
from perdure import errors
from perdure.ids import ROOT_OID


@pytest.fixture
def collection() -> Any:
    with perdure.Collection({"one": None, "two": None}) as made:
        for number in (1, 2):
            with made.transaction(f"both {number}") as conn:
                conn.root.n = conn["two"].root.n = number
        yield made


def _values(collection: perdure.Collection) -> tuple[int, int]:
    with collection.transaction() as conn:
        return conn.root.n, conn["two"].root.n


def test_a_joint_transaction_is_one_entry(collection: perdure.Collection) -> None:
    with collection["two"].transaction("alone") as conn:
        conn.root.m = 1
    log = collection.undoLog()
    assert [info["description"] for info in log[:3]] == ["alone", "both 2", "both 1"]
    assert [info["members"] for info in log[:3]] == [["two"], ["one", "two"], ["one", "two"]]
    assert collection.undoLog(1, 3) == log[1:3]
    assert collection.undoLog(1, -1) == log[1:2]


def test_undo_is_for_all_members(collection: perdure.Collection) -> None:
    manager = transaction.TransactionManager()
    collection.undo(collection.undoLog(0, -1)[0]["id"], manager.begin())
    manager.commit()
    assert _values(collection) == (1, 1)
    assert collection["one"].lastTransaction() == collection["two"].lastTransaction()


def test_undo_that_is_impossible_in_one_member_is_done_in_none(
    collection: perdure.Collection,
) -> None:
    undone = collection.undoLog(0, -1)[0]["id"]
    with collection["two"].transaction() as conn:
        conn.root.n = 3
    plan = collection.undo(undone, dry_run=True)
    assert plan is not None
    assert [[step.effect for step in steps] for steps in plan.values()] == [
        ["restored"],
        ["impossible"],
    ]
    manager = transaction.TransactionManager()
    collection.undo(undone, manager.begin())
    with pytest.raises(errors.UndoError):
        manager.commit()
    manager.abort()
    assert _values(collection) == (2, 3)


def test_an_unknown_transaction_is_an_error(collection: perdure.Collection) -> None:
    for unknown in (b"what?", b"AAAAAAAAAAE="):
        with pytest.raises(errors.UndoError, match="transaction"):
            collection.undo(unknown)


def test_a_dry_run_tells_of_each_member_and_changes_nothing(
    collection: perdure.Collection,
) -> None:
    before = collection.lastTransaction()
    entry = collection.undoLog(0, -1)[0]
    plan = collection.undo(entry["id"], dry_run=True)
    assert plan is not None
    assert sorted(plan) == entry["members"] == ["one", "two"]
    for steps in plan.values():
        (step,) = steps
        assert step.effect == "restored"
        assert step.class_name == "persistent.mapping.PersistentMapping"
    assert collection.lastTransaction() == before
    assert _values(collection) == (2, 2)


def test_an_undone_transaction_can_be_brought_back(collection: perdure.Collection) -> None:
    for expected in ((1, 1), (2, 2), (1, 1)):
        collection.undo(collection.undoLog(0, -1)[0]["id"])
        transaction.commit()
        assert _values(collection) == expected
    assert collection.undoLog(0, -1)[0]["members"] == ["one", "two"]


def test_the_creation_of_objects_that_refer_to_one_another_is_undone_in_all(
    collection: perdure.Collection,
) -> None:
    with collection.transaction() as conn:
        there = perdure.PersistentMapping()
        conn["two"].add(there)
        conn.root.here = perdure.PersistentMapping(there=there)
    before = [len(database.storage) for database in collection.values()]
    plan = collection.undo(collection.undoLog(0, -1)[0]["id"], dry_run=True)
    assert plan is not None
    effects = {name: sorted(step.effect for step in steps) for name, steps in plan.items()}
    assert effects == {"one": ["removed", "restored"], "two": ["removed"]}
    collection.undo(collection.undoLog(0, -1)[0]["id"])
    transaction.commit()
    assert all(report.ok for report in collection.check().values())
    assert before == [2, 2]


def test_blobs_are_undone_in_all_members(tmp_path: Path) -> None:
    members = {
        name: perdure.FileStorage(str(tmp_path / f"{name}.fs"), blob_dir=str(tmp_path / name))
        for name in ("one", "two")
    }

    def contents(conn: perdure.Connection) -> list[bytes]:
        found = []
        for name in members:
            with conn[name].root.blob.open() as file:
                found.append(file.read())
        return found

    with perdure.Collection(members) as collection:
        with collection.transaction() as conn:
            for name in members:
                conn[name].root.blob = perdure.Blob(b"first " + name.encode())
        with collection.transaction() as conn:
            for name in members:
                with conn[name].root.blob.open("w") as file:
                    file.write(b"second " + name.encode())
        collection.undo(collection.undoLog(0, -1)[0]["id"])
        transaction.commit()
        with collection.transaction() as conn:
            assert contents(conn) == [b"first one", b"first two"]
        collection.undo(collection.undoLog(0, -1)[0]["id"])
        transaction.commit()
        with collection.transaction() as conn:
            assert contents(conn) == [b"second one", b"second two"]


def test_what_a_pack_has_dropped_in_one_member_is_undone_in_none(
    collection: perdure.Collection,
) -> None:
    undone = collection.undoLog(0, -1)[0]["id"]
    with collection["two"].transaction() as conn:
        conn.root.n = 3
    collection["two"].pack(time.time() + 1)
    assert collection.undoLog(0, -1)[0]["members"] == ["one"]
    with pytest.raises(errors.UndoError, match="'two' was packed"):
        collection.undo(undone)
    with pytest.raises(errors.UndoError, match="'two' was packed"):
        collection.undo(undone, dry_run=True)
    transaction.abort()
    assert _values(collection) == (2, 3)
    # What came after the pack can be undone, in the other member alone, too.
    with collection["one"].transaction() as conn:
        conn.root.n = 4
    collection.undo(collection.undoLog(0, -1)[0]["id"])
    transaction.commit()
    assert _values(collection) == (2, 3)


class _Meanwhile:
    """A resource that does something when all have stored, and none has voted yet."""

    def __init__(self, manager: transaction.TransactionManager, work: Callable[[], None]) -> None:
        self.transaction_manager = manager
        self._work = work

    def sortKey(self) -> str:
        return "~ after all others"

    def commit(self, _transaction: Any) -> None:
        self._work()

    def abort(self, _transaction: Any) -> None:
        """Nothing has to be done."""

    tpc_begin = tpc_vote = tpc_finish = tpc_abort = abort


@pytest.mark.parametrize(("undone_in", "changed_in"), [("one", "two"), ("two", "one")])
def test_a_conflict_of_an_undo_names_its_member(
    collection: perdure.Collection, undone_in: str, changed_in: str
) -> None:
    database = collection[undone_in]

    def change() -> None:
        with database.transaction() as conn:
            conn.root.n = 4

    manager = transaction.TransactionManager()
    current = manager.begin()
    conn = collection[changed_in].open(manager)
    conn.root.n = 3
    database.undo(database.undoLog(0, 1)[0]["id"], current)
    current.join(_Meanwhile(manager, change))
    with pytest.raises(errors.ConflictError) as raised:
        manager.commit()
    manager.abort()
    conn.close()
    assert raised.value.database == undone_in
    assert raised.value.oid == ROOT_OID
    assert sorted(_values(collection)) == [2, 4]


def test_a_conflict_of_an_undo_alone_names_its_database() -> None:
    with perdure.DB(None, database_name="shop") as db:
        for number in range(2):
            with db.transaction() as conn:
                conn.root.n = number

        def change() -> None:
            with db.transaction() as conn:
                conn.root.n = 4

        manager = transaction.TransactionManager()
        current = manager.begin()
        db.undo(db.undoLog(0, 1)[0]["id"], current)
        current.join(_Meanwhile(manager, change))
        with pytest.raises(errors.ConflictError) as raised:
            manager.commit()
        assert raised.value.database == "shop"
