"""Undo told beforehand, and undo of chosen objects, through layers."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.Length import Length
from persistent.mapping import PersistentMapping

import perdure
from perdure.blob import BlobStorage
from perdure.errors import UndoError
from perdure.storage import EncryptingStorage, ZstdStorage
from perdure.storage.demo import DemoStorage, DemoStorage2
from perdure.storage.zlib import ZlibStorage

KEY = bytes(range(32))


def file_storage(where: Path) -> perdure.FileStorage:
    return perdure.FileStorage(str(where / "data.fs"), blob_dir=str(where / "blobs"))


LAYERS: dict[str, Callable[[Path], Any]] = {
    "zlib": lambda where: ZlibStorage(file_storage(where)),
    "zstd": lambda where: ZstdStorage(file_storage(where)),
    "encrypted": lambda where: EncryptingStorage(file_storage(where), KEY),
    "zstd over encrypted": lambda where: ZstdStorage(EncryptingStorage(file_storage(where), KEY)),
    "blobs": lambda where: BlobStorage(
        str(where / "blobs"), perdure.FileStorage(str(where / "data.fs"))
    ),
    "demo": lambda where: DemoStorage(changes=file_storage(where)),
    "demo2": lambda where: DemoStorage2(perdure.MappingStorage(), file_storage(where)),
    "demo over zlib": lambda where: DemoStorage(changes=ZlibStorage(file_storage(where))),
}


@pytest.fixture(params=LAYERS)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.DB]:
    made = perdure.DB(LAYERS[request.param](tmp_path))
    yield made
    made.close()


def commit(note: str) -> None:
    transaction.get().note(note)
    transaction.commit()


@pytest.fixture
def connection(db: perdure.DB) -> Iterator[Any]:
    made = db.open()
    root = made.root()
    root["a"], root["b"], root["n"] = PersistentMapping(x=0), PersistentMapping(x=0), Length(0)
    commit("add")
    root["a"]["x"] = root["b"]["x"] = 1
    root["n"].change(5)
    root["new"] = PersistentMapping()
    commit("one")
    yield made
    transaction.abort()
    made.close()


def id_of(db: perdure.DB, note: str) -> bytes:
    found: bytes = next(e["id"] for e in db.undoLog(0, 9) if e["description"] == note)
    return found


def test_a_dry_run_tells_what_the_undo_then_does(db: perdure.DB, connection: Any) -> None:
    root = connection.root()
    root["n"].change(1)
    commit("two")
    last = db.lastTransaction()
    plan = {step.oid: step for step in db.undo(id_of(db, "one"), dry_run=True) or ()}
    assert db.lastTransaction() == last
    new = root["new"]._p_oid
    assert {oid: (step.effect, step.class_name) for oid, step in plan.items()} == {
        root._p_oid: ("restored", "persistent.mapping.PersistentMapping"),
        root["a"]._p_oid: ("restored", "persistent.mapping.PersistentMapping"),
        root["b"]._p_oid: ("restored", "persistent.mapping.PersistentMapping"),
        root["n"]._p_oid: ("merged", "BTrees.Length.Length"),
        new: ("removed", "persistent.mapping.PersistentMapping"),
    }
    db.undo(id_of(db, "one"))
    transaction.commit()
    assert [root["a"]["x"], root["b"]["x"], root["n"](), "new" in root] == [0, 0, 1, False]


def test_a_dry_run_names_what_stands_in_the_way(db: perdure.DB, connection: Any) -> None:
    root = connection.root()
    root["b"]["x"] = 2
    commit("two")
    steps = {step.oid: step for step in db.undo(id_of(db, "one"), dry_run=True) or ()}
    step = steps[root["b"]._p_oid]
    assert step.effect == "impossible"
    assert "changed later by" in (step.reason or "")
    db.undo(id_of(db, "one"))
    with pytest.raises(UndoError, match="changed later by"):
        transaction.commit()
    transaction.abort()
    with pytest.raises(UndoError):
        db.undo(b"AAAAAAAAAAE=", dry_run=True)


def test_chosen_objects_are_undone_and_the_others_left(db: perdure.DB, connection: Any) -> None:
    root = connection.root()
    root["b"]["x"] = 2
    commit("two")
    chosen = {root["a"]._p_oid, root["n"]._p_oid}
    steps = db.undo(id_of(db, "one"), oids=chosen, dry_run=True) or ()
    assert {step.oid for step in steps} == chosen
    assert {step.effect for step in steps} == {"restored"}
    db.undo(id_of(db, "one"), oids=chosen)
    transaction.commit()
    assert [root["a"]["x"], root["b"]["x"], root["n"](), "new" in root] == [0, 2, 0, True]


def test_chosen_blobs_are_undone(db: perdure.DB) -> None:
    with db.transaction() as connection:
        connection.root.one, connection.root.two = perdure.Blob(b"1"), perdure.Blob(b"2")
    with db.transaction(note="change") as connection:
        for blob in (connection.root.one, connection.root.two):
            with blob.open("w") as file:
                file.write(b"changed")
        oid = connection.root.one._p_oid
    db.undo(id_of(db, "change"), oids={oid})
    transaction.commit()
    with db.transaction() as connection:
        data = []
        for blob in (connection.root.one, connection.root.two):
            with blob.open() as file:
                data.append(file.read())
    assert data == [b"1", b"changed"]


def test_undoing_the_first_change_of_a_bases_object_restores_it() -> None:
    base = perdure.MappingStorage()
    made = perdure.DB(base)
    with made.transaction() as connection:
        connection.root.one = PersistentMapping(x=0)
    db = perdure.DB(DemoStorage(base=base))
    with db.transaction(note="change") as connection:
        connection.root.one["x"] = 1
        oid = connection.root.one._p_oid
    steps = db.undo(id_of(db, "change"), dry_run=True)
    assert steps is not None
    (step,) = steps
    assert (step.oid, step.effect) == (oid, "restored")
    db.undo(id_of(db, "change"))
    transaction.commit()
    with db.transaction() as connection:
        assert connection.root.one["x"] == 0
    db.close()
