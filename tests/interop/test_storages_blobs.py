"""Blobs: the sample's, and perdure's blob storages under stock ZODB's database."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
import ZODB.blob
import ZODB.FileStorage
import ZODB.interfaces

import perdure
from perdure.ids import Oid, Tid

SAMPLES = Path(__file__).parents[1] / "data"
MANIFEST: dict[str, Any] = json.loads((SAMPLES / "manifest.json").read_text(encoding="utf-8"))
Open = Callable[[Path], Any]


def own(directory: Path) -> Any:
    return perdure.FileStorage(str(directory / "data.fs"), blob_dir=str(directory / "blobs"))


def stock(directory: Path) -> Any:
    path = str(directory / "data.fs")
    return ZODB.FileStorage.FileStorage(path, blob_dir=str(directory / "blobs"))


STORAGES = {"perdure": own, "stock": stock}
DATABASES: dict[str, tuple[Callable[[Any], Any], Callable[[], Any]]] = {
    "perdure": (perdure.DB, perdure.Blob),
    "stock": (ZODB.DB, ZODB.blob.Blob),
}


def written(blob: Any, data: bytes) -> Any:
    with blob.open("w") as file:
        file.write(data)
    return blob


def read(blob: Any) -> bytes:
    with blob.open("r") as file:
        data: bytes = file.read()
    return data


@pytest.fixture
def sample(tmp_path: Path) -> Path:
    """A directory with a copy of the sample database and its blobs."""
    shutil.copy(SAMPLES / "blobs.fs", tmp_path / "data.fs")
    shutil.copytree(SAMPLES / "blobs.d", tmp_path / "blobs")
    return tmp_path


def test_every_revision_of_the_samples_blobs_has_the_data_of_the_manifest(sample: Path) -> None:
    storage = own(sample)
    checked = 0
    for name, expected in MANIFEST["blobs.d"].items():
        path = Path(name)
        if path.suffix != ".blob":
            continue
        oid = Oid(bytes(int(part, 16) for part in path.parent.parts))
        serial = Tid(bytes.fromhex(path.stem.removeprefix("0x")))
        found = Path(storage.loadBlob(oid, serial)).read_bytes()
        assert hashlib.sha256(found).hexdigest() == expected
        checked += 1
    assert checked == 6
    storage.close()


@pytest.mark.parametrize("storage_of", list(STORAGES))
@pytest.mark.parametrize("database_of", list(DATABASES))
def test_blobs_work_whichever_database_is_over_whichever_storage(
    storage_of: str, database_of: str, tmp_path: Path
) -> None:
    make, blob = DATABASES[database_of]
    database = make(STORAGES[storage_of](tmp_path))
    with database.transaction() as connection:
        connection.root()["blob"] = written(blob(), b"first")
    first = database.lastTransaction()
    with database.transaction() as connection:
        written(connection.root()["blob"], b"second")
    with database.transaction() as connection:
        assert read(connection.root()["blob"]) == b"second"
    past = database.open(transaction.TransactionManager(), at=first)
    assert read(past.root()["blob"]) == b"first"
    past.close()
    database.undo(database.undoLog(0, 1)[0]["id"])
    transaction.commit()
    with database.transaction() as connection:
        assert read(connection.root()["blob"]) == b"first"
        del connection.root()["blob"]
    database.pack()
    assert not list((tmp_path / "blobs").rglob("*.blob"))
    database.close()


@pytest.mark.parametrize("first", list(DATABASES))
def test_blobs_are_passed_back_and_forth(first: str, tmp_path: Path) -> None:
    second = "stock" if first == "perdure" else "perdure"
    for turn in range(6):
        kind = (first, second)[turn % 2]
        make, blob = DATABASES[kind]
        database = make(STORAGES[kind](tmp_path))
        with database.transaction() as connection:
            root = connection.root()
            for past in range(turn):
                expected = b"%d" % (past + 100 if past < turn - 1 else past)
                assert read(root[f"blob {past}"]) == expected
            if turn:
                written(root[f"blob {turn - 1}"], b"%d" % (turn + 99))
            root[f"blob {turn}"] = written(blob(), b"%d" % turn)
        database.close()


def test_a_storage_with_blobs_says_so_by_stocks_interfaces(tmp_path: Path) -> None:
    storage = own(tmp_path)
    assert ZODB.interfaces.IBlobStorage.providedBy(storage)
    assert ZODB.interfaces.IBlobStorageRestoreable.providedBy(storage)
    storage.close()
    plain = perdure.FileStorage(str(tmp_path / "plain.fs"))
    assert not ZODB.interfaces.IBlobStorage.providedBy(plain)
    plain.close()


@pytest.mark.parametrize("direction", ["from stock", "to stock"])
def test_blobs_are_copied_with_the_records(direction: str, sample: Path, tmp_path: Path) -> None:
    target_directory = tmp_path / "target"
    target_directory.mkdir()
    source_kind, target_kind = (stock, own) if direction == "from stock" else (own, stock)
    source, target = source_kind(sample), target_kind(target_directory)
    target.copyTransactionsFrom(source)
    source.close()
    target.close()
    found = {
        str(path.relative_to(target_directory / "blobs")): path.read_bytes()
        for path in (target_directory / "blobs").rglob("*.blob")
    }
    assert {name: hashlib.sha256(data).hexdigest() for name, data in found.items()} == {
        name: digest for name, digest in MANIFEST["blobs.d"].items() if name.endswith(".blob")
    }
    assert (target_directory / "data.fs").read_bytes() == (sample / "data.fs").read_bytes()
