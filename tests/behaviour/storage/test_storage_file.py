"""The file storage: its arguments, its files, what it does at the edges of a file."""

import contextlib
import logging
import os
import struct
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.storing import begun, commit, oid, tid_of, undo

import perdure
from perdure.errors import (
    FileStorageQuotaError,
    NotADatabase,
    POSKeyError,
    ReadOnlyError,
    StorageError,
    StorageLocked,
)
from perdure.ids import NO_TID, Tid

MAGIC = b"FS30"
"""What stock ZODB begins data files with on Python 3."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data.fs"


def written(path: Path, revisions: int = 3) -> list[Tid]:
    """Write a file in which object 1 has some revisions; return their tids."""
    storage = perdure.FileStorage(str(path))
    tids = [commit(storage, {1: b"%d" % number}) for number in range(revisions)]
    storage.close()
    return tids


def never_acknowledged(path: Path) -> None:
    """Forget the checksums: without them, nobody knows that the end was acknowledged once."""
    path.with_name(path.name + ".psums").unlink()


def records(storage: Any) -> list[bytes]:
    return [record.data for txn in storage.iterator() for record in txn]


# Opening.


def test_a_new_file_has_the_formats_four_first_bytes_and_nothing_else(path: Path) -> None:
    perdure.FileStorage(str(path)).close()
    assert path.read_bytes() == MAGIC


def test_an_empty_file_becomes_a_database(path: Path) -> None:
    path.write_bytes(b"")
    assert written(path)
    assert path.read_bytes().startswith(MAGIC)


def test_a_path_may_be_a_path_object_and_names_the_storage(path: Path) -> None:
    storage = perdure.FileStorage(path)
    assert storage.getName() == str(path)
    assert storage.sortKey() == str(path)
    assert str(path) in repr(storage)
    storage.close()


def test_a_relative_path_is_the_same_file_wherever_the_process_goes(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(path.parent)
    storage = perdure.FileStorage(path.name)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    tid = commit(storage, {1: b"x"})
    storage.close()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    again = perdure.FileStorage(str(path), read_only=True)
    assert again.lastTransaction() == tid
    again.close()


def test_a_linked_file_is_written_where_it_is(path: Path, tmp_path: Path) -> None:
    real = tmp_path / "real.fs"
    written(real)
    path.symlink_to(real)
    storage = perdure.FileStorage(str(path))
    commit(storage, {2: b"through the link"})
    storage.close()
    assert path.is_symlink()
    assert b"through the link" in real.read_bytes()


def test_create_begins_anew(path: Path) -> None:
    written(path)
    storage = perdure.FileStorage(str(path), create=True)
    assert records(storage) == []
    assert storage.new_oid() == oid(1)
    commit(storage, {7: b"new"})
    storage.close()
    again = perdure.FileStorage(str(path))
    assert records(again) == [b"new"]
    assert len(again) == 1
    again.close()


def test_create_and_read_only_exclude_each_other(path: Path) -> None:
    written(path)
    with pytest.raises(ValueError, match="read-only"):
        perdure.FileStorage(str(path), create=True, read_only=True)
    with pytest.raises(ValueError, match="read-only"):
        perdure.FileStorage(str(path), stop=tid_of(1))


def test_a_file_that_is_not_there_is_not_made_for_reading(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        perdure.FileStorage(str(path), read_only=True)
    assert not path.exists()


def test_a_directory_that_is_not_there_is_an_oserror_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere"):
        perdure.FileStorage(str(tmp_path / "nowhere" / "data.fs"))


@pytest.mark.parametrize(
    "content", [b"FS2", b"text, not data", b"\0" * 100, b"FS20", b"PK\x03\x04"]
)
@pytest.mark.parametrize("read_only", [False, True])
def test_what_is_no_database_is_refused_untouched(
    content: bytes, read_only: bool, path: Path
) -> None:
    path.write_bytes(content)
    with pytest.raises(NotADatabase, match=path.name):
        perdure.FileStorage(str(path), read_only=read_only)
    assert path.read_bytes() == content
    assert not list(path.parent.glob("*.tr*"))


# Reading only.


def test_a_read_only_storage_says_so_to_every_change(path: Path) -> None:
    tid = written(path)[-1]
    before = path.read_bytes(), sorted(each.name for each in path.parent.iterdir())
    storage = perdure.FileStorage(str(path), read_only=True)
    assert storage.isReadOnly()
    for change in (
        storage.new_oid,
        lambda: begun(storage),
        lambda: storage.store(oid(1), tid, b"x", "", None),
        lambda: storage.deleteObject(oid(1), tid, None),
        lambda: storage.undo(b"AAAAAAAAAAA=", None),
        lambda: storage.pack(1e12, None),
    ):
        with pytest.raises(ReadOnlyError):
            change()
    assert storage.load(oid(1)) == (b"2", tid)
    storage.close()
    assert (path.read_bytes(), sorted(each.name for each in path.parent.iterdir())) == before


def test_many_can_read_while_one_writes(path: Path) -> None:
    written(path)
    writer = perdure.FileStorage(str(path))
    readers = [perdure.FileStorage(str(path), read_only=True) for _ in range(3)]
    commit(writer, {1: b"later"})
    for reader in readers:
        assert reader.load(oid(1))[0] == b"2"
        reader.close()
    again = perdure.FileStorage(str(path), read_only=True)
    assert again.load(oid(1))[0] == b"later"
    again.close()
    writer.close()


def test_a_file_without_write_permission_can_be_read(path: Path) -> None:
    written(path)
    path.chmod(0o444)
    storage = perdure.FileStorage(str(path), read_only=True)
    assert storage.load(oid(1))[0] == b"2"
    storage.close()


# A past state of the whole file.


def test_stop_shows_the_file_as_it_was_before_a_transaction(path: Path) -> None:
    tids = written(path, 5)
    for number in range(1, 5):
        storage = perdure.FileStorage(str(path), read_only=True, stop=tids[number])
        assert storage.load(oid(1)) == (b"%d" % (number - 1), tids[number - 1])
        assert storage.loadBefore(oid(1), tid_of((1 << 63) - 1)) == (
            b"%d" % (number - 1),
            tids[number - 1],
            None,
        )
        assert storage.lastTransaction() == tids[number - 1]
        assert len(records(storage)) == number
        assert len(storage.history(oid(1), 10)) == number
        storage.close()


def test_stop_before_everything_shows_an_empty_file(path: Path) -> None:
    written(path)
    storage = perdure.FileStorage(str(path), read_only=True, stop=tid_of(1))
    assert (records(storage), storage.lastTransaction()) == ([], NO_TID)
    with pytest.raises(POSKeyError):
        storage.load(oid(1))
    storage.close()


def test_stop_after_everything_shows_all(path: Path) -> None:
    tids = written(path)
    storage = perdure.FileStorage(str(path), read_only=True, stop=tid_of((1 << 63) - 1))
    assert storage.lastTransaction() == tids[-1]
    storage.close()


# Quota.


def test_a_quota_refuses_what_goes_beyond_it_and_takes_what_fits(path: Path) -> None:
    storage = perdure.FileStorage(str(path), quota=1000)
    commit(storage, {1: b"x" * 500})
    size = storage.getSize()
    txn = begun(storage)
    storage_error: Any = None
    try:
        storage.store(oid(2), NO_TID, b"y" * 500, "", txn)
        storage.tpc_vote(txn)
    except FileStorageQuotaError as error:
        storage_error = error
    storage.tpc_abort(txn)
    assert "1000" in str(storage_error)
    assert storage.getSize() == size == path.stat().st_size
    commit(storage, {3: b"z"})
    assert records(storage) == [b"x" * 500, b"z"]
    storage.close()


# The lock.


def test_a_second_writer_is_told_who_has_the_file(path: Path) -> None:
    storage = perdure.FileStorage(str(path))
    with pytest.raises(StorageLocked, match=str(os.getpid())) as caught:
        perdure.FileStorage(str(path))
    assert path.name in str(caught.value)
    assert isinstance(caught.value, StorageError)
    storage.close()
    perdure.FileStorage(str(path)).close()


def test_a_file_that_could_not_be_opened_is_not_locked(path: Path) -> None:
    path.write_bytes(b"no database")
    with pytest.raises(NotADatabase):
        perdure.FileStorage(str(path))
    path.write_bytes(b"")
    perdure.FileStorage(str(path)).close()


# Damaged ends.


@pytest.mark.parametrize("left", [1, 10, 22, 30, 60, 70, 73])
def test_any_half_written_transaction_at_the_end_is_cut_and_kept(
    left: int, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tids = written(path)
    whole = path.read_bytes()
    ends = transaction_ends(whole)
    path.write_bytes(whole[: ends[-2] + left])
    never_acknowledged(path)
    storage = perdure.FileStorage(str(path))
    assert storage.lastTransaction() == tids[-2]
    assert storage.load(oid(1)) == (b"1", tids[-2])
    commit(storage, {1: b"after"})
    storage.close()
    kept = path.with_name("data.fs.tr0")
    assert kept.read_bytes() == whole[ends[-2] : ends[-2] + left]
    (message,) = [each.getMessage() for each in caplog.records if each.levelno >= logging.WARNING]
    assert str(kept) in message
    assert str(ends[-2]) in message
    again = perdure.FileStorage(str(path))
    assert records(again) == [b"0", b"1", b"after"]
    again.close()


def test_each_cut_end_is_kept_in_a_file_of_its_own(path: Path) -> None:
    written(path)
    for number in range(3):
        with path.open("ab") as file:
            file.write(b"garbage %d" % number)
        perdure.FileStorage(str(path)).close()
    kept = [path.with_name(f"data.fs.tr{number}").read_bytes() for number in range(3)]
    assert kept == [b"garbage 0", b"garbage 1", b"garbage 2"]


def test_zeros_at_the_end_are_cut(path: Path) -> None:
    tids = written(path)
    with path.open("ab") as file:
        file.write(b"\0" * 4096)
    storage = perdure.FileStorage(str(path))
    assert storage.lastTransaction() == tids[-1]
    storage.close()


def transaction_ends(data: bytes) -> list[int]:
    """Return where the transactions in a data file end."""
    ends, position = [], 4
    while position < len(data):
        (length,) = struct.unpack_from(">Q", data, position + 8)
        position += length + 8
        ends.append(position)
    return ends


# Transactions of status u: cut out by tools, left in the file.


@pytest.fixture
def with_u(path: Path) -> tuple[Path, list[Tid]]:
    """A file of three transactions, the second one of status u."""
    storage = perdure.FileStorage(str(path))
    tids = [commit(storage, {number: b"%d" % number}) for number in range(3)]
    storage.close()
    data = bytearray(path.read_bytes())
    data[transaction_ends(bytes(data))[0] + 16] = ord("u")
    path.write_bytes(data)
    path.with_name("data.fs.pindex").unlink()
    return path, tids


@pytest.mark.parametrize("read_only", [False, True])
def test_an_iteration_passes_transactions_of_status_u(
    with_u: tuple[Path, list[Tid]], read_only: bool
) -> None:
    path, tids = with_u
    storage = perdure.FileStorage(str(path), read_only=read_only)
    assert [txn.tid for txn in storage.iterator()] == [tids[0], tids[2]]
    assert [txn.tid for txn in storage.iterator(tids[1])] == [tids[2]]
    assert [txn.tid for txn in storage.iterator(None, tids[1])] == [tids[0]]
    assert len(storage) == 2
    assert storage.lastTransaction() == tids[2]
    with pytest.raises(POSKeyError):
        storage.load(oid(1))
    assert storage.load(oid(2)) == (b"2", tids[2])
    storage.close()


# Damaged files can be iterated up to the damage.


def test_a_part_of_a_truncated_file_can_be_iterated(path: Path) -> None:
    tids = written(path, 6)
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    never_acknowledged(path)
    storage = perdure.FileStorage(str(path), read_only=True)
    assert [txn.tid for txn in storage.iterator()] == tids[:5]
    for number in range(5):
        assert [txn.tid for txn in storage.iterator(tids[number])] == tids[number:5]
    assert list(storage.iterator(tids[5])) == []
    storage.close()


def test_an_end_that_was_acknowledged_is_missed_not_cut(path: Path) -> None:
    tids = written(path)
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    with pytest.raises(perdure.errors.StorageError, match=r"acknowledged.*remove .*psums"):
        perdure.FileStorage(str(path))
    assert path.read_bytes() == data[:-20]
    never_acknowledged(path)
    storage = perdure.FileStorage(str(path))
    assert storage.lastTransaction() == tids[-2]
    storage.close()


# The files beside the data.


def test_closing_leaves_the_data_the_index_and_the_lock_file(path: Path) -> None:
    written(path)
    assert {each.name for each in path.parent.iterdir()} <= {
        "data.fs",
        "data.fs.pindex",
        "data.fs.psums",
        "data.fs.lock",
    }


def test_cleanup_removes_them_all(path: Path) -> None:
    written(path)
    storage = perdure.FileStorage(str(path))
    commit(storage, {1: b"x"})
    storage.close()
    storage.cleanup()
    assert list(path.parent.iterdir()) == []


def test_oids_of_objects_that_are_gone_are_not_given_out_again(path: Path) -> None:
    storage = perdure.FileStorage(str(path))
    commit(storage, {0: b"root"})
    undo(storage, commit(storage, {900: b"x"}))
    storage.close()
    for index_is_there in (True, False):
        if not index_is_there:
            path.with_name("data.fs.pindex").unlink()
        storage = perdure.FileStorage(str(path))
        assert storage.new_oid() == oid(901)
        storage.close()


def test_a_storage_that_was_not_closed_is_whole_when_it_is_opened_again(path: Path) -> None:
    import subprocess
    import sys

    code = f"""
