"""What somebody without the key can do to an encrypted database, and what is found out."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
import ZODB.FileStorage
from BTrees.IOBTree import IOBTree
from tests.storing import commit, oid, undo

import perdure
from perdure.connection.metadata import TransactionMetaData
from perdure.errors import EncryptionError, MultipleUndoErrors, POSKeyError, UndoError
from perdure.ids import Tid
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.demo import DemoStorage
from perdure.storage.zlib import ZlibStorage

pytest.importorskip("cryptography")

from perdure.storage.encrypting import EncryptingStorage

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))


def forged(*records: tuple[int, Tid, bytes]) -> EncryptingStorage:
    """Return a layer over a storage that somebody has filled without the key."""
    base = MappingStorage()
    for number, tid, kept in records:
        txn = TransactionMetaData()
        base.tpc_begin(txn, tid)
        base.restore(oid(number), tid, kept, "", None, txn)
        base.tpc_vote(txn)
        base.tpc_finish(txn)
    return EncryptingStorage(base, KEY)


def kept(storage: Any, number: int, tid: Tid) -> bytes:
    data: bytes = storage.base.loadSerial(oid(number), tid)
    return data


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "data.fs")


@pytest.fixture
def storage(path: str, tmp_path: Path) -> Iterator[Any]:
    base = FileStorage(path, blob_dir=str(tmp_path / "blobs"))
    layer = EncryptingStorage(base, KEY)
    yield layer
    transaction.abort()
    layer.close()


def test_an_older_revision_in_the_place_of_a_newer_is_found_out(storage: Any) -> None:
    first = commit(storage, {1: b"price 10"})
    second = commit(storage, {1: b"price 99"})
    fake = forged((1, first, kept(storage, 1, first)), (1, second, kept(storage, 1, first)))
    assert fake.loadSerial(oid(1), first) == b"price 10"
    with pytest.raises(EncryptionError, match="another revision") as caught:
        fake.load(oid(1))
    assert (caught.value.oid, caught.value.tid) == (oid(1), second)


def test_a_newer_revision_in_the_place_of_an_older_is_found_out(storage: Any) -> None:
    first = commit(storage, {1: b"first"})
    second = commit(storage, {1: b"second"})
    fake = forged((1, first, kept(storage, 1, second)))
    for read in (
        lambda: fake.load(oid(1)),
        lambda: fake.loadSerial(oid(1), first),
        lambda: fake.loadBefore(oid(1), second),
        lambda: [record for txn in fake.iterator() for record in txn],
        fake.record_iternext,
    ):
        with pytest.raises(EncryptionError, match="another revision"):
            read()


def test_revisions_exchanged_in_the_file_itself_are_found_out(storage: Any, path: str) -> None:
    tids = [commit(storage, {1: text}) for text in (b"one", b"two")]
    first, second = (kept(storage, 1, tid) for tid in tids)
    storage.close()
    file = Path(path)
    data = file.read_bytes()
    assert len(first) == len(second)
    file.write_bytes(
        data.replace(first, b"\0" * len(first))
        .replace(second, first)
        .replace(bytes(len(first)), second)
    )
    Path(f"{path}.psums").unlink()
    changed = EncryptingStorage(FileStorage(path, read_only=True), KEY)
    for tid in tids:
        with pytest.raises(EncryptionError, match="another revision"):
            changed.loadSerial(oid(1), tid)
    changed.close()


def test_undoing_without_the_key_is_found_out(storage: Any) -> None:
    commit(storage, {1: b"owes 10"})
    undo(storage.base, commit(storage, {1: b"owes 99"}))
    with pytest.raises(EncryptionError, match="undone without the key"):
        storage.load(oid(1))


def test_what_was_merged_is_tied_to_its_transaction(storage: Any) -> None:
    db = perdure.DB(storage)
    with db.transaction() as connection:
        connection.root.tree = IOBTree({0: 0})
    managers = [transaction.TransactionManager() for _ in range(2)]
    connections = [db.open(manager) for manager in managers]
    for number, connection in enumerate(connections):
        connection.root.tree[number + 1] = number
    for manager in managers:
        manager.commit()
    key = connections[0].root.tree._p_oid
    data, tid = storage.base.load(key)
    assert storage.load(key)[1] == tid
    later = commit(storage.base, {int.from_bytes(key, "big"): data})
    with pytest.raises(EncryptionError, match="another revision"):
        storage.loadSerial(key, later)
    for connection in connections:
        connection.close()


def test_that_records_or_transactions_were_taken_away_is_not_found_out(storage: Any) -> None:
    first = commit(storage, {1: b"first", 2: b"two"})
    commit(storage, {1: b"second"})
    fake = forged((1, first, kept(storage, 1, first)))
    assert fake.load(oid(1)) == (b"first", first)


def test_a_storage_that_chooses_tids_itself_gives_a_lower_bound(path: str) -> None:
    base = ZODB.FileStorage.FileStorage(path)
    layer = EncryptingStorage(base, KEY)
    first = commit(layer, {1: b"first"})
    second = commit(layer, {1: b"second"})
    earlier = forged((1, first, kept(layer, 1, second)))
    with pytest.raises(EncryptionError, match="earlier revision"):
        earlier.load(oid(1))
    undo(layer, second)
    assert layer.load(oid(1))[0] == b"first"
    layer.close()
    # Over a storage of perdure's own, they can be tied to their tids afterwards.
    own = EncryptingStorage(FileStorage(path), KEY)
    assert own.load(oid(1))[0] == b"first"
    assert own.reencrypt() == 1
    assert own.reencrypt() == 0
    data, tid = own.base.load(oid(1))
    later = commit(own.base, {1: data})
    with pytest.raises(EncryptionError, match="another revision"):
        own.loadSerial(oid(1), later)
    assert own.loadSerial(oid(1), tid) == b"first"
    own.close()


# Undoing, which stores anew.

UNDER: dict[str, Callable[[str], Any]] = {
    "file": lambda path: EncryptingStorage(FileStorage(path), KEY),
    "stock file": lambda path: EncryptingStorage(ZODB.FileStorage.FileStorage(path), KEY),
    "mapping": lambda _path: EncryptingStorage(MappingStorage(), KEY),
    "zlib over it": lambda path: ZlibStorage(EncryptingStorage(FileStorage(path), KEY)),
    "zlib below it": lambda path: EncryptingStorage(ZlibStorage(FileStorage(path)), KEY),
    "twice": lambda path: EncryptingStorage(EncryptingStorage(FileStorage(path), KEY), OTHER),
    "overlay below it": lambda _path: EncryptingStorage(DemoStorage(), KEY),
}


@pytest.fixture(params=UNDER)
def undoing(request: pytest.FixtureRequest, path: str) -> Iterator[Any]:
    layer = UNDER[request.param](path)
    yield layer
    layer.close()


def test_changes_creations_and_undoing_itself_are_undone(undoing: Any) -> None:
    commit(undoing, {1: b"first"})
    changed = commit(undoing, {1: b"second", 2: b"new"})
    undone = undo(undoing, changed)
    assert undoing.load(oid(1)) == (b"first", undone)
    with pytest.raises(KeyError):
        undoing.load(oid(2))
    again = undo(undoing, undone)
    assert undoing.load(oid(1)) == (b"second", again)
    assert undoing.load(oid(2)) == (b"new", again)
    # What is there is what that transaction made, whoever brought it back.
    assert undoing.load(oid(1))[0] == b"second"
    undo(undoing, changed)
    assert undoing.load(oid(1))[0] == b"first"


def test_a_deletion_is_undone(undoing: Any) -> None:
    commit(undoing, {1: b"data"})
    undo(undoing, commit(undoing, {}, delete=[1]))
    assert undoing.load(oid(1))[0] == b"data"


def test_what_later_changes_are_in_the_way_of_is_not_undone(undoing: Any) -> None:
    commit(undoing, {1: b"a", 2: b"a", 3: b"a"})
    changed = commit(undoing, {1: b"b", 2: b"b", 3: b"b"})
    commit(undoing, {1: b"c"})
    before = undoing.lastTransaction()
    with pytest.raises(UndoError, match="changed later by"):
        undo(undoing, changed)
    assert undoing.lastTransaction() == before
    undoing.tpc_abort(undoing.tpc_transaction())
    commit(undoing, {2: b"c"})
    with pytest.raises(MultipleUndoErrors):
        undo(undoing, changed)
    with pytest.raises(UndoError, match="no such transaction"):
        undo(undoing, Tid(bytes(8)))


@pytest.mark.parametrize("database", [perdure.DB, ZODB.DB])
def test_several_are_undone_in_one_and_trees_are_merged(undoing: Any, database: Any) -> None:
    db = database(undoing)
    with db.transaction() as connection:
        connection.root()["tree"] = IOBTree({0: 0, 9: 9})
    for number in (1, 2, 3):
        with db.transaction() as connection:
            connection.root()["tree"][number] = number
    log = db.undoLog(0, 3)
    db.undo(log[1]["id"])
    transaction.commit()
    with db.transaction() as connection:
        assert list(connection.root()["tree"]) == [0, 1, 3, 9]
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()
    db.undoMultiple([log[0]["id"], log[1]["id"], log[2]["id"]])
    transaction.commit()
    with db.transaction() as connection:
        assert list(connection.root()["tree"]) == [0, 9]


# Transactions that wait for their vote.


def test_many_threads_commit_in_the_order_of_their_tids(storage: Any) -> None:
    def work(number: int) -> None:
        for turn in range(20):
            commit(storage, {number: b"%d" % turn})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    tids = [txn.tid for txn in storage.iterator()]
    assert len(tids) == 160
    assert tids == sorted(set(tids))
    assert [storage.load(oid(number))[0] for number in range(8)] == [b"19"] * 8


def test_nothing_of_an_aborted_transaction_stays(storage: Any, tmp_path: Path) -> None:
    db = perdure.DB(storage)
    connection = db.open()
    connection.root.film = perdure.Blob(b"film")
    savepoint = transaction.savepoint()
    assert savepoint is not None
    transaction.abort()
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    clear = Path(storage.temporaryDirectory()) / "blob"
    clear.write_bytes(b"film")
    storage.storeBlob(oid(7), bytes(8), b"record", str(clear), "", txn)
    storage.tpc_abort(txn)
    connection.close()
    assert not list((tmp_path / "blobs").rglob("BEN*"))
    assert not list((tmp_path / "blobs").rglob("*.blob"))
    with pytest.raises(POSKeyError):
        storage.load(oid(7))


def test_a_vote_that_fails_leaves_the_next_one_free(storage: Any) -> None:
    first = commit(storage, {1: b"first"})
    commit(storage, {1: b"second"})
    txn = TransactionMetaData()
    storage.tpc_begin(txn)
    storage.store(oid(1), first, b"too late", "", txn)
    with pytest.raises(perdure.errors.ConflictError):
        storage.tpc_vote(txn)
    storage.tpc_abort(txn)
    commit(storage, {1: b"third"})
    assert storage.load(oid(1))[0] == b"third"
