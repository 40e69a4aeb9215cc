"""Records and blobs that are encrypted."""

import os
import shutil
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
import ZODB
import ZODB.blob
import ZODB.FileStorage
from BTrees.IOBTree import IOBTree
from persistent.mapping import PersistentMapping
from tests.storing import commit, oid, undo

import perdure
from perdure.config import ConfigurationError, databaseFromString, databaseFromTOML
from perdure.errors import ConflictError, EncryptionError
from perdure.ids import Tid
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.demo import DemoStorage
from perdure.storage.zlib import ZlibStorage

pytest.importorskip("cryptography")

from perdure.storage.encrypting import (
    EncryptingStorage,
    key_id_of,
    write_new_key,
)

KEY, OTHER = bytes(range(32)), bytes(range(32, 64))
BLOBS = {perdure.DB: perdure.Blob, ZODB.DB: ZODB.blob.Blob}
SECRET = "nobody else should know this " * 10
FILM = os.urandom(1 << 10) * 200
"""Several chunks, and a part of one."""


@pytest.fixture
def base(tmp_path: Path) -> Iterator[FileStorage]:
    """A file storage with blobs."""
    storage = FileStorage(str(tmp_path / "data.fs"), blob_dir=str(tmp_path / "blobs"))
    yield storage
    transaction.abort()
    storage.close()


def content(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file())


def copied(source: Any, target: Any, number: int, to: int) -> None:
    """Have *target* keep at *to* what *source* keeps at *number*, as it is."""
    commit(target, {to: source.load(oid(number))[0]})


def test_nothing_of_the_data_is_in_the_files(base: FileStorage, tmp_path: Path) -> None:
    db = perdure.DB(EncryptingStorage(base, KEY))
    with db.transaction() as connection:
        connection.root.secret = SECRET
        connection.root.film = perdure.Blob(SECRET.encode())
    with db.transaction() as connection:
        assert connection.root.secret == SECRET
        with connection.root.film.open() as file:
            assert file.read() == SECRET.encode()
    db.close()
    assert b"nobody" not in content(tmp_path)
    assert not list(tmp_path.rglob("clear-*"))


def test_the_same_data_is_never_encrypted_to_the_same() -> None:
    base = MappingStorage()
    commit(EncryptingStorage(base, KEY), {1: b"same", 2: b"same"})
    assert base.load(oid(1))[0][-20:] != base.load(oid(2))[0][-20:]


def test_a_wrong_key_is_an_error_that_names_the_right_one(base: FileStorage) -> None:
    perdure.DB(EncryptingStorage(base, KEY))
    with pytest.raises(EncryptionError, match=key_id_of(KEY)) as caught:
        perdure.DB(EncryptingStorage(base, OTHER))
    assert caught.value.key == key_id_of(KEY)
    assert key_id_of(OTHER) in str(caught.value)
    assert "give that key" in str(caught.value)
    assert OTHER.hex() not in repr(vars(caught.value))


def test_with_a_newer_key_what_the_old_one_encrypted_is_read(base: FileStorage) -> None:
    commit(EncryptingStorage(base, KEY), {1: b"old"})
    storage = EncryptingStorage(base, [OTHER, KEY])
    commit(storage, {2: b"new"})
    assert storage.load(oid(1))[0] == b"old"
    assert EncryptingStorage(base, OTHER).load(oid(2))[0] == b"new"


