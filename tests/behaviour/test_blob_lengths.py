"""A blob's record knows how long its file is."""

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
import ZODB.blob
import ZODB.FileStorage
from click.testing import CliRunner
from ZODB.utils import get_pickle_metadata

import perdure
from perdure.blob import BlobStorage
from perdure.cli import main
from perdure.errors import DamagedBlobError, POSKeyError, UndoError
from perdure.ids import oid_repr, tid_repr
from perdure.storage.demo import DemoStorage
from perdure.storage.encrypting import EncryptingStorage
from perdure.storage.zlib import ZlibStorage

KEY = bytes(range(32))


def file_storage(where: Path) -> Any:
    return perdure.FileStorage(str(where / "data.fs"), blob_dir=str(where / "blobs"))


LAYERS: dict[str, Callable[[Path], Any]] = {
    "file": file_storage,
    "blob-storage": lambda where: BlobStorage(
        str(where / "blobs"), perdure.FileStorage(str(where / "data.fs"))
    ),
    "zlib": lambda where: ZlibStorage(file_storage(where)),
    "demo": lambda where: DemoStorage(base=file_storage(where)),
    "stock-file": lambda where: ZODB.FileStorage.FileStorage(
        str(where / "data.fs"), blob_dir=str(where / "blobs")
    ),
}


@pytest.fixture(params=LAYERS)
def db(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.DB]:
    if request.param == "demo":
        base = perdure.DB(file_storage(tmp_path))
        store(base, b"0123456789")
        base.close()
    database = perdure.DB(LAYERS[request.param](tmp_path))
    if request.param != "demo":
        store(database, b"0123456789")
    yield database
    database.close()


def store(db: perdure.DB, data: bytes) -> None:
    with db.transaction() as connection:
        connection.root.blob = perdure.Blob(data)


def cut(path: str | Path, length: int) -> None:
    Path(path).chmod(0o600)
    os.truncate(path, length)


@pytest.mark.parametrize("length", [0, 9, 11])
@pytest.mark.parametrize("how", ["r", "c", "a", "r+", "path"])
def test_a_file_that_was_cut_or_has_grown_is_an_error_that_names_it(
    db: perdure.DB, length: int, how: str
) -> None:
    connection = db.open()
    blob = connection.root.blob
    path = blob.committed()
    cut(path, length)
    with pytest.raises(DamagedBlobError) as caught:
        blob.committed() if how == "path" else blob.open(how)
    error = caught.value
    assert (error.oid, error.tid, error.path) == (blob._p_oid, blob._p_serial, path)
    assert (error.expected, error.found) == (10, length)
    for part in (path, "0x01", blob._p_serial.hex(), f"has {length} bytes", "stored 10"):
        assert part in str(error)
    transaction.abort()
    with blob.open("w") as file:
        file.write(b"anew")
    transaction.commit()
    with blob.open() as file:
        assert file.read() == b"anew"
    transaction.abort()
    connection.close()


def test_a_check_finds_cut_and_missing_files_in_all_revisions(db: perdure.DB) -> None:
    with db.transaction() as connection:
        first = connection.root.blob.committed()
        with connection.root.blob.open("w") as file:
            file.write(b"second")
    with db.transaction() as connection:
        second = connection.root.blob.committed()
    assert perdure.check(db).ok
    cut(first, 3)
    Path(second).unlink()
    report = perdure.check(db)
    assert [each.kind for each in report.findings] == ["blob", "blob"]
    assert "has 3 bytes" in str(report.findings[0])
    assert first in str(report.findings[0])
    assert second in str(report.findings[1])
    assert [step.class_name for step in report.findings[0].path][-1] == "ZODB.blob.Blob"


