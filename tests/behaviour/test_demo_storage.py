"""Changes laid over a base that stays as it is: `DemoStorage` and `DemoStorage2`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ZODB.FileStorage
import ZODB.MappingStorage
import ZODB.POSException
from persistent.mapping import PersistentMapping

from perdure.connection import TransactionMetaData
from perdure.db import DB
from perdure.errors import ConflictError, POSKeyError, StorageError, UndoError
from perdure.ids import MAX_TID, NO_TID, Oid, Tid, p64, u64
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.before import BeforeStorage
from perdure.storage.demo import DemoStorage

ONE = Oid(p64(1))
ROOT = Oid(p64(0))

Opener = Callable[[str], Any]


@pytest.fixture(params=["perdure", "stock"])
def open_file(request: pytest.FixtureRequest, tmp_path: Path) -> Opener:
    """Opens the file storage with a name: perdure's, or stock's."""
    kind = FileStorage if request.param == "perdure" else ZODB.FileStorage.FileStorage

    def opened(name: str, **options: Any) -> Any:
        return kind(str(tmp_path / name), **options)

    return opened


@pytest.fixture
def base(open_file: Opener) -> Any:
    db = DB(open_file("base.fs"))
    with db.transaction() as connection:
        connection.root()["1"] = PersistentMapping({"a": 1, "b": 2})
    db.close()
    return open_file("base.fs", read_only=True)  # type: ignore[call-arg]


@pytest.fixture
def demo(base: Any, open_file: Opener) -> Any:
    return DemoStorage(base=base, changes=open_file("changes.fs"))


def commit(storage: Any, *steps: Callable[[TransactionMetaData], object]) -> Tid:
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    try:
        for step in steps:
            step(meta)
        storage.tpc_vote(meta)
    except BaseException:
        storage.tpc_abort(meta)
        raise
    tid: Tid = storage.tpc_finish(meta)
    return tid


def put(storage: Any, oid: Oid, serial: Tid, data: bytes) -> Tid:
    return commit(storage, lambda meta: storage.store(oid, serial, data, "", meta))


def delete(storage: Any, oid: Oid) -> Tid:
    serial = storage.getTid(oid)
    return commit(storage, lambda meta: storage.deleteObject(oid, serial, meta))


def undo_last(storage: Any) -> Tid:
    (last,) = storage.undoLog(0, 1)
    return commit(storage, lambda meta: storage.undo(last["id"], meta))


def test_the_base_is_not_written_and_the_changes_are(demo: Any, base: Any) -> None:
    size = base.getSize()
    assert demo.lastTransaction() == base.lastTransaction()
    db = DB(demo)
    with db.transaction() as connection:
        assert dict(connection.root()["1"]) == {"a": 1, "b": 2}
        connection.root()["2"] = PersistentMapping({"c": 3})
    with db.transaction() as connection:
        connection.root()["2"]["d"] = 4
    assert base.getSize() == size
    assert len(demo.changes) == len(demo) == 2
    assert demo.lastTransaction() == demo.changes.lastTransaction() > base.lastTransaction()
    assert demo.load(ROOT) == demo.changes.load(ROOT) != base.load(ROOT)
    assert demo.load(ONE) == base.load(ONE)
    for layer in (base, demo.changes):
        serial = layer.getTid(ROOT)
        assert demo.loadSerial(ROOT, serial) == layer.loadSerial(ROOT, serial)
    db.close()


def test_changes_are_there_again_over_the_same_base(demo: Any, open_file: Opener) -> None:
    db = DB(demo)
    with db.transaction() as connection:
        connection.root()["1"]["a"] = "changed"
    db.close()
    base = open_file("base.fs", read_only=True)  # type: ignore[call-arg]
    db = DB(DemoStorage(base=base, changes=open_file("changes.fs")))
    with db.transaction() as connection:
        assert connection.root()["1"]["a"] == "changed"
    db.close()


def test_its_name_and_size_are_made_of_those_of_the_layers(demo: Any) -> None:
    assert demo.getName() == f"DemoStorage({demo.base.getName()!r}, {demo.changes.getName()!r})"
    assert demo.sortKey() == demo.changes.sortKey()
    assert demo.getSize() == demo.changes.getSize()
    assert DemoStorage("bob").getName() == "bob"
    demo.close()


def test_an_object_deleted_in_the_changes_is_gone_whatever_the_base_holds(demo: Any) -> None:
    before = demo.getTid(ONE)
    deleted = delete(demo, ONE)
    with pytest.raises(POSKeyError):
        demo.load(ONE)
    with pytest.raises(POSKeyError):
        demo.getTid(ONE)
    data, serial, end = demo.loadBefore(ONE, deleted)
    assert (data, serial) == (demo.base.load(ONE)[0], before)
    assert end == deleted
    assert demo.loadSerial(ONE, before) == data
    demo.close()


def test_an_object_changed_and_then_deleted_is_gone(demo: Any) -> None:
    changed = put(demo, ONE, demo.getTid(ONE), b"changed")
    deleted = delete(demo, ONE)
    with pytest.raises(POSKeyError):
        demo.load(ONE)
    assert demo.loadBefore(ONE, deleted) == (b"changed", changed, deleted)
    assert demo.loadBefore(ONE, changed)[2] == changed
    demo.close()


def test_a_deletion_is_remembered_when_the_changes_are_opened_again(
    demo: Any, open_file: Opener
) -> None:
    delete(demo, ONE)
    demo.close()
    base = open_file("base.fs", read_only=True)  # type: ignore[call-arg]
    again = DemoStorage(base=base, changes=open_file("changes.fs"))
    with pytest.raises(POSKeyError):
        again.load(ONE)
    again.close()


def test_an_object_can_only_be_deleted_from_its_current_revision(demo: Any) -> None:
    put(demo, ONE, demo.getTid(ONE), b"changed")
    with pytest.raises(ConflictError):
        commit(demo, lambda meta: demo.deleteObject(ONE, demo.base.getTid(ONE), meta))
    assert demo.load(ONE)[0] == b"changed"
    demo.close()


def test_each_revision_of_both_layers_is_found_before_the_next(demo: Any) -> None:
    first = demo.getTid(ONE)
    data = demo.load(ONE)[0]
    assert demo.loadBefore(ONE, MAX_TID) == (data, first, None)
    second = put(demo, ONE, first, b"second")
    third = put(demo, ONE, second, b"third")
    assert demo.loadBefore(ONE, first) is None
    assert demo.loadBefore(ONE, second) == (data, first, second)
    assert demo.loadBefore(ONE, third) == (b"second", second, third)
    assert demo.loadBefore(ONE, MAX_TID) == (b"third", third, None)
    assert [entry["tid"] for entry in demo.history(ONE, 9)] == [third, second, first]
    assert [entry["tid"] for entry in demo.history(ONE, 2)] == [third, second]
    demo.close()


def test_an_object_of_the_changes_alone_was_not_there_before(demo: Any) -> None:
    oid = demo.new_oid()
    tid = put(demo, oid, NO_TID, b"new")
    assert demo.loadBefore(oid, tid) is None
    assert demo.loadBefore(oid, MAX_TID) == (b"new", tid, None)
    with pytest.raises(POSKeyError):
        demo.loadBefore(Oid(p64(1 << 62)), MAX_TID)
    demo.close()


def test_undoing_a_change_brings_back_what_the_base_holds(demo: Any) -> None:
    data, first = demo.load(ONE)
    put(demo, ONE, first, b"changed")
    assert demo.supportsUndo()
    undone = undo_last(demo)
    assert demo.load(ONE) == (data, undone)
    undo_last(demo)
    assert demo.load(ONE)[0] == b"changed"
    demo.close()


def test_undoing_a_creation_takes_the_object_away(demo: Any) -> None:
    oid = demo.new_oid()
    put(demo, oid, NO_TID, b"new")
    undo_last(demo)
    with pytest.raises(POSKeyError):
        demo.load(oid)
    demo.close()


def test_undoing_a_deletion_brings_the_object_back(demo: Any) -> None:
    data = demo.load(ONE)[0]
    delete(demo, ONE)
    undo_last(demo)
    assert demo.load(ONE)[0] == data
    demo.close()


def test_undoing_fails_where_a_later_change_is_in_the_way(demo: Any) -> None:
    changed = put(demo, ONE, demo.getTid(ONE), b"changed")
    put(demo, ONE, changed, b"again")
    log = demo.undoLog(0, 2)
    with pytest.raises((UndoError, ZODB.POSException.UndoError)):
        commit(demo, lambda meta: demo.undo(log[1]["id"], meta))
    assert demo.load(ONE)[0] == b"again"
    demo.close()


def test_a_conflict_with_the_base_or_the_changes_is_found(demo: Any) -> None:
    first = demo.getTid(ONE)
    put(demo, ONE, first, b"changed")
    with pytest.raises(ConflictError):
        put(demo, ONE, first, b"too late")
    with pytest.raises(ConflictError):
        put(demo, ROOT, first[:-1] + b"?", b"never was")
    assert demo.load(ONE)[0] == b"changed"
    demo.close()


def test_iterating_goes_over_the_base_and_then_the_changes(demo: Any) -> None:
    first = put(demo, ONE, demo.getTid(ONE), b"changed")
    tids = [txn.tid for txn in demo.iterator()]
    base_tids = [txn.tid for txn in demo.base.iterator()]
    assert tids == [*base_tids, first]
    assert [txn.tid for txn in demo.iterator(base_tids[1], base_tids[1])] == [base_tids[1]]
    assert [txn.tid for txn in demo.iterator(first)] == [first]
    demo.close()


def test_the_current_records_of_both_layers_are_gone_through_once(demo: Any) -> None:
    put(demo, ONE, demo.getTid(ONE), b"changed")
    oid = demo.new_oid()
    put(demo, oid, NO_TID, b"new")
    found, following = [], None
    while True:
        record = demo.record_iternext(following)
        found.append(record[:3])
        following = record[3]
        if following is None:
            break
    assert [record[0] for record in found] == [ROOT, ONE, oid]
    assert [record[2] for record in found[1:]] == [b"changed", b"new"]
    demo.close()


def test_new_oids_meet_none_of_either_layer() -> None:
    demo = DemoStorage()
    put(demo, Oid(p64(42)), NO_TID, b"there")
    demo._next_oid = 41
    assert u64(demo.new_oid()) == 41
    assert u64(demo.new_oid()) not in {41, 42}
    demo._next_oid = 41
    assert u64(demo.new_oid()) != 41
    assert len(demo._issued_oids) == 3
    demo.close()


def test_an_oid_is_forgotten_when_its_object_is_committed() -> None:
    demo = DemoStorage()
    kept, stored = demo.new_oid(), demo.new_oid()
    put(demo, stored, NO_TID, b"data")
    assert demo._issued_oids == {kept}
    demo.close()


def test_tids_increase_even_if_the_base_was_written_with_a_clock_ahead(tmp_path: Path) -> None:
    base = MappingStorage()
    future = Tid(b"\x7e" + bytes(7))
    meta = TransactionMetaData()
    base.tpc_begin(meta, future)
    base.store(ONE, NO_TID, b"data", "", meta)
    base.tpc_vote(meta)
    base.tpc_finish(meta)
    demo = DemoStorage(base=base)
    assert put(demo, ONE, future, b"later") > future
    assert demo.load(ONE)[0] == b"later"
    demo.close()


def opened(storage: Any) -> bool:
    """Tell whether a storage still takes transactions."""
    try:
        put(storage, Oid(p64(99)), storage.lastTransaction(), b"data")
    except (ValueError, OSError, StorageError, RuntimeError):
        return False
    return True


@pytest.mark.parametrize("close", [True, False, None])
def test_layers_that_were_given_are_closed_with_it_unless_told_otherwise(
    close: bool | None,
) -> None:
    base, changes = MappingStorage(), MappingStorage()
    demo = DemoStorage(
        base=base, changes=changes, close_base_on_close=close, close_changes_on_close=close
    )
    assert demo.opened()
    demo.close()
    assert not demo.opened()
    assert opened(base) is opened(changes) is (close is False)


def test_push_lays_further_changes_over_it_and_pop_takes_them_away() -> None:
    below = DemoStorage()
    put(below, ONE, NO_TID, b"below")
    changes = MappingStorage()
    above = below.push(changes)
    assert above.base is below
    assert above.changes is changes
    put(above, ONE, above.getTid(ONE), b"above")
    assert (above.load(ONE)[0], below.load(ONE)[0]) == (b"above", b"below")
    assert above.pop() is below
    assert not opened(changes)
    below.push().close()
    assert below.opened()
    put(below, ONE, below.getTid(ONE), b"still open")
    below.close()


def test_packing_drops_old_changes_and_no_object_that_the_base_may_refer_to() -> None:
    base = MappingStorage()
    db = DB(base)
    with db.transaction() as connection:
        connection.root()["inner"] = inner = PersistentMapping()
        connection.add(inner)
    db.close = lambda: None  # type: ignore[method-assign]
    demo = DB(DemoStorage(base=base, close_base_on_close=False))
    with demo.transaction() as connection:
        connection.root()["inner"]["new"] = PersistentMapping(kept=True)
    for number in range(3):
        with demo.transaction() as connection:
            connection.root()["inner"]["count"] = number
    demo.pack()
    with demo.transaction() as connection:
        assert connection.root()["inner"]["new"]["kept"]
        assert connection.root()["inner"]["count"] == 2
    assert sum(1 for _ in demo.storage.changes.iterator()) < 4
    with pytest.raises(TypeError, match="referred to by the base alone"):
        demo.storage.pack(10**10, demo.references, gc=True)
    demo.close()


def test_a_base_that_goes_on_changing_is_held_still(tmp_path: Path) -> None:
    production = FileStorage(str(tmp_path / "production.fs"))
    db = DB(production)
    with db.transaction() as connection:
        connection.root()["a"] = 1
    staging = DB(DemoStorage(base=BeforeStorage(production), close_base_on_close=False))
    with db.transaction() as connection:
        connection.root()["a"] = 2
    with staging.transaction() as connection:
        assert connection.root()["a"] == 1
        connection.root()["b"] = 3
    with db.transaction() as connection:
        assert dict(connection.root()) == {"a": 2}
    staging.close()
    db.close()


def test_a_demo_storage_works_under_stocks_database(demo: Any) -> None:
    db = ZODB.DB(demo)
    with db.transaction() as connection:
        connection.root()["2"] = PersistentMapping({"c": 3})
        connection.root()["1"]["a"] = "changed"
    with db.transaction() as connection:
        assert connection.root()["1"]["a"] == "changed"
        assert connection.root()["2"]["c"] == 3
    db.close()
