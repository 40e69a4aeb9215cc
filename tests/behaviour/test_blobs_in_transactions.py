"""Blobs in transactions, over every kind of storage that keeps them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.behaviour.models import Node

import perdure
from perdure import errors
from perdure.blob import Blob, BlobStorage
from perdure.storage.file import FileStorage
from perdure.storage.mapping import MappingStorage

AT_THE_END = """
import atexit, perdure, transaction
db = perdure.DB(perdure.FileStorage("Data.fs", blob_dir="blobs"))
db.open().root()["blobs"] = [perdure.Blob(b"one"), perdure.Blob(b"two")]
atexit.register(transaction.commit)
"""
"""Commits blobs when no thread can be started any more."""


def _stock_file(directory: Path) -> Any:
    from ZODB.FileStorage import FileStorage as StockFileStorage

    return StockFileStorage(str(directory / "Data.fs"), blob_dir=str(directory / "blobs"))


def _own_file(directory: Path) -> Any:
    return FileStorage(str(directory / "Data.fs"), blob_dir=str(directory / "blobs"))


def _wrapped(directory: Path) -> Any:
    return BlobStorage(str(directory / "blobs"), FileStorage(str(directory / "Data.fs")))


def _wrapped_memory(directory: Path) -> Any:
    return BlobStorage(str(directory / "blobs"), MappingStorage())


@pytest.fixture(params=[_own_file, _stock_file, _wrapped, _wrapped_memory])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    make: Callable[[Path], Any] = request.param
    try:
        return make(tmp_path)
    except errors.Unsupported:
        pytest.skip("this storage doesn't keep blobs yet")


@pytest.fixture
def db(storage: Any) -> Iterator[perdure.DB]:
    opened = perdure.DB(storage)
    yield opened
    opened.close()


@pytest.fixture
def conn(db: perdure.DB) -> Iterator[perdure.Connection]:
    manager = transaction.TransactionManager()
    yield db.open(manager)
    manager.abort()


def commit(conn: perdure.Connection) -> None:
    conn.transaction_manager.commit()


def read(blob: Any) -> bytes:
    with blob.open() as file:
        content: bytes = file.read()
    return content


def write(blob: Any, data: bytes) -> None:
    with blob.open("w") as file:
        file.write(data)


def test_a_committed_blob_is_read_by_others(db: perdure.DB, conn: perdure.Connection) -> None:
    blob = conn.root.blob = Blob(b"first")
    commit(conn)
    assert read(blob) == b"first"
    assert Path(blob.committed()).read_bytes() == b"first"
    with db.transaction() as other:
        assert read(other.root.blob) == b"first"
    write(blob, b"second")
    with db.transaction() as other:
        assert read(other.root.blob) == b"first"
    commit(conn)
    with db.transaction() as other:
        assert read(other.root.blob) == b"second"


def test_an_aborted_change_of_a_blob_is_taken_back(conn: perdure.Connection) -> None:
    blob = conn.root.blob = Blob(b"first")
    commit(conn)
    write(blob, b"second")
    conn.transaction_manager.abort()
    assert read(blob) == b"first"


def test_a_snapshot_has_the_blobs_of_its_time(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.blob = Blob(b"first")
    commit(conn)
    conn.cacheMinimize()
    with db.transaction() as other:
        write(other.root.blob, b"second")
    assert read(conn.root.blob) == b"first"
    conn.sync()
    assert read(conn.root.blob) == b"second"


def test_savepoints_keep_the_data_of_blobs(db: perdure.DB, conn: perdure.Connection) -> None:
    blob = conn.root.blob = Blob(b"committed")
    commit(conn)
    write(blob, b"first")
    point = conn.transaction_manager.savepoint()
    assert read(blob) == b"first"
    write(blob, b"second")
    later = conn.transaction_manager.savepoint()
    new = conn.root.new = Blob(b"new")
    write(blob, b"third")
    conn.cacheMinimize()
    later.rollback()
    assert read(blob) == b"second"
    assert new._p_jar is None
    point.rollback()
    assert read(blob) == b"first"
    with pytest.raises(errors.BlobError):
        blob.committed()
    with db.transaction() as other:
        assert read(other.root.blob) == b"committed"
    commit(conn)
    assert read(blob) == b"first"
    with db.transaction() as other:
        assert read(other.root.blob) == b"first"


def test_an_abort_takes_back_blobs_in_savepoints(conn: perdure.Connection) -> None:
    blob = conn.root.blob = Blob(b"committed")
    commit(conn)
    write(blob, b"first")
    conn.root.new = Blob(b"new")
    conn.transaction_manager.savepoint()
    conn.transaction_manager.abort()
    assert read(blob) == b"committed"
    assert not hasattr(conn.root, "new")


def test_a_blob_changed_by_another_is_a_conflict(db: perdure.DB, conn: perdure.Connection) -> None:
    blob = conn.root.blob = Blob(b"first")
    commit(conn)
    write(blob, b"mine")
    with db.transaction() as other:
        write(other.root.blob, b"theirs")
    with pytest.raises(errors.ConflictError):
        commit(conn)
    conn.transaction_manager.abort()
    assert read(blob) == b"theirs"


def test_a_blob_that_is_open_for_writing_cannot_be_committed(conn: perdure.Connection) -> None:
    blob = conn.root.blob = Blob(b"first")
    commit(conn)
    with blob.open("w") as file:
        file.write(b"half")
        with pytest.raises(ValueError, match="opened blobs"):
            commit(conn)
    conn.transaction_manager.abort()
    assert read(blob) == b"first"


def test_a_blob_that_was_only_flagged_is_not_stored(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    blob = conn.root.blob = Blob(b"first")
    commit(conn)
    assert read(blob) == b"first"
    serial = blob._p_serial
    blob._p_changed = True
    conn.root.node = Node()
    commit(conn)
    assert read(blob) == b"first"
    with db.transaction() as other:
        assert read(other.root.blob) == b"first"
        assert other.root.blob._p_serial == serial


def test_nothing_is_left_of_temporary_files(
    tmp_path: Path, db: perdure.DB, conn: perdure.Connection
) -> None:
    blob = conn.root.blob = Blob(b"first")
    conn.transaction_manager.savepoint()
    write(blob, b"second")
    commit(conn)
    write(blob, b"third")
    conn.transaction_manager.abort()
    temporary = Path(db.storage.temporaryDirectory())
    assert list(temporary.iterdir()) == []


def test_many_blobs_of_one_transaction_are_all_there(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root()["many"] = [perdure.Blob(b"%d" % number) for number in range(300)]
    commit(conn)
    with db.transaction() as other:
        found = [read(blob) for blob in other.root()["many"]]
    assert found == [b"%d" % number for number in range(300)]


def test_what_is_not_committed_can_be_read_by_nobody_else(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root()["blob"] = blob = perdure.Blob()
    with blob.open("w") as file:
        assert os.fstat(file.fileno()).st_mode & 0o077 == 0


def test_blobs_can_be_committed_when_the_process_ends(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", AT_THE_END], check=True, cwd=tmp_path, timeout=120)
    storage = FileStorage(str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "blobs"))
    with closing(perdure.DB(storage)) as db, db.transaction() as connection:
        assert [read(blob) for blob in connection.root()["blobs"]] == [b"one", b"two"]


def test_a_storage_without_blobs_refuses_them() -> None:
    db = perdure.DB(None)
    manager = transaction.TransactionManager()
    conn = db.open(manager)
    conn.root.blob = Blob(b"homeless")
    with pytest.raises(errors.Unsupported, match="blob_dir"):
        manager.commit()
    manager.abort()
    assert not hasattr(conn.root, "blob")
    db.close()
