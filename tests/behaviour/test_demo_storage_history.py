"""What an overlay remembers: deletions and undoing, over packs, copies and blobs."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB.FileStorage
import ZODB.MappingStorage
from BTrees.IOBTree import IOBTree
from persistent.mapping import PersistentMapping
from tests.storing import commit, oid, undo

import perdure
from perdure.blob import BlobStorage
from perdure.errors import POSKeyError, ReadConflictError
from perdure.ids import MAX_TID, Tid
from perdure.interfaces import IExternalGC, IStorageRestoreable, IStorageUndoable
from perdure.serialize import referencesf
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.demo import DemoStorage, DemoStorage2
from perdure.storage.zlib import ZlibStorage

BASE = b"what the base has"

Changes = Callable[[Path], Any]
CHANGES: dict[str, Changes] = {
    "file": lambda path: FileStorage(str(path / "changes.fs"), pack_keep_old=False),
    "mapping": lambda _path: MappingStorage(),
    "stock file": lambda path: ZODB.FileStorage.FileStorage(str(path / "changes.fs")),
    "zlib": lambda path: ZlibStorage(FileStorage(str(path / "changes.fs"))),
    "demo": lambda path: DemoStorage(base=MappingStorage(), changes=CHANGES["file"](path)),
    "blobs": lambda path: BlobStorage(str(path / "changes.blobs"), MappingStorage()),
}
UNDOING = [name for name in CHANGES if name != "stock mapping"]


@pytest.fixture
def base() -> Any:
    storage = MappingStorage("base")
    commit(storage, {1: BASE, 2: BASE, 3: BASE})
    return storage


@pytest.fixture(params=CHANGES)
def changes(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return CHANGES[request.param](tmp_path)


@pytest.fixture(params=[DemoStorage, DemoStorage2])
def demo(request: pytest.FixtureRequest, base: Any, changes: Any) -> Iterator[Any]:
    storage = request.param(base=base, changes=changes)
    yield storage
    storage.close()


def pack(storage: Any, t: float | None = None) -> None:
    storage.pack(time.time() if t is None else t, referencesf)


def is_gone(storage: Any, number: int) -> bool:
    try:
        storage.load(oid(number))
    except POSKeyError:
        return True
    return False


def current(storage: Any) -> dict[int, bytes]:
    """Return the current records, by the numbers of their oids."""
    found, following = {}, None
    while True:
        key, _tid, data, following = storage.record_iternext(following)
        found[int.from_bytes(key, "big")] = data
        if following is None:
            return found


def last_told(storage: Any) -> dict[int, bytes | None]:
    """Return the last record of each object that an iteration tells of."""
    transactions = storage.iterator()
    return {
        int.from_bytes(record.oid, "big"): record.data for txn in transactions for record in txn
    }


def test_a_pack_keeps_that_an_object_of_the_base_was_deleted(demo: Any) -> None:
    commit(demo, {2: b"changed"})
    deleted = commit(demo, {}, delete=[1, 2])
    pack(demo)
    assert is_gone(demo, 1)
    assert is_gone(demo, 2)
    assert demo.load(oid(3))[0] == BASE
    assert demo.loadBefore(oid(1), deleted)[0] == BASE
    assert current(demo) == {3: BASE}
    pack(demo)
    assert is_gone(demo, 1)


def test_a_pack_drops_what_was_deleted_in_the_changes_alone(demo: Any) -> None:
    key = demo.new_oid()
    number = int.from_bytes(key, "big")
    commit(demo, {number: b"new"})
    commit(demo, {}, delete=[number])
    commit(demo, {1: b"changed"})
    pack(demo)
    assert is_gone(demo, number)
    assert all(record.oid != key for txn in demo.iterator() for record in txn)


def test_a_deletion_is_there_after_a_pack_and_a_restart(base: Any, tmp_path: Path) -> None:
    demo = DemoStorage(base=base, changes=CHANGES["file"](tmp_path), close_base_on_close=False)
    commit(demo, {}, delete=[1])
    pack(demo)
    demo.close()
    again = DemoStorage(base=base, changes=CHANGES["file"](tmp_path))
    assert is_gone(again, 1)
    assert again.load(oid(2))[0] == BASE
    again.close()


def test_a_deletion_can_be_undone_after_a_pack_to_before_it(demo: Any) -> None:
    commit(demo, {3: b"changed"})
    before = time.time()
    deleted = commit(demo, {}, delete=[1])
    pack(demo, before)
    assert is_gone(demo, 1)
    undo(demo, deleted)
    assert demo.load(oid(1))[0] == BASE
    assert current(demo) == {1: BASE, 2: BASE, 3: b"changed"}


def test_deletions_of_overlays_in_one_another_are_kept_apart(base: Any) -> None:
    inner = DemoStorage(base=MappingStorage())
    commit(inner.base, {7: b"of the inner base"})
    outer = DemoStorage(base=base, changes=inner)
    commit(outer, {}, delete=[1, 7])
    assert is_gone(outer, 1)
    assert is_gone(outer, 7)
    pushed = outer.push()
    commit(pushed, {}, delete=[2])
    assert is_gone(pushed, 1)
    assert is_gone(pushed, 2)
    assert outer.load(oid(2))[0] == BASE
    pushed.close()
    outer.close()


def test_undoing_is_the_changes_own(demo: Any, changes: Any) -> None:
    for name in ("supportsUndo", "undo", "undoLog", "undoInfo"):
        assert getattr(demo, name) == getattr(changes, name)
    assert IStorageUndoable.providedBy(demo)


def test_over_changes_that_cannot_undo_nothing_can_be_undone(base: Any) -> None:
    demo = DemoStorage(base=base, changes=ZODB.MappingStorage.MappingStorage())
    assert not demo.supportsUndo()
    assert not IStorageUndoable.providedBy(demo)
    assert IExternalGC.providedBy(demo)
    commit(demo, {}, delete=[1])
    assert is_gone(demo, 1)
    demo.close()


def test_an_object_whose_first_change_was_undone_is_as_in_the_base(demo: Any, base: Any) -> None:
    first = base.lastTransaction()
    changed = commit(demo, {1: b"changed"})
    undone = undo(demo, changed)
    assert demo.load(oid(1)) == (BASE, undone)
    assert demo.loadBefore(oid(1), changed) == (BASE, first, changed)
    assert demo.loadBefore(oid(1), undone) == (b"changed", changed, undone)
    assert demo.loadSerial(oid(1), undone) == BASE
    assert last_told(demo)[1] == BASE
    assert current(demo)[1] == BASE
    assert [entry["tid"] for entry in demo.history(oid(1), 9)] == [undone, changed, first]
    again = commit(demo, {1: b"changed again"})
    assert demo.loadBefore(oid(1), again) == (BASE, undone, again)
    undo(demo, again)
    assert demo.load(oid(1))[0] == BASE


def test_undoing_a_deletion_and_undoing_that(demo: Any) -> None:
    deleted = commit(demo, {}, delete=[1])
    undone = undo(demo, deleted)
    assert demo.load(oid(1)) == (BASE, undone)
    undo(demo, undone)
    assert is_gone(demo, 1)
    assert last_told(demo)[1] is None


def test_a_pack_leaves_what_was_undone_as_the_base_has_it(demo: Any, base: Any) -> None:
    undo(demo, commit(demo, {1: b"changed"}))
    pack(demo)
    assert demo.load(oid(1))[0] == BASE
    commit(demo, {1: b"changed again"})
    assert demo.load(oid(1))[0] == b"changed again"


def test_who_has_read_an_undone_object_can_change_it_after_a_pack(base: Any) -> None:
    filled = perdure.DB(MappingStorage())
    with filled.transaction() as connection:
        connection.root.counts = PersistentMapping(one=1)
    db = perdure.DB(DemoStorage(base=filled.storage))
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    connection.root.counts["one"] = 2
    manager.commit()
    db.undo(db.undoLog(0, 1)[0]["id"], manager.get())
    manager.commit()
    assert connection.root.counts["one"] == 1
    db.pack()
    manager.begin()
    connection.root.counts["two"] = 2
    manager.commit()
    connection.readCurrent(connection.root.counts)
    connection.root.other = 1
    manager.commit()
    connection.close()
    db.close()


@pytest.mark.parametrize("at", ["file", "stock file", "demo"])
def test_undoing_is_seen_by_connections(base: Any, tmp_path: Path, at: str) -> None:
    db = perdure.DB(DemoStorage(base=MappingStorage(), changes=CHANGES[at](tmp_path)))
    with db.transaction() as connection:
        connection.root.tree = IOBTree({1: "one"})
    over = perdure.DB(db.storage.push(), database_name="over")
    manager = transaction.TransactionManager()
    connection = over.open(manager)
    connection.root.tree[2] = "two"
    manager.commit()
    over.undo(over.undoLog(0, 1)[0]["id"], manager.get())
    manager.commit()
    assert list(connection.root.tree) == [1]
    connection.close()
    over.close()
    db.close()


def test_undoing_the_first_change_of_a_blob_brings_the_bases_file_back(tmp_path: Path) -> None:
    filled = perdure.DB(
        FileStorage(str(tmp_path / "base.fs"), blob_dir=str(tmp_path / "base.blobs"))
    )
    with filled.transaction() as connection:
        connection.root.film = perdure.Blob(b"first")
    for changes in (None, BlobStorage(str(tmp_path / "blobs"), MappingStorage())):
        db = perdure.DB(
            DemoStorage(base=filled.storage, changes=changes, close_base_on_close=False)
        )
        with db.transaction() as connection, connection.root.film.open("w") as file:
            file.write(b"second")
        db.undo(db.undoLog(0, 1)[0]["id"])
        transaction.commit()
        with db.transaction() as connection:
            with connection.root.film.open() as file:
                assert file.read() == b"first"
            assert Path(connection.root.film.committed()).read_bytes() == b"first"
            with connection.root.film.open("a") as file:
                file.write(b" and third")
        with db.transaction() as connection, connection.root.film.open() as file:
            assert file.read() == b"first and third"
        db.close()
    filled.close()


@pytest.mark.parametrize("at", ["file", "mapping", "stock file", "zlib"])
def test_an_overlay_takes_on_where_its_base_is_a_copy_of_the_beginning(
    tmp_path: Path, at: str
) -> None:
    source = FileStorage(str(tmp_path / "source.fs"))
    commit(source, {1: b"one", 2: b"two", 3: b"three"})
    base = MappingStorage()
    base.copyTransactionsFrom(source)
    undo(source, commit(source, {1: b"changed"}))
    undo(source, commit(source, {3: b"changed"}))
    commit(source, {4: b"four"}, delete=[2])
    demo = DemoStorage(base=base, changes=CHANGES[at](tmp_path))
    assert IStorageRestoreable.providedBy(demo)
    assert perdure.copy(source, demo).transactions == 5
    assert is_gone(demo, 2)
    assert current(demo) == current(source) == {1: b"one", 3: b"three", 4: b"four"}
    assert [txn.tid for txn in demo.iterator()] == [txn.tid for txn in source.iterator()]
    assert perdure.copy(source, demo).transactions == 0
    pack(demo)
    assert current(demo) == current(source)
    demo.close()
    source.close()


def test_a_copy_of_an_overlay_has_what_can_be_seen_in_it(demo: Any) -> None:
    commit(demo, {2: b"changed", 5: b"new"}, delete=[1])
    undo(demo, commit(demo, {3: b"changed"}))
    target = MappingStorage()
    perdure.copy(demo, target)
    assert current(target) == current(demo) == {2: b"changed", 3: BASE, 5: b"new"}
    assert is_gone(target, 1)


def test_a_connection_learns_that_an_object_is_deleted(base: Any) -> None:
    filled = perdure.DB(MappingStorage())
    with filled.transaction() as connection:
        connection.root.one = PersistentMapping(n=1)
    demo = DemoStorage(base=filled.storage)
    db = perdure.DB(demo)
    connection = db.open(transaction.TransactionManager())
    one = connection.root.one
    key = one._p_oid
    assert one["n"] == 1
    connection.close()
    commit(demo, {}, delete=[int.from_bytes(key, "big")])
    db.cacheMinimize()
    again = db.open(transaction.TransactionManager())
    with pytest.raises((POSKeyError, ReadConflictError)):
        again.get(key)["n"]
    before = demo.loadBefore(key, MAX_TID) if not is_gone(demo, 1) else None
    assert before is None or before[1] != Tid(bytes(8))
    again.close()
    db.close()
