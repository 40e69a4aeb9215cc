"""perdure's storages under stock ZODB's database, layers and server."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import zc.zlibstorage
import ZODB
import ZODB.DemoStorage
import ZODB.interfaces
import ZODB.POSException
from BTrees.Length import Length
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from tests.layers import STACKS
from tests.storing import begun, commit, oid

import perdure
from perdure.ids import NO_TID

Open = Callable[[Path], Any]
KINDS: dict[str, Open] = {
    "file": lambda path: perdure.FileStorage(str(path / "data.fs")),
    "mapping": lambda path: perdure.MappingStorage("mapping"),
}
LAYERED = KINDS | STACKS


@pytest.fixture(params=list(KINDS))
def plain(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An empty storage of perdure's without layers."""
    return KINDS[request.param](tmp_path)


@pytest.fixture(params=list(LAYERED))
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """An empty storage of perdure's."""
    return LAYERED[request.param](tmp_path)


@pytest.fixture
def db(storage: Any) -> Iterator[Any]:
    """Stock's database over it."""
    database = ZODB.DB(storage)
    yield database
    transaction.abort()
    database.close()


@pytest.fixture
def open_one(db: Any) -> Iterator[Callable[[], tuple[Any, Any]]]:
    """A function that opens connections of their own: manager and root."""
    managers = []

    def open_one() -> tuple[Any, Any]:
        manager = transaction.TransactionManager()
        managers.append(manager)
        return manager, db.open(manager).root()

    yield open_one
    for manager in managers:
        manager.abort()


OpenOne = Callable[[], tuple[Any, Any]]


# Stock's database.


def test_objects_are_stored_and_loaded(db: Any) -> None:
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(text="perdure" * 1000)
        connection.root()["tree"] = OOBTree({str(number): number for number in range(1000)})
    db.cacheMinimize()
    with db.transaction() as connection:
        assert connection.root()["a"]["text"] == "perdure" * 1000
        assert len(connection.root()["tree"]) == 1000
        assert connection.root()["a"]._p_serial == db.storage.getTid(connection.root()["a"]._p_oid)


def test_a_connection_keeps_its_snapshot_while_others_commit(open_one: OpenOne) -> None:
    (writing, root), (reading, view) = open_one(), open_one()
    root["a"] = PersistentMapping(n=1)
    writing.commit()
    reading.begin()
    assert view["a"]["n"] == 1
    for n in range(2, 6):
        root["a"]["n"] = n
        writing.commit()
        view["a"]._p_deactivate()
        assert view["a"]["n"] == 1
    reading.begin()
    assert view["a"]["n"] == 5


def test_a_conflict_is_stocks_error_and_the_loser_can_try_again(open_one: OpenOne) -> None:
    (first, one), (second, two) = open_one(), open_one()
    one["a"] = 1
    two["a"] = 2
    first.commit()
    with pytest.raises(ZODB.POSException.ConflictError):
        second.commit()
    second.abort()
    two["a"] = 2
    second.commit()
    first.begin()
    assert one["a"] == 2


def test_conflicts_of_lengths_and_trees_are_resolved(open_one: OpenOne) -> None:
    (first, one), (second, two) = open_one(), open_one()
    one["length"], one["tree"] = Length(), OOBTree(dict.fromkeys(range(0, 40, 2)))
    first.commit()
    second.begin()
    for root, key in ((one, 1), (two, 31)):
        root["length"].change(key)
        root["tree"][key] = None
    first.commit()
    second.commit()
    assert two["length"]() == 32
    first.begin()
    second.begin()
    for root in (one, two):
        assert root["length"]() == 32
        assert {1, 31} < set(root["tree"])


def test_reading_what_had_to_stay_current_is_a_read_conflict(open_one: OpenOne) -> None:
    (first, one), (second, two) = open_one(), open_one()
    one["a"], one["b"] = PersistentMapping(), PersistentMapping()
    first.commit()
    second.begin()
    two["a"]._p_activate()
    two._p_jar.readCurrent(two["a"])
    two["b"]["n"] = 1
    one["a"]["n"] = 1
    first.commit()
    with pytest.raises(ZODB.POSException.ReadConflictError):
        second.commit()
    second.abort()