import os, sys
sys.path.insert(0, {str(Path(__file__).parents[3])!r})
import perdure
from tests.storing import commit, begun, oid
storage = perdure.FileStorage({str(path)!r})
for number in range(50):
    commit(storage, {{number: b"%d" % number}})
txn = begun(storage)
storage.store(oid(1), storage.getTid(oid(1)), b"never finished", "", txn)
storage.tpc_vote(txn)
os._exit(0)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    storage = perdure.FileStorage(str(path))
    assert records(storage) == [b"%d" % number for number in range(50)]
    assert path.with_name("data.fs.tr0").exists()
    storage.close()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the system lists no open files")
def test_a_closed_database_holds_no_file_open(path: Path) -> None:
    """Its file system can be unmounted, though objects of it are still about."""

    def open_files() -> set[str]:
        found = set()
        for link in Path("/proc/self/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.add(str(link.readlink()))
        return {name for name in found if name.startswith(str(path.parent))}

    for _ in ("new", "with an index"):
        db = perdure.DB(perdure.FileStorage(str(path)))
        conn = db.open()
        conn.root.number = len(db.storage)
        transaction.commit()
        assert str(path) in open_files()
        size = len(db.storage)
        db.close()
        assert open_files() == set()
        assert len(db.storage) == size
        with pytest.raises(Exception, match="closed"):
            db.storage.load(oid(0))
