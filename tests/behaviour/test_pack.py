"""Packing: what goes, what stays, and that nothing is lost while it runs."""

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB.FileStorage
from persistent.mapping import PersistentMapping

import perdure
from perdure.connection import TransactionMetaData
from perdure.errors import PackError, POSKeyError, ReadOnlyError, RedundantPackWarning
from perdure.storage import FileStorage, MappingStorage
from perdure.timestamp import TimeStamp


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


def commit(connection: Any) -> bytes:
    connection.transaction_manager.commit()
    tid: bytes = connection.db().lastTransaction()
    return tid


def time_between(earlier: bytes, later: bytes) -> float:
    """A time, as exact as floats of seconds are, that lies between two transactions."""
    middle = (int.from_bytes(earlier, "big") + int.from_bytes(later, "big")) // 2
    return float(TimeStamp(middle.to_bytes(8, "big")).timeTime())


def revisions(database: perdure.DB, oid: Any) -> int:
    return len(database.history(oid, 1000))


def test_old_revisions_go_and_current_ones_stay(database: perdure.DB, connection: Any) -> None:
    root = connection.root()
    for number in range(10):
        root["x"] = number
        commit(connection)
    size = database.getSize()
    database.pack()
    assert database.getSize() < size
    assert revisions(database, root._p_oid) == 1
    connection.cacheMinimize()
    assert root["x"] == 9


def test_revisions_after_the_pack_time_stay(database: perdure.DB, connection: Any) -> None:
    root = connection.root()
    tids = []
    for number in range(6):
        root["x"] = number
        tids.append(commit(connection))
    database.pack(time_between(tids[2], tids[3]))
    assert [entry["tid"] for entry in database.history(root._p_oid, 100)] == tids[:1:-1]
    past = database.open(at=tids[3])
    assert past.root()["x"] == 3
    past.close()


def test_what_nothing_refers_to_goes(database: perdure.DB, connection: Any) -> None:
    root = connection.root()
    root["a"] = a = PersistentMapping()
    a["b"] = b = PersistentMapping()
    b["back"] = a
    commit(connection)
    oids = [a._p_oid, b._p_oid]
    del root["a"]
    commit(connection)
    database.pack()
    for oid in oids:
        with pytest.raises(POSKeyError):
            database.storage.load(oid)
    assert len(database.storage) == 1


def test_without_garbage_collection_objects_stay(tmp_path: Path) -> None:
    database = perdure.DB(FileStorage(tmp_path / "data.fs", pack_gc=False))
    connection = database.open(transaction.TransactionManager())
    connection.root()["a"] = a = PersistentMapping()
    commit(connection)
    del connection.root()["a"]
    commit(connection)
    database.pack()
    assert database.storage.load(a._p_oid)
    database.close()


def test_what_is_referred_to_after_the_pack_time_stays(
    database: perdure.DB, connection: Any
) -> None:
    root = connection.root()
    root["a"] = a = PersistentMapping(x=1)
    commit(connection)
    del root["a"]
    removed = commit(connection)
    root["again"] = a
    database.pack(time_between(removed, commit(connection)))
    connection.cacheMinimize()
    assert root["again"]["x"] == 1


def test_what_an_undo_after_the_pack_time_brought_back_stays(
    database: perdure.DB, connection: Any
) -> None:
    root = connection.root()
    root["x"] = PersistentMapping(y=1)
    commit(connection)
    del root["x"]
    dropped = commit(connection)
    database.undo(database.undoLog(0, 1)[0]["id"], connection.transaction_manager.get())
    undone = commit(connection)
    database.pack(time_between(dropped, undone))
    connection.cacheMinimize()
    assert root["x"]["y"] == 1


def test_undo_works_for_what_was_not_packed(database: perdure.DB, connection: Any) -> None:
    root = connection.root()
    tids = []
    for number in range(4):
        root["x"] = number
        tids.append(commit(connection))
    manager = connection.transaction_manager
    database.undo(database.undoLog(0, 1)[0]["id"], manager.get())
    commit(connection)
    assert root["x"] == 2
    database.pack(time_between(tids[1], tids[2]))
    assert root["x"] == 2
    connection.cacheMinimize()
    assert root["x"] == 2
    database.undo(database.undoLog(0, 1)[0]["id"], manager.get())
    commit(connection)
    assert root["x"] == 3
    assert len(database.undoLog(0, 100)) == 4