def test_savepoints_roll_back(db: Any) -> None:
    manager = transaction.TransactionManager()
    root = db.open(manager).root()
    root["a"] = PersistentMapping(n=1)
    kept = manager.savepoint()
    root["a"]["n"] = 2
    root["b"] = PersistentMapping()
    manager.savepoint()
    kept.rollback()
    assert root["a"]["n"] == 1
    manager.commit()
    with db.transaction() as connection:
        assert dict(connection.root()) == {"a": connection.root()["a"]}
    manager.abort()


def test_transactions_are_undone_and_described(db: Any) -> None:
    with db.transaction("made") as connection:
        connection.root()["a"] = PersistentMapping(n=1)
    with db.transaction("changed") as connection:
        connection.root()["a"]["n"] = 2
    assert [each["description"] for each in db.undoLog(0, 2)] == ["changed", "made"]
    assert db.supportsUndo()
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()
    with db.transaction() as connection:
        assert connection.root()["a"]["n"] == 1
        assert len(db.history(connection.root()["a"]._p_oid, 10)) == 3


def test_what_cannot_be_undone_is_stocks_error(db: Any) -> None:
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(n=1)
    for n in (2, 3):
        with db.transaction() as connection:
            connection.root()["a"]["n"] = n
    db.undo(db.undoLog(1, 2)[0]["id"])
    with pytest.raises(ZODB.POSException.UndoError):
        transaction.commit()
    transaction.abort()


def test_past_states_are_opened(db: Any) -> None:
    with db.transaction() as connection:
        connection.root()["n"] = 1
    at = db.lastTransaction()
    with db.transaction() as connection:
        connection.root()["n"] = 2
    past = db.open(transaction.TransactionManager(), at=at)
    assert past.root()["n"] == 1
    past.close()


def test_stocks_database_packs(plain: Any) -> None:
    assert packed_objects(ZODB.DB(plain)) == (3, 1)


def test_stocks_database_packs_layers(db: Any) -> None:
    before, after = packed_objects(db)
    # Overlays keep what their base may refer to.
    assert before == 3
    assert after in {1, 3}


def packed_objects(db: Any) -> tuple[int, int]:
    """Make garbage and pack; return the numbers of objects before and after it."""
    with db.transaction() as connection:
        connection.root()["a"] = PersistentMapping(inner=PersistentMapping(n=1))
    with db.transaction() as connection:
        connection.root()["a"] = None
    before = len(db.storage)
    db.pack()
    after = len(db.storage)
    with db.transaction() as connection:
        assert connection.root()["a"] is None
    db.close()
    return before, after


def test_large_transactions_go_through(db: Any) -> None:
    with db.transaction() as connection:
        for number in range(5000):
            connection.root()[number] = PersistentMapping(text="x" * 100)
    assert len(db.storage) == 5001
    assert db.objectCount() == 5001


# Declarations.


@pytest.mark.parametrize(
    "name",
    [
        "IStorage",
        "IStorageIteration",
        "IStorageRestoreable",
        "IStorageUndoable",
        "IStorageCurrentRecordIteration",
        "IExternalGC",
    ],
)
def test_stocks_interfaces_are_provided(plain: Any, name: str) -> None:
    assert getattr(ZODB.interfaces, name).providedBy(plain)
    plain.close()


def test_what_is_not_offered_is_not_declared(plain: Any) -> None:
    for name in ("IBlobStorage", "IMVCCStorage", "IStorageWrapper"):
        assert not getattr(ZODB.interfaces, name).providedBy(plain)
    plain.close()


def test_iterated_transactions_and_records_provide_stocks_interfaces(storage: Any) -> None:
    commit(storage, {0: b"root"})
    (txn,) = storage.iterator()
    (record,) = txn
    assert ZODB.interfaces.IStorageTransactionInformation.providedBy(txn)
    assert ZODB.interfaces.IStorageRecordInformation.providedBy(record)
    storage.close()


@pytest.mark.parametrize(
    ("name", "failing"),
    [
        ("POSKeyError", lambda storage: storage.load(oid(9))),
        ("StorageTransactionError", lambda storage: storage.tpc_vote(None)),
        ("UndoError", lambda storage: storage.undo(b"none", begun(storage))),
        ("POSError", lambda storage: storage.load(oid(9))),
    ],
)
def test_errors_are_caught_by_stocks_names(
    storage: Any, name: str, failing: Callable[[Any], Any]
) -> None:
    with pytest.raises(getattr(ZODB.POSException, name)):
        failing(storage)
    storage.close()


