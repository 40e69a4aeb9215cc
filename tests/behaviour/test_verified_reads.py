"""Reads that are compared with checksums: a byte that changed on the disk is an error."""

from pathlib import Path

import pytest
import transaction
from persistent.mapping import PersistentMapping
from tests.interop.programs import run_code

import perdure
from perdure.config import databaseFromString, databaseFromTOML
from perdure.errors import CorruptedError, UnreadableRecord
from perdure.ids import ROOT_OID

TEXT = "what was committed"


def _make(path: Path) -> None:
    with perdure.DB(str(path)) as database:
        for name in ("one", "two"):
            with database.transaction() as connection:
                connection.root()[name] = PersistentMapping(text=f"{TEXT} as {name}")
        # More than an open looks at.
        for number in range(12):
            with database.transaction() as connection:
                connection.root()["last"] = PersistentMapping(number=number)


def _change(path: Path, name: str) -> None:
    data = bytearray(path.read_bytes())
    at = data.index(f"{TEXT} as {name}".encode())
    data[at] ^= 0x20
    path.write_bytes(data)


@pytest.mark.parametrize("packed", [False, True])
def test_a_changed_record_is_an_error_where_reads_are_verified(
    packed: bool, tmp_path: Path
) -> None:
    path = tmp_path / "Data.fs"
    _make(path)
    if packed:
        with perdure.DB(str(path)) as database:
            database.pack()
            with database.transaction() as connection:
                connection.root.after = 1
    _change(path, "one")
    storage = perdure.FileStorage(str(path), verify_reads=True)
    with perdure.DB(storage) as database, database.transaction() as connection:
        assert connection.root()["two"]["text"] == f"{TEXT} as two"
        with pytest.raises(CorruptedError, match="checksum"):
            connection.root()["one"]["text"]


def test_without_it_a_changed_record_is_read_as_it_is_on_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    _make(path)
    _change(path, "one")
    with perdure.DB(str(path)) as database, database.transaction() as connection:
        assert connection.root()["one"]["text"] == "What was committed as one"
    assert not perdure.check(path).ok


def test_commits_packs_and_undo_go_on_where_reads_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    with perdure.DB(perdure.FileStorage(str(path), verify_reads=True)) as database:
        for number in range(3):
            with database.transaction() as connection:
                connection.root()[number] = PersistentMapping(number=number)
        database.pack()
        with database.transaction() as connection:
            connection.root()[1]["number"] = -1
        (last,) = database.undoLog(0, 1)
        database.undo(last["id"])
        transaction.commit()
        with database.transaction() as connection:
            assert [connection.root()[n]["number"] for n in range(3)] == [0, 1, 2]


def test_a_file_of_stock_zodb_has_no_checksums_and_is_read(tmp_path: Path) -> None:
    path = tmp_path / "basic.fs"
    path.write_bytes((Path(__file__).parents[1] / "data" / "basic.fs").read_bytes())
    storage = perdure.FileStorage(str(path), read_only=True, verify_reads=True)
    oids = [record.oid for transaction in storage.iterator() for record in transaction]
    assert oids
    assert all(storage.load(oid)[0] for oid in set(oids))
    storage.close()


def test_a_file_that_stock_zodb_packed_is_read_whatever_its_old_checksums_say(
    tmp_path: Path,
) -> None:
    file = tmp_path / "Data.fs"
    with perdure.DB(file) as database:
        for turn in range(30):
            with database.transaction() as connection:
                for number in range(5):
                    text = "x" * (number * 20 + turn)
                    connection.root()[number] = PersistentMapping(text=text)
    pack = f"""
import time, ZODB
database = ZODB.DB({str(file)!r})
database.pack(time.time() + 1)
for turn in range(25):
    with database.transaction() as connection:
        for number in range(5):
            connection.root()[number]["turn"] = turn
database.close()
"""
    run_code(pack)
    for read_only in (True, False):
        storage = perdure.FileStorage(str(file), read_only=read_only, verify_reads=True)
        read = [
            (record.tid, storage.loadSerial(record.oid, record.tid))
            for found in storage.iterator()
            for record in found
        ]
        storage.close()
        assert len(read) > 125


def test_configurations_ask_for_it(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    _make(path)
    _change(path, "one")
    toml = tmp_path / "perdure.toml"
    toml.write_text(
        f'[database]\nstorage = {{ type = "file", path = "{path}", verify_reads = true }}\n'
    )
    text = f"<zodb>\n<filestorage>\npath {path}\nverify-reads yes\n</filestorage>\n</zodb>\n"
    for source in (toml, text):
        opened = databaseFromTOML(toml) if source is toml else databaseFromString(text)
        with opened as database, database.transaction() as connection:
            changed = connection.root()["one"]
            with pytest.raises(CorruptedError):
                changed["text"]


def test_a_record_larger_than_is_allowed_is_neither_written_nor_read(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    with perdure.DB(perdure.FileStorage(str(path), record_bytes_max=2_000)) as database:
        with database.transaction() as connection:
            connection.root()["small"] = PersistentMapping(text="x" * 1_000)
        last = database.lastTransaction()
        with (
            pytest.raises(UnreadableRecord, match="record_bytes_max"),
            database.transaction() as connection,
        ):
            connection.root()["large"] = PersistentMapping(text="x" * 2_000)
        assert database.lastTransaction() == last
        with database.transaction() as connection:
            connection.root()["small"]["text"] = "y" * 1_000
    storage = perdure.FileStorage(str(path), record_bytes_max=900)
    with perdure.DB(storage) as database, database.transaction() as connection:
        small = connection.root()["small"]
        with pytest.raises(UnreadableRecord, match=r"record_bytes_max, which is 900.*0x01"):
            small["text"]


def test_a_record_that_became_another_objects_hides_no_newer_revision(tmp_path: Path) -> None:
    path = tmp_path / "Data.fs"
    _make(path)
    with perdure.DB(str(path)) as database:
        tid = list(database.storage.iterator())[2].tid
    data = bytearray(path.read_bytes())
    at = data.index(ROOT_OID + tid)
    data[at] ^= 0x40
    path.write_bytes(data)
    (tmp_path / "Data.fs.pindex").unlink()
    with pytest.raises(CorruptedError, match="checksum"):
        perdure.FileStorage(str(path), verify_reads=True)
    # Else it is read as it is on the disk, and the check tells.
    assert not perdure.check(path).ok