def test_a_copy_tells_cut_and_missing_files(db: perdure.DB, tmp_path: Path) -> None:
    with db.transaction() as connection:
        first = connection.root.blob.committed()
        with connection.root.blob.open("w") as file:
            file.write(b"second")
    with db.transaction() as connection:
        second = connection.root.blob.committed()
    Path(first).unlink()
    cut(second, 3)
    (tmp_path / "copy").mkdir()
    with closing(file_storage(tmp_path / "copy")) as target:
        done = perdure.copy(db, target)
    assert done.last == db.lastTransaction()
    missing, short = done.damaged_blobs
    assert Path(first).name.removesuffix(".blob").removeprefix("0x") in missing
    assert f"{second} of the blob" in short
    assert "has 3 bytes" in short
    assert [path.read_bytes() for path in (tmp_path / "copy").rglob("*.blob")] == [b"sec"]


def test_a_cut_blob_stops_a_copy_that_tells_nothing(tmp_path: Path) -> None:
    db = perdure.DB(file_storage(tmp_path))
    store(db, b"0123456789")
    with db.transaction() as connection:
        cut(connection.root.blob.committed(), 3)
    (tmp_path / "copy").mkdir()
    with closing(file_storage(tmp_path / "copy")) as target:
        with pytest.raises(DamagedBlobError, match="has 3 bytes"):
            target.copyTransactionsFrom(db.storage)
        assert len(target) < 2
    assert not list((tmp_path / "copy").rglob("*CTFT*"))
    db.close()


def test_the_copy_command_ends_with_what_is_found(tmp_path: Path) -> None:
    db = perdure.DB(file_storage(tmp_path))
    store(db, b"0123456789")
    db.close()
    (path,) = (tmp_path / "blobs").rglob("*.blob")
    path.unlink()
    source = f"file:{tmp_path}/data.fs?blob_dir={tmp_path}/blobs"
    for number, options in enumerate(((), ("--json",))):
        target = f"file:{tmp_path}/{number}.fs?blob_dir={tmp_path}/{number}&create=true"
        done = CliRunner().invoke(main, ["copy", *options, source, target])
        assert done.exit_code == 3
        assert str(path) in done.output


def test_an_encrypted_blob_has_the_length_of_its_data(tmp_path: Path) -> None:
    db = perdure.DB(EncryptingStorage(file_storage(tmp_path), KEY))
    store(db, b"0123456789")
    with db.transaction() as connection, connection.root.blob.open() as file:
        assert file.read() == b"0123456789"
    assert perdure.check(db).ok
    (path,) = (tmp_path / "blobs").rglob("*.blob")
    cut(path, 100)
    assert [each.kind for each in perdure.check(db).findings] == ["blob"]
    db.close()


@pytest.mark.parametrize("through", ["savepoint", "taken over"])
def test_every_way_to_store_a_blob_keeps_its_length(tmp_path: Path, through: str) -> None:
    db = perdure.DB(file_storage(tmp_path))
    connection = db.open()
    connection.root.blob = blob = perdure.Blob(b"first")
    transaction.savepoint()
    if through == "taken over":
        (tmp_path / "given").write_bytes(b"second, longer")
        blob.consumeFile(str(tmp_path / "given"))
    transaction.commit()
    data = Path(blob.committed()).read_bytes()
    assert data == (b"second, longer" if through == "taken over" else b"first")
    cut(blob.committed(), 2)
    with pytest.raises(DamagedBlobError, match=f"stored {len(data)}"):
        blob.open()
    connection.close()
    db.close()


def test_the_length_goes_along_with_copies_packs_undone_changes_and_exports(
    tmp_path: Path,
) -> None:
    db = perdure.DB(file_storage(tmp_path))
    store(db, b"0123456789")
    with db.transaction() as connection, connection.root.blob.open("w") as file:
        file.write(b"later")
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()
    db.pack()
    connection = db.open()
    connection.exportFile(connection.root.blob._p_oid, str(tmp_path / "blob.zexp")).close()
    (tmp_path / "copy").mkdir()
    target = file_storage(tmp_path / "copy")
    perdure.copy(db, target)
    copied = perdure.DB(target)
    other = copied.open()
    other.root.imported = other.importFile(str(tmp_path / "blob.zexp"))
    transaction.commit()
    for blob in (connection.root.blob, other.root.blob, other.root.imported):
        cut(blob.committed(), 9)
        with pytest.raises(DamagedBlobError, match="stored 10"):
            blob.open()
    with pytest.raises(DamagedBlobError, match="stored 10"):
        connection.exportFile(connection.root.blob._p_oid, str(tmp_path / "damaged.zexp"))
    transaction.abort()
    for each in (connection, other, db, copied):
        each.close()


