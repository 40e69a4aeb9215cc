"""Committing to an overlay: who waits for whom, and what is a conflict."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB.FileStorage
from BTrees.Length import Length

import perdure
from perdure.connection.metadata import TransactionMetaData
from perdure.errors import (
    ConflictError,
    POSKeyError,
    ReadConflictError,
    StorageTransactionError,
)
from perdure.ids import NO_TID, Oid, Tid, p64
from perdure.storage.demo import DemoStorage, DemoStorage2
from perdure.storage.encrypting import EncryptingStorage
from perdure.storage.zlib import ZlibStorage

ONE, TWO, NEW = Oid(p64(1)), Oid(p64(2)), Oid(p64(1 << 63))
KEY = bytes(range(32))

OVERLAYS: dict[str, Callable[[Any, Path], Any]] = {
    "demo": lambda base, _where: DemoStorage(base=base),
    "demo2": lambda base, _where: DemoStorage2(base, perdure.MappingStorage()),
    "file": lambda base, where: DemoStorage2(base, perdure.FileStorage(str(where / "c.fs"))),
    "zlib": lambda base, _where: DemoStorage2(base, ZlibStorage(perdure.MappingStorage())),
    "encrypted": lambda base, _where: DemoStorage2(
        base, EncryptingStorage(perdure.MappingStorage(), KEY)
    ),
    "overlay": lambda base, _where: DemoStorage2(base, DemoStorage()),
}


def begun(storage: Any) -> TransactionMetaData:
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    return meta


def stored(storage: Any, oid: Oid, serial: Tid, data: bytes) -> TransactionMetaData:
    meta = begun(storage)
    storage.store(oid, serial, data, "", meta)
    return meta


def finished(storage: Any, meta: TransactionMetaData) -> Tid:
    storage.tpc_vote(meta)
    tid: Tid = storage.tpc_finish(meta)
    return tid


@pytest.fixture(params=OVERLAYS)
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    base = perdure.MappingStorage("base")
    meta = begun(base)
    base.store(ONE, NO_TID, b"one", "", meta)
    base.store(TWO, NO_TID, b"two", "", meta)
    finished(base, meta)
    made = OVERLAYS[request.param](base, tmp_path)
    yield made
    made.close()


def test_a_transaction_that_is_put_together_keeps_nobody_waiting(storage: Any) -> None:
    slow = stored(storage, NEW, NO_TID, b"slow")
    quick = finished(storage, stored(storage, ONE, storage.getTid(ONE), b"quick"))
    assert storage.load(ONE) == (b"quick", quick)
    assert finished(storage, slow) > quick
    assert storage.load(NEW)[0] == b"slow"


def test_one_that_has_voted_is_waited_for(storage: Any) -> None:
    first = stored(storage, ONE, storage.getTid(ONE), b"first")
    second = stored(storage, TWO, storage.getTid(TWO), b"second")
    storage.tpc_vote(first)
    assert storage.tpc_transaction() is first
    voted = threading.Event()

    def vote() -> None:
        storage.tpc_vote(second)
        voted.set()

    thread = threading.Thread(target=vote)
    thread.start()
    tid = storage.tpc_finish(first)
    assert voted.wait(60)
    thread.join()
    assert storage.tpc_finish(second) > tid


@pytest.mark.parametrize("of_base", [True, False])
def test_who_comes_second_to_an_object_has_a_conflict(storage: Any, of_base: bool) -> None:
    seen = storage.getTid(ONE)
    if not of_base:
        seen = finished(storage, stored(storage, ONE, seen, b"changed"))
    late = stored(storage, ONE, seen, b"late")
    current = finished(storage, stored(storage, ONE, seen, b"first"))
    with pytest.raises(ConflictError) as caught:
        storage.tpc_vote(late)
    assert caught.value.oid == ONE
    assert caught.value.serials == (current, seen)
    # Nobody has to wait until it is aborted.
    finished(storage, stored(storage, TWO, storage.getTid(TWO), b"other"))
    storage.tpc_abort(late)
    assert storage.load(ONE) == (b"first", current)


def test_an_oid_of_the_base_is_not_free_for_a_new_object(storage: Any) -> None:
    meta = stored(storage, ONE, NO_TID, b"new")
    with pytest.raises(ConflictError):
        storage.tpc_vote(meta)
    storage.tpc_abort(meta)


@pytest.mark.parametrize("deleted", [True, False])
def test_what_was_read_has_to_be_current_at_the_vote(storage: Any, deleted: bool) -> None:
    seen = storage.getTid(ONE)
    reader = stored(storage, NEW, NO_TID, b"made of one")
    storage.checkCurrentSerialInTransaction(ONE, seen, reader)
    other = begun(storage)
    if deleted:
        storage.deleteObject(ONE, seen, other)
    else:
        storage.store(ONE, seen, b"changed", "", other)
    finished(storage, other)
    with pytest.raises(ReadConflictError):
        storage.tpc_vote(reader)
    storage.tpc_abort(reader)
    with pytest.raises(POSKeyError):
        storage.load(NEW)


def test_an_object_that_changed_meanwhile_is_not_deleted(storage: Any) -> None:
    seen = storage.getTid(ONE)
    deleting = begun(storage)
    storage.deleteObject(ONE, seen, deleting)
    finished(storage, stored(storage, ONE, seen, b"changed"))
    with pytest.raises(ConflictError):
        storage.tpc_vote(deleting)
    storage.tpc_abort(deleting)
    assert storage.load(ONE)[0] == b"changed"


def test_what_waits_is_dropped_by_an_abort(storage: Any) -> None:
    storage.tpc_abort(stored(storage, NEW, NO_TID, b"never"))
    assert storage.tpc_transaction() is None
    with pytest.raises(POSKeyError):
        storage.load(NEW)


def test_calls_out_of_turn_are_refused(storage: Any) -> None:
    meta = begun(storage)
    with pytest.raises(StorageTransactionError, match="Duplicate"):
        storage.tpc_begin(meta)
    with pytest.raises(StorageTransactionError, match="vote"):
        storage.tpc_finish(meta)
    with pytest.raises(StorageTransactionError):
        storage.store(ONE, NO_TID, b"data", "", TransactionMetaData())
    with pytest.raises(TypeError):
        storage.store(b"short", NO_TID, b"data", "", meta)
    storage.tpc_abort(meta)


@pytest.mark.parametrize("kind", OVERLAYS)
def test_changes_of_a_counter_are_merged_over_both_layers(kind: str, tmp_path: Path) -> None:
    below = perdure.MappingStorage("base")
    made = perdure.DB(below)
    with made.transaction() as connection:
        connection.root.count = Length(1)
    db = perdure.DB(OVERLAYS[kind](below, tmp_path))
    first, second = transaction.TransactionManager(), transaction.TransactionManager()
    for _turn in range(2):
        counts = [db.open(each).root.count for each in (first, second)]
        for count in counts:
            count.change(1)
        first.commit()
        second.commit()
        for count in counts:
            count._p_jar.close()
    with db.transaction() as connection:
        assert connection.root.count() == 5
    db.close()


def test_blobs_of_two_transactions_do_not_meet(tmp_path: Path) -> None:
    below = perdure.FileStorage(str(tmp_path / "base.fs"), blob_dir=str(tmp_path / "blobs"))
    with perdure.DB(below) as made, made.transaction() as connection:
        connection.root.blob = perdure.Blob(b"old")
    below = perdure.FileStorage(str(tmp_path / "base.fs"), blob_dir=str(tmp_path / "blobs"))
    changes = perdure.FileStorage(str(tmp_path / "c.fs"), blob_dir=str(tmp_path / "changed"))
    db = perdure.DB(DemoStorage(base=below, changes=changes))
    managers = transaction.TransactionManager(), transaction.TransactionManager()
    connections = [db.open(each) for each in managers]
    for number, connection in enumerate(connections):
        with connection.root.blob.open("w") as file:
            file.write(b"%d" % number)
    managers[0].commit()
    with pytest.raises(ConflictError):
        managers[1].commit()
    managers[1].abort()
    with connections[1].root.blob.open() as file:
        assert file.read() == b"0"
    assert len(list((tmp_path / "changed").rglob("*.blob"))) == 1
    for connection in connections:
        connection.transaction_manager.abort()
        connection.close()
    db.close()


def test_changes_that_lock_at_the_begin_are_kept_in_turn(tmp_path: Path) -> None:
    changes = ZODB.FileStorage.FileStorage(str(tmp_path / "c.fs"))
    base = perdure.MappingStorage("base")
    finished(base, stored(base, ONE, NO_TID, b"one"))
    storage = DemoStorage(base=base, changes=changes)
    seen = storage.getTid(ONE)
    first = begun(storage)
    began = threading.Event()
    caught: list[BaseException] = []

    def second() -> None:
        meta = begun(storage)
        began.set()
        try:
            storage.store(ONE, seen, b"second", "", meta)
        except ConflictError as error:
            caught.append(error)
        storage.tpc_abort(meta)

    thread = threading.Thread(target=second)
    thread.start()
    storage.store(ONE, seen, b"first", "", first)
    assert not began.is_set()
    finished(storage, first)
    thread.join()
    assert len(caught) == 1
    assert storage.load(ONE)[0] == b"first"
    storage.close()