def test_an_undo_started_before_a_pack_is_told_to_start_again(
    database: perdure.DB, connection: Any
) -> None:
    root = connection.root()
    before = b""
    for number in range(3):
        root["x"] = number
        before = commit(connection)
    root["x"] = 3
    last = commit(connection)
    storage, meta = database.storage, TransactionMetaData()
    storage.tpc_begin(meta)
    storage.undo(storage.undoLog(0, 1)[0]["id"], meta)
    database.pack(time_between(before, last))
    with pytest.raises(perdure.errors.ConflictError, match="packed"):
        storage.tpc_vote(meta)
    storage.tpc_abort(meta)


def test_packing_twice_changes_nothing(database: perdure.DB, connection: Any) -> None:
    connection.root()["x"] = 1
    commit(connection)
    now = time.time()
    database.storage.pack(now)
    size = database.getSize()
    assert database.storage.pack(now) is None
    assert database.getSize() == size


def test_a_time_before_the_last_pack_is_refused(database: perdure.DB, connection: Any) -> None:
    tids = []
    for number in range(4):
        connection.root()["x"] = number
        connection.root()[f"kept {number}"] = PersistentMapping()
        tids.append(commit(connection))
    database.pack()
    size = database.getSize()
    for earlier in (time_between(tids[1], tids[2]), time.time() - 86_400):
        with pytest.raises(RedundantPackWarning, match="packed to a time after"):
            database.pack(earlier)
        assert database.getSize() == size


def test_the_gain_is_reported(database: perdure.DB, connection: Any) -> None:
    connection.root()["x"] = 1
    commit(connection)
    before = database.getSize()
    result = database.storage.pack(time.time())
    assert result.bytes_before == before
    assert result.bytes_after == database.getSize() < before


def store(storage: Any, oid: bytes, serial: bytes, data: bytes) -> None:
    meta = TransactionMetaData()
    storage.tpc_begin(meta)
    storage.store(oid, serial, data, "", meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)


def test_a_pack_that_is_stopped_changes_nothing(tmp_path: Path) -> None:
    storage = FileStorage(tmp_path / "data.fs")
    store(storage, bytes(8), bytes(8), b"\x80\x03N.\x80\x03N.")
    before = (tmp_path / "data.fs").read_bytes()

    def interrupted(data: bytes, oids: list[bytes]) -> list[bytes]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        storage.pack(time.time(), interrupted)
    assert (tmp_path / "data.fs").read_bytes() == before
    assert not (tmp_path / "data.fs.pack").exists()
    storage.close()


def test_a_record_that_cannot_be_searched_is_named(database: perdure.DB) -> None:
    storage = database.storage
    store(storage, bytes(8), storage.load(bytes(8))[1], b".e" + b"\xff" * 30)
    size = storage.getSize()
    with pytest.raises(PackError, match="0x00"):
        storage.pack(time.time())
    assert storage.getSize() == size


def test_the_old_file_is_kept_or_not(tmp_path: Path) -> None:
    for keep in (True, False):
        path = tmp_path / f"{keep}.fs"
        database = perdure.DB(FileStorage(path, pack_keep_old=keep))
        connection = database.open(transaction.TransactionManager())
        for number in range(3):
            connection.root()["x"] = number
            commit(connection)
        before = path.read_bytes()
        database.pack()
        old = path.with_suffix(".fs.old")
        assert old.exists() is keep
        if keep:
            assert old.read_bytes() == before
        database.close()