# Stock's layers.


def test_stocks_demonstration_layer_keeps_changes_away_from_the_base(
    plain: Any, tmp_path: Path
) -> None:
    base = ZODB.DB(plain)
    with base.transaction() as connection:
        connection.root()["a"] = PersistentMapping(n=1)
    before = plain.lastTransaction()
    changes = perdure.FileStorage(str(tmp_path / "changes.fs"))
    demo = ZODB.DB(ZODB.DemoStorage.DemoStorage(base=plain, changes=changes))
    with demo.transaction() as connection:
        connection.root()["a"]["n"] = 2
        connection.root()["b"] = PersistentMapping()
    assert plain.lastTransaction() == before
    with demo.transaction() as connection:
        assert connection.root()["a"]["n"] == 2
    with base.transaction() as connection:
        assert connection.root()["a"]["n"] == 1
    demo.close()


def test_records_go_through_stocks_compressing_layer(plain: Any) -> None:
    database = ZODB.DB(zc.zlibstorage.ZlibStorage(plain))
    managers = [transaction.TransactionManager() for _ in range(2)]
    one, two = (database.open(manager).root() for manager in managers)
    one["text"], one["length"] = PersistentMapping(text="perdure" * 100), Length()
    managers[0].commit()
    assert plain.load(oid(1))[0].startswith(b".z")
    managers[1].begin()
    one["length"].change(1)
    two["length"].change(2)
    for manager in managers:
        manager.commit()
    managers[0].begin()
    assert one["length"]() == 3  # resolved on records that the layer had compressed
    database.pack()
    assert len(plain) == 3
    for manager in managers:
        manager.abort()
    database.close()


# Copies.


def write_history(storage: Any) -> None:
    """Commit changes, undo some, delete one, create and undo."""
    from tests.storing import undo

    commit(storage, {0: b"root", 1: b"one", 2: b"two"}, user="ada", extension={"n": 1})
    changed = commit(storage, {1: b"changed"})
    created = commit(storage, {3: b"three"}, description="größe")
    undo(storage, undo(storage, changed))
    undo(storage, created)
    commit(storage, {}, delete=[2])
    commit(storage, {})


@pytest.mark.parametrize("direction", ["from stock", "to stock", "within"])
def test_copies_have_everything_the_original_has(direction: str, tmp_path: Path) -> None:
    from tests.interop import filepeers
    from ZODB.FileStorage import FileStorage

    source_kind = FileStorage if direction == "from stock" else perdure.FileStorage
    target_kind = FileStorage if direction == "to stock" else perdure.FileStorage
    source = source_kind(str(tmp_path / "source.fs"))
    target = target_kind(str(tmp_path / "target.fs"))
    write_history(source)
    target.copyTransactionsFrom(source)
    source.close()
    target.close()
    original, copy = (
        filepeers.picture(tmp_path / f"{name}.fs", filepeers.THEIRS)
        for name in ("source", "target")
    )
    assert copy == original
    assert (tmp_path / "source.fs").read_bytes() == (tmp_path / "target.fs").read_bytes()


def test_stocks_storage_in_memory_is_copied(tmp_path: Path) -> None:
    from ZODB.MappingStorage import MappingStorage

    source = MappingStorage()
    database = ZODB.DB(source)
    with database.transaction() as connection:
        connection.root()["tree"] = OOBTree({number: number for number in range(300)})
    target = perdure.FileStorage(str(tmp_path / "target.fs"))
    target.copyTransactionsFrom(source)
    assert [txn.tid for txn in target.iterator()] == [txn.tid for txn in source.iterator()]
    database.close()
    copied = perdure.DB(target)
    with copied.transaction() as connection:
        assert len(connection.root()["tree"]) == 300
    copied.close()


def test_a_transaction_is_restored_behind_what_is_there(storage: Any) -> None:
    first = commit(storage, {1: b"one"})
    txn = begun(storage)
    storage.restore(oid(1), NO_TID, b"restored", "", None, txn)
    storage.restore(oid(2), NO_TID, None, "", None, txn)
    storage.tpc_vote(txn)
    tid = storage.tpc_finish(txn)
    assert storage.load(oid(1)) == (b"restored", tid)
    assert storage.loadSerial(oid(1), first) == b"one"
    with pytest.raises(KeyError):
        storage.load(oid(2))
    storage.close()
