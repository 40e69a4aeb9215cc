"""What the options of a text configuration do, beyond being accepted."""

import time
from pathlib import Path
from typing import Any

import pytest
import transaction
from persistent.mapping import PersistentMapping

import perdure
from perdure.config import databaseFromString
from perdure.errors import EncryptionError, FileStorageQuotaError, UnreadableRecord
from perdure.storage.encrypting import write_new_key


def configured(path: Path, *lines: str) -> perdure.DB:
    """Open a database whose file storage has these options."""
    options = "\n".join(lines)
    db: perdure.DB = databaseFromString(
        f"<zodb>\n<filestorage>\npath {path}\n{options}\n</filestorage>\n</zodb>"
    )
    return db


def made(path: Path, *lines: str) -> perdure.DB:
    """The same, with an object that nothing refers to any more."""
    db = configured(path, *lines)
    with db.transaction() as connection:
        connection.root.child = PersistentMapping(text="x" * 1_000)
    with db.transaction() as connection:
        del connection.root.child
    return db


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "Data.fs"


def test_a_file_does_not_grow_beyond_its_quota(path: Path) -> None:
    with configured(path, "quota 4KB") as db:
        with pytest.raises(FileStorageQuotaError), db.transaction() as connection:
            connection.root.text = "x" * 5_000
        assert path.stat().st_size <= 4096
        with db.transaction() as connection:
            connection.root.text = "it fits"


@pytest.mark.parametrize(("value", "left"), [("true", 1), ("false", 2)])
def test_a_pack_collects_garbage_or_not(path: Path, value: str, left: int) -> None:
    with made(path, f"pack-gc {value}") as db:
        db.pack()
        assert len(db.storage) == left


@pytest.mark.parametrize("value", ["true", "false"])
def test_a_pack_keeps_the_old_file_or_not(path: Path, value: str) -> None:
    with made(path, f"pack-keep-old {value}") as db:
        db.pack()
    assert path.with_name("Data.fs.old").exists() == (value == "true")


def test_a_larger_record_than_is_allowed_is_not_read(path: Path) -> None:
    with configured(path) as db, db.transaction() as connection:
        connection.root.child = PersistentMapping(text="x" * 3_000)
    with (
        configured(path, "record-bytes-max 2KB") as db,
        db.transaction() as connection,
        pytest.raises(UnreadableRecord, match="record_bytes_max"),
    ):
        connection.root.child["text"]


@pytest.mark.parametrize(("lines", "kept"), [([], True), (["pool-timeout 1s"], False)])
def test_a_connection_that_was_idle_for_long_is_let_go(
    path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[str], kept: bool
) -> None:
    options = "\n".join(lines)
    db = databaseFromString(
        f"<zodb>\n{options}\n<filestorage>\npath {path}\n</filestorage>\n</zodb>"
    )
    first, second = (db.open(transaction.TransactionManager()) for _ in range(2))
    first.close()
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 10)
    second.close()
    opened = [db.open(transaction.TransactionManager()) for _ in range(2)]
    assert second in opened
    assert (first in opened) == kept
    for each in opened:
        each.close()
    db.close()


def encrypting(path: Path, key: Path, *lines: str) -> Any:
    options = "\n".join(lines)
    return databaseFromString(
        f"<zodb>\n<encryptingstorage>\nkey-file {key}\n{options}\n<filestorage>\npath {path}\n"
        f"blob-dir {path.parent}/blobs\n</filestorage>\n</encryptingstorage>\n</zodb>"
    )


def test_what_was_not_encrypted_is_read_where_that_is_allowed(path: Path, tmp_path: Path) -> None:
    write_new_key(tmp_path / "key")
    with configured(path) as db, db.transaction() as connection:
        connection.root.text = "in clear"
    with pytest.raises(EncryptionError, match="read_unencrypted"):
        encrypting(path, tmp_path / "key")
    options = "read-unencrypted true"
    with encrypting(path, tmp_path / "key", options) as db, db.transaction() as connection:
        assert connection.root.text == "in clear"


def test_files_of_blobs_in_clear_are_in_the_directory_for_them(path: Path, tmp_path: Path) -> None:
    write_new_key(tmp_path / "key")
    clear = tmp_path / "clear"
    clear.mkdir()
    with encrypting(path, tmp_path / "key", f"clear-directory {clear}") as db:
        with db.transaction() as connection:
            connection.root.blob = perdure.Blob(b"in clear")
        with db.transaction() as connection:
            file = Path(connection.root.blob.committed())
            assert file.read_bytes() == b"in clear"
            assert file.is_relative_to(clear)