def test_undoing_an_earlier_change_does_not_lose_a_later_one(tmp_path: Path) -> None:
    db = perdure.DB(file_storage(tmp_path))
    for data in (b"one", b"two", b"six"):
        store(db, data) if data == b"one" else write(db, data)
    db.undo(db.undoLog(1, 2)[0]["id"])
    with pytest.raises(UndoError, match="changed later"):
        transaction.commit()
    transaction.abort()
    with db.transaction() as connection, connection.root.blob.open() as file:
        assert file.read() == b"six"
    db.close()


def write(db: perdure.DB, data: bytes) -> None:
    with db.transaction() as connection, connection.root.blob.open("w") as file:
        file.write(data)


def test_stock_reads_packs_undoes_and_changes_such_blobs(tmp_path: Path) -> None:
    db = perdure.DB(file_storage(tmp_path))
    store(db, b"ours")
    write(db, b"changed")
    db.close()

    stock = ZODB.DB(
        ZODB.FileStorage.FileStorage(str(tmp_path / "data.fs"), blob_dir=str(tmp_path / "blobs"))
    )
    connection = stock.open()
    record = stock.storage.load(connection.root.blob._p_oid)[0]
    assert ZODB.blob.is_blob_record(record)
    assert get_pickle_metadata(record) == ("ZODB.blob", "Blob")
    with connection.root.blob.open() as file:
        assert file.read() == b"changed"
    transaction.abort()
    stock.undo(stock.undoLog(0, 1)[0]["id"])
    transaction.commit()
    stock.pack()
    with connection.root.blob.open() as file:
        assert file.read() == b"ours"
    connection.root.theirs = ZODB.blob.Blob(b"theirs")
    transaction.commit()
    connection.close()
    stock.close()

    db = perdure.DB(file_storage(tmp_path))
    with db.transaction() as again:
        theirs, ours = again.root.theirs.committed(), again.root.blob.committed()
    cut(theirs, 2)
    cut(ours, 2)
    with db.transaction() as again:
        with again.root.theirs.open() as file:
            assert file.read() == b"th"
        with pytest.raises(DamagedBlobError):
            again.root.blob.open()
    db.close()


def test_a_record_that_only_looks_like_one_with_a_length_has_none() -> None:
    from perdure.blob import length_in, with_length

    record = pickle.dumps(1) + pickle.dumps(None)
    known = with_length(record, 1 << 40)
    assert length_in(known) == 1 << 40
    assert length_in(with_length(known, 7)) == 7
    assert len(with_length(known, 7)) == len(known)
    for other in (record, b"PBL1", record[:-1] + known[len(record) :], known + b"."):
        assert length_in(other) is None


def test_a_missing_file_is_told_with_what_to_do_and_not_as_a_missing_object(
    tmp_path: Path,
) -> None:
    with perdure.DB(file_storage(tmp_path)) as database:
        store(database, b"0123456789")
        connection = database.open()
        blob = connection.root.blob
        blob._p_activate()
        path = database.storage.loadBlob(blob._p_oid, blob._p_serial)
        Path(path).unlink()
        for method in ("open", "committed"):
            with pytest.raises(POSKeyError) as caught:
                getattr(blob, method)()
            message = str(caught.value)
            assert caught.value.oid == blob._p_oid
            assert oid_repr(blob._p_oid) in message
            assert tid_repr(blob._p_serial) in message
            assert path in message
            assert "restore it from a backup" in message
            assert "no such object" not in message
        transaction.abort()
        connection.close()