def test_keys_come_from_files_that_are_for_their_owner(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.key"
    key_id = write_new_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(FileExistsError):
        write_new_key(path)
    base = MappingStorage()
    commit(EncryptingStorage(base, path), {1: b"data"})
    assert EncryptingStorage(base, [str(path)]).load(oid(1))[0] == b"data"
    assert not caplog.records
    path.chmod(0o644)
    EncryptingStorage(base, path)
    assert "chmod 600" in caplog.text
    with pytest.raises(EncryptionError, match=key_id):
        EncryptingStorage(base, KEY).load(oid(1))


def test_keys_come_from_a_function() -> None:
    asked: list[str | None] = []

    def provide(key_id: str | None) -> bytes | None:
        asked.append(key_id)
        return {None: OTHER, key_id_of(KEY): KEY}.get(key_id)

    base = MappingStorage()
    commit(EncryptingStorage(base, KEY), {1: b"data"})
    storage = EncryptingStorage(base, provide)
    assert storage.load(oid(1))[0] == storage.load(oid(1))[0] == b"data"
    assert asked == [None, key_id_of(KEY)]
    with pytest.raises(EncryptionError, match="returned the key"):
        EncryptingStorage(base, lambda _key_id: OTHER).load(oid(1))


@pytest.mark.parametrize("keys", [[], b"short", lambda _key_id: None, "/no/such/file"])
def test_what_is_no_key_is_refused(keys: Any) -> None:
    with pytest.raises(EncryptionError):
        EncryptingStorage(MappingStorage(), keys)


def test_a_file_without_a_key_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("not a key\n")
    with pytest.raises(EncryptionError, match=r"a\.key holds is not a key"):
        EncryptingStorage(MappingStorage(), tmp_path / "a.key")


def test_a_record_in_the_place_of_another_object_is_an_error() -> None:
    base = MappingStorage()
    storage = EncryptingStorage(base, KEY)
    commit(storage, {1: b"one", 2: b"two"})
    copied(base, base, 1, to=2)
    assert storage.load(oid(1))[0] == b"one"
    for read in (
        lambda: storage.load(oid(2)),
        lambda: storage.loadSerial(oid(2), base.lastTransaction()),
        lambda: storage.loadBefore(oid(2), Tid(b"\x7f" + b"\xff" * 7)),
        lambda: [record for txn in storage.iterator() for record in txn],
        lambda: storage.record_iternext(oid(2)),
    ):
        with pytest.raises(EncryptionError, match="another object"):
            read()


@pytest.mark.parametrize("at", [2, 3, 5, 14, 30, 45, 50, 60, 80, -1])
def test_a_flipped_bit_anywhere_is_an_error(at: int) -> None:
    base = MappingStorage()
    storage = EncryptingStorage(base, KEY)
    commit(storage, {1: SECRET.encode()})
    data = bytearray(base.load(oid(1))[0])
    data[at] ^= 1
    commit(base, {1: bytes(data)})
    with pytest.raises(EncryptionError, match="0x01"):
        storage.load(oid(1))


@pytest.mark.parametrize("length", [2, 40, 87, 100])
def test_a_truncated_record_is_an_error(length: int) -> None:
    base = MappingStorage()
    storage = EncryptingStorage(base, KEY)
    commit(storage, {1: SECRET.encode()})
    commit(base, {1: base.load(oid(1))[0][:length]})
    with pytest.raises(EncryptionError, match="damaged"):
        storage.load(oid(1))


def test_records_that_are_not_encrypted_are_read_only_where_asked_for() -> None:
    base = MappingStorage()
    commit(base, {1: b"plain"})
    with pytest.raises(EncryptionError, match="read_unencrypted=True"):
        EncryptingStorage(base, KEY).load(oid(1))
    assert EncryptingStorage(base, KEY, read_unencrypted=True).load(oid(1))[0] == b"plain"


@pytest.mark.parametrize("database", [perdure.DB, ZODB.DB])
def test_packing_follows_references_in_encrypted_records(base: Any, database: Any) -> None:
    db = database(EncryptingStorage(base, KEY))
    with db.transaction() as connection:
        connection.root()["kept"] = PersistentMapping({"text": SECRET})
        connection.root()["dropped"] = PersistentMapping({"text": SECRET})
    with db.transaction() as connection:
        del connection.root()["dropped"]
    db.pack(time.time())
    assert len(base) == 2
    with db.transaction() as connection:
        assert connection.root()["kept"]["text"] == SECRET
    db.close()


@pytest.mark.parametrize("storage", [FileStorage, ZODB.FileStorage.FileStorage])
@pytest.mark.parametrize("database", [perdure.DB, ZODB.DB])
def test_conflicts_are_resolved_and_what_is_merged_is_encrypted(
    storage: Any, database: Any, tmp_path: Path
) -> None:
    db = database(ZlibStorage(EncryptingStorage(storage(str(tmp_path / "data.fs")), KEY)))
    with db.transaction() as connection:
        connection.root()["tree"] = IOBTree({0: SECRET, 5: SECRET})
    managers = [transaction.TransactionManager() for _ in range(2)]
    for number, manager in enumerate(managers):
        db.open(manager).root()["tree"][6 + number] = SECRET
    for manager in managers:
        manager.commit()
    with db.transaction() as connection:
        assert list(connection.root()["tree"]) == [0, 5, 6, 7]
        assert [len(value) for value in connection.root()["tree"].values()] == [len(SECRET)] * 4
    db.close()
    assert b"nobody" not in content(tmp_path)


def test_a_foreign_record_is_not_merged() -> None:
    base = MappingStorage()
    db = perdure.DB(EncryptingStorage(base, KEY))
    with db.transaction() as connection:
        connection.root.one = IOBTree({0: "one"})
        connection.root.two = IOBTree({0: "two"})
    connection = db.open()
    one, two = connection.root.one._p_oid, connection.root.two._p_oid
    connection.root.one[1] = "mine"
    commit(base, {int.from_bytes(one, "big"): base.load(two)[0]})
    with pytest.raises(ConflictError):
        transaction.commit()
    transaction.abort()
    db.close()


def test_undo_brings_an_encrypted_record_back(base: Any) -> None:
    storage = EncryptingStorage(base, KEY)
    commit(storage, {1: b"first"})
    tid = commit(storage, {1: b"second"})
    undo(storage, tid)
    assert storage.load(oid(1))[0] == b"first"
    target = EncryptingStorage(MappingStorage(), OTHER)
    target.copyTransactionsFrom(storage)
    assert target.load(oid(1))[0] == b"first"


def test_transactions_are_copied_with_blobs_from_key_to_key(base: Any, tmp_path: Path) -> None:
    source = EncryptingStorage(base, KEY)
    db = perdure.DB(source)
    with db.transaction() as connection:
        connection.root.film = perdure.Blob(FILM)
    target = EncryptingStorage(
        FileStorage(str(tmp_path / "copy.fs"), blob_dir=str(tmp_path / "copied")), OTHER
    )
    target.copyTransactionsFrom(source)
    assert [txn.tid for txn in target.iterator()] == [txn.tid for txn in source.iterator()]
    copy = perdure.DB(target)
    with copy.transaction() as connection, connection.root.film.open() as file:
        assert file.read() == FILM
    copy.close()
    db.close()


@pytest.mark.parametrize("database", [perdure.DB, ZODB.DB])
@pytest.mark.parametrize("length", [0, 1, 65536, 65537, len(FILM)])
def test_blobs_are_read_anywhere_and_written_again(base: Any, database: Any, length: int) -> None:
    film = FILM[:length]
    db = database(EncryptingStorage(base, KEY))
    with db.transaction() as connection:
        connection.root()["film"] = BLOBS[database](film)
    with db.transaction() as connection:
        blob = connection.root()["film"]
        with blob.open() as file:
            assert file.seek(0, os.SEEK_END) == length
            assert file.seek(length // 2) == length // 2
            assert file.read() == film[length // 2 :]
        assert Path(blob.committed()).read_bytes() == film
        with blob.open("a") as file:
            file.write(b"more")
    with db.transaction() as connection, connection.root()["film"].open() as file:
        assert file.read() == film + b"more"
    db.close()


def test_no_file_in_clear_stays_when_nobody_has_its_path(base: Any, tmp_path: Path) -> None:
    storage = EncryptingStorage(base, KEY)
    db = perdure.DB(storage)
    for number in range(20):
        with db.transaction() as connection:
            connection.root()[number] = perdure.Blob(SECRET.encode())
    connection = db.open()
    paths = [connection.root()[number].committed() for number in range(20)]
    assert all(Path(path).read_text() == SECRET for path in paths)
    assert all(stat.S_IMODE(Path(path).parent.stat().st_mode) == 0o700 for path in paths)
    names = [path[:] + "" for path in paths]
    del paths
    connection.cacheMinimize()
    connection.close()
    db.close()
    assert not any(Path(name).exists() for name in names)
    assert b"nobody" not in content(tmp_path)


def test_what_a_killed_process_left_in_clear_is_removed(tmp_path: Path) -> None:
    program = f"""
        import os, perdure
        from perdure.storage.encrypting import EncryptingStorage
        base = perdure.FileStorage({str(tmp_path / "data.fs")!r}, blob_dir={str(tmp_path)!r})
        db = perdure.DB(EncryptingStorage(base, bytes(32)))
        with db.transaction() as connection:
            connection.root.film = perdure.Blob(b"nobody")
        connection = db.open()
        connection.root.film.committed()
        os._exit(0)
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True)
    assert b"nobody" in content(tmp_path)
    base = FileStorage(str(tmp_path / "data.fs"), blob_dir=str(tmp_path))
    storage = EncryptingStorage(base, bytes(32))
    storage.temporaryDirectory()
    assert b"nobody" not in content(tmp_path)
    storage.close()


def blob_files(directory: Path) -> list[Path]:
    return sorted(directory.rglob("*.blob"))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[: 56 + 65552],
        lambda data: data[:20],
        lambda data: data[:1000] + bytes([data[1000] ^ 1]) + data[1001:],
        lambda data: data[:56] + data[56 + 65552 : 56 + 2 * 65552] + data[56 + 65552 :],
        lambda data: SECRET.encode(),
    ],
    ids=["cut", "cut after a chunk", "cut in the header", "flipped", "reordered", "clear"],
)
def test_a_blob_file_that_was_changed_is_an_error(base: Any, tmp_path: Path, damage: Any) -> None:
    db = perdure.DB(EncryptingStorage(base, KEY))
    with db.transaction() as connection:
        connection.root.film = perdure.Blob(FILM)
    (path,) = blob_files(tmp_path)
    path.chmod(0o600)
    path.write_bytes(damage(path.read_bytes()))
    film = db.open().root.film
    with pytest.raises(EncryptionError, match=r"\.blob"):
        film.open()
    transaction.abort()
    db.close()


def test_files_of_two_revisions_of_a_blob_can_not_be_exchanged(base: Any, tmp_path: Path) -> None:
    db = perdure.DB(EncryptingStorage(base, KEY))
    for text in (b"first", b"later"):
        with db.transaction() as connection:
            connection.root.film = connection.root().get("film") or perdure.Blob()
            with connection.root.film.open("w") as file:
                file.write(text)
    first, later = blob_files(tmp_path)
    shutil.copyfile(first, tmp_path / "first")
    later.unlink()
    shutil.copyfile(tmp_path / "first", later)
    film = db.open().root.film
    with pytest.raises(EncryptionError, match="exchanged"):
        film.open()
    transaction.abort()
    db.close()


def test_undo_brings_an_encrypted_blob_back(base: Any) -> None:
    db = perdure.DB(EncryptingStorage(base, KEY))
    for text in (b"first", b"later"):
        with db.transaction() as connection:
            connection.root.film = connection.root().get("film") or perdure.Blob()
            with connection.root.film.open("w") as file:
                file.write(text)
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()
    with db.transaction() as connection, connection.root.film.open() as file:
        assert file.read() == b"first"
    db.close()


@pytest.mark.parametrize("start", ["plain", "old key"])
def test_a_database_is_encrypted_anew_while_in_use(base: Any, tmp_path: Path, start: str) -> None:
    before = base if start == "plain" else EncryptingStorage(base, KEY)
    db = perdure.DB(ZlibStorage(before))
    with db.transaction() as connection:
        connection.root.film = perdure.Blob(FILM)
        for number in range(20):
            connection.root()[number] = PersistentMapping({"text": SECRET})
    encrypting = EncryptingStorage(base, [OTHER, KEY], read_unencrypted=True)
    db = perdure.DB(ZlibStorage(encrypting))
    manager = transaction.TransactionManager()
    connection = db.open(manager)
    assert connection.root()[3]["text"] == SECRET
    told: list[int] = []
    assert encrypting.reencrypt(batch_records=10, progress=told.append) == 22
    assert told == [10, 20, 22]
    assert encrypting.reencrypt() == 0
    manager.begin()
    connection.root()[3]["text"] = "changed"
    manager.commit()
    connection.close()
    db.pack(time.time())
    only_new = perdure.DB(ZlibStorage(EncryptingStorage(base, OTHER)))
    with only_new.transaction() as connection:
        texts = [connection.root()[number]["text"] for number in range(20)]
        assert texts == [SECRET] * 3 + ["changed"] + [SECRET] * 16
        with connection.root.film.open() as file:
            assert file.read() == FILM
    only_new.close()


@pytest.mark.parametrize(
    "stack",
    [
        lambda base: ZlibStorage(EncryptingStorage(base, KEY)),
        lambda base: EncryptingStorage(ZlibStorage(base), KEY),
        lambda base: EncryptingStorage(EncryptingStorage(base, KEY), OTHER),
        lambda base: DemoStorage(base=EncryptingStorage(base, KEY)),
        lambda base: EncryptingStorage(DemoStorage(base=base), KEY),
    ],
)
@pytest.mark.parametrize("database", [perdure.DB, ZODB.DB])
def test_layers_stack_in_any_order(base: Any, stack: Any, database: Any) -> None:
    db = database(stack(base))
    with db.transaction() as connection:
        connection.root()["text"] = SECRET
        connection.root()["film"] = BLOBS[database](FILM)
    db.cacheMinimize()
    with db.transaction() as connection:
        assert connection.root()["text"] == SECRET
        with connection.root()["film"].open() as file:
            assert file.read() == FILM
    db.close()


@pytest.mark.parametrize("first", ["", "%import cipher.encryptingstorage"])
def test_a_section_describes_the_layer(tmp_path: Path, first: str) -> None:
    for name in ("new", "old"):
        write_new_key(tmp_path / f"{name}.key")
    db = databaseFromString(f"""
        {first}
        <zodb>
          <encryptingstorage>
            key-file {tmp_path}/new.key
            key-file {tmp_path}/old.key
            <filestorage>
              path {tmp_path}/data.fs
            </filestorage>
          </encryptingstorage>
        </zodb>
    """)
    with db.transaction() as connection:
        connection.root.secret = SECRET
    db.close()
    base = FileStorage(str(tmp_path / "data.fs"))
    assert perdure.DB(EncryptingStorage(base, tmp_path / "new.key")).open().root.secret == SECRET
    base.close()


def test_toml_describes_the_layer(tmp_path: Path) -> None:
    for name in ("new", "old"):
        write_new_key(tmp_path / f"{name}.key")
    commit(
        EncryptingStorage(base := FileStorage(str(tmp_path / "data.fs")), tmp_path / "old.key"),
        {7: b"x"},
    )
    base.close()
    path = tmp_path / "perdure.toml"
    described = """
        [database.storage]
        type = "encrypting"
        key_file = "new.key"
        old_key_files = {}
        base = {{ type = "file", path = "data.fs" }}
    """
    path.write_text(described.format('["old.key"]'))
    db = databaseFromTOML(path)
    assert db.storage.load(oid(7))[0] == b"x"
    db.close()
    path.write_text(described.format('["old.key", 3]'))
    with pytest.raises(ConfigurationError, match="a string, not 3"):
        databaseFromTOML(path)