def test_a_read_only_storage_is_not_packed(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    perdure.DB(FileStorage(path)).close()
    storage = FileStorage(path, read_only=True)
    with pytest.raises(ReadOnlyError):
        storage.pack(time.time())
    storage.close()


ROUNDS = 60


def write_rounds(database: perdure.DB) -> None:
    connection = database.open(transaction.TransactionManager())
    root = connection.root()
    for number in range(ROUNDS):
        root["x"] = number
        root["box"] = PersistentMapping(number=number)
        connection.transaction_manager.commit()
    connection.close()


def read_until(database: perdure.DB, done: threading.Event) -> None:
    connection = database.open(transaction.TransactionManager())
    while not done.is_set():
        connection.transaction_manager.begin()
        root = connection.root()
        try:
            assert "box" not in root or root["box"]["number"] == root["x"]
        except perdure.errors.ReadConflictError:
            continue  # the snapshot was packed away: a new transaction sees a later one
    connection.close()


def test_commits_and_readers_go_on_while_packs_run(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    database = perdure.DB(FileStorage(path))
    done = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        readers = [pool.submit(read_until, database, done) for _ in range(2)]
        writer = pool.submit(write_rounds, database)
        writer.add_done_callback(lambda _: done.set())
        while not done.is_set():
            database.pack()
        for task in (writer, *readers):
            task.result()
    database.close()
    again = perdure.DB(FileStorage(path))
    root = again.open(transaction.TransactionManager()).root()
    assert root["x"] == root["box"]["number"] == ROUNDS - 1
    again.close()


def test_a_snapshot_that_was_packed_away_asks_for_a_new_transaction(
    database: perdure.DB, connection: Any
) -> None:
    root = connection.root()
    root["box"] = PersistentMapping(x=1)
    commit(connection)
    manager = transaction.TransactionManager()
    late = database.open(manager)
    box = late.root()["box"]
    root["box"]["x"] = 2
    commit(connection)
    database.pack()
    with pytest.raises(perdure.errors.ReadConflictError, match="packed"):
        box["x"]
    manager.begin()
    assert box["x"] == 2
    late.close()


def test_only_one_pack_runs(tmp_path: Path) -> None:
    database = perdure.DB(FileStorage(tmp_path / "data.fs"))
    connection = database.open(transaction.TransactionManager())
    connection.root()["x"] = 1
    commit(connection)
    refused: list[BaseException] = []

    def meanwhile(data: bytes, oids: list[bytes]) -> list[bytes]:
        try:
            database.storage.pack(time.time())
        except PackError as error:
            refused.append(error)
        return oids

    database.storage.pack(time.time(), meanwhile)
    assert "another pack" in str(refused[0])
    database.close()


def test_a_packed_file_opens_again_without_its_index(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    database = perdure.DB(FileStorage(path))
    connection = database.open(transaction.TransactionManager())
    for number in range(20):
        connection.root()[f"k{number}"] = PersistentMapping(n=number)
        commit(connection)
    database.pack()
    connection.root()["last"] = True
    commit(connection)
    database.close()
    (tmp_path / "data.fs.pindex").unlink()
    again = perdure.DB(FileStorage(path))
    root = again.open(transaction.TransactionManager()).root()
    assert [root[f"k{number}"]["n"] for number in range(20)] == list(range(20))
    assert root["last"]
    again.close()


def pack_a_copy(
    storage: Any, referencesf: Any, stop: bytes, gc: bool
) -> tuple[int, dict[str, int]]:
    """A packer as programs plug in: it works on a copy of the data file."""
    copy = storage._file.name + ".copy"
    shutil.copy(storage._file.name, copy)
    other = FileStorage(copy)
    other.pack(TimeStamp(stop).timeTime() + 1, referencesf, gc)
    other.close()
    Path(copy).rename(storage._file.name + ".pack")
    return Path(storage._file.name + ".pack").stat().st_size, {}


def test_a_packer_can_be_plugged_in(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    database = perdure.DB(FileStorage(path, packer=pack_a_copy))
    connection = database.open(transaction.TransactionManager())
    for number in range(5):
        connection.root()["x"] = number
        commit(connection)
    size = database.getSize()
    database.pack()
    assert path.stat().st_size == database.getSize() < size
    assert revisions(database, connection.root()._p_oid) == 1
    connection.root()["x"] = 5
    commit(connection)
    database.close()
    again = perdure.DB(FileStorage(path))
    assert again.open(transaction.TransactionManager()).root()["x"] == 5
    again.close()


def test_blobs_that_a_plugged_in_packer_dropped_go_too(tmp_path: Path) -> None:
    def packer(storage: Any, referencesf: Any, stop: bytes, gc: bool) -> tuple[int, dict[str, int]]:
        listed = Path(storage.blob_dir) / ".removed"
        listed.write_text("".join(f"{oid.hex()}\n" for oid, _path in storage.fshelper.listOIDs()))
        return pack_a_copy(storage, referencesf, stop, gc)

    blobs = tmp_path / "blobs"
    storage = FileStorage(
        tmp_path / "data.fs", blob_dir=str(blobs), packer=packer, pack_keep_old=False
    )
    database = perdure.DB(storage)
    connection = database.open(transaction.TransactionManager())
    connection.root()["blob"] = blob = perdure.Blob(b"first")
    commit(connection)
    first = Path(blob.committed())
    with blob.open("w") as file:
        file.write(b"second")
    commit(connection)
    database.pack()
    assert not first.exists()
    assert not (blobs / ".removed").exists()
    with blob.open() as file:
        assert file.read() == b"second"
    database.close()


def test_a_packer_that_missed_a_commit_is_refused(tmp_path: Path) -> None:
    def slow(storage: Any, referencesf: Any, stop: bytes, gc: bool) -> tuple[int, dict[str, int]]:
        result = pack_a_copy(storage, referencesf, stop, gc)
        writer.root()["x"] = "meanwhile"
        commit(writer)
        return result

    database = perdure.DB(FileStorage(tmp_path / "data.fs", packer=slow))
    writer = database.open(transaction.TransactionManager())
    writer.root()["x"] = 1
    commit(writer)
    with pytest.raises(PackError, match="does not end with the last transaction"):
        database.pack()
    writer.cacheMinimize()
    assert writer.root()["x"] == "meanwhile"
    database.close()


@pytest.mark.parametrize("phase", ["scan", "mark", "copy"])
def test_each_phase_of_a_pack_is_told_and_can_stop_it_however_short_it_is(
    tmp_path: Path, phase: str
) -> None:
    db = perdure.DB(str(tmp_path / "data.fs"))
    for number in range(3):
        with db.transaction() as connection:
            connection.root.x = number
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    told: list[str] = []

    def stop(now: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        told.append(now)
        if now == phase:
            raise RecursionError("stopped")

    with pytest.raises(RecursionError, match="stopped"):
        db.pack(progress=stop)
    assert told[-1] == phase
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    db.pack()
    assert db.getSize() < len(before["data.fs"])
    db.close()


def test_a_storage_that_tells_no_progress_is_packed_all_the_same(tmp_path: Path) -> None:
    db = perdure.DB(ZODB.FileStorage.FileStorage(str(tmp_path / "data.fs")))
    for number in range(3):
        with db.transaction() as connection:
            connection.root.x = number
    before = db.getSize()
    db.pack(progress=lambda *_told: None)
    assert db.getSize() < before
    db.close()


def test_a_transaction_that_is_larger_than_any_buffer_is_packed_whole(
    database: perdure.DB, connection: Any
) -> None:
    texts = [str(number) * 700 for number in range(3_000)]
    connection.root()["kept"] = [PersistentMapping(text=text) for text in texts]
    connection.root()["large"] = PersistentMapping(text="x" * 5_000_000)
    connection.root()["gone"] = [PersistentMapping(text=text) for text in texts]
    commit(connection)
    del connection.root()["gone"]
    without = commit(connection)
    connection.root()["late"] = [PersistentMapping(text=text) for text in texts]
    late = commit(connection)
    size = database.getSize()
    database.pack(time_between(without, late))
    assert database.getSize() < size * 0.8
    assert perdure.check(database.storage).findings == []
    connection.cacheMinimize()
    for name in "kept", "late":
        assert [each["text"] for each in connection.root()[name]] == texts
    assert len(connection.root()["large"]["text"]) == 5_000_000
    if isinstance(database.storage, FileStorage):
        database.storage.close()
        reopened = perdure.DB(FileStorage(database.storage.getName()))
        with reopened.transaction() as other:
            assert [each["text"] for each in other.root()["kept"]] == texts
        verified, unverified, damaged = reopened.storage._native.check_checksums()
        reopened.close()
        assert (unverified, damaged) == (0, [])
        assert verified == 3
