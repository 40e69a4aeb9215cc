"""Recovering from changed bytes, which only checksums tell."""

import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from persistent.mapping import PersistentMapping
from tests.storing import undo

import perdure
from perdure.errors import StorageLocked
from perdure.ids import Oid, Tid, tid_repr
from perdure.storage.zlib import ZlibStorage

HEADER_BYTES = 42
"""The length of a record's header: oid, tid, previous position, position of the transaction, ..."""


class Place(NamedTuple):
    """A record, and where it stands in its file."""

    position: int
    transaction: int
    tid: Tid
    oid: Oid
    data: bytes | None


def places(path: Path) -> list[Place]:
    """Return all records of a file."""
    with closing(perdure.FileStorage(str(path), read_only=True)) as storage:
        return [
            Place(record.pos, each._tpos, each.tid, record.oid, record.data)
            for each in storage.iterator()
            for record in each
        ]


def contents(path: Path) -> set[tuple[Tid, Oid, bytes | None]]:
    """Return what is in a file, wherever it stands."""
    return {(each.tid, each.oid, each.data) for each in places(path)}


def make(path: Path) -> list[Place]:
    """Make a database of three objects below the root that are changed together, and apart."""
    with perdure.DB(str(path)) as db:
        with db.transaction() as connection:
            for name in "abc":
                connection.root()[name] = PersistentMapping(text=f"first {name}")
        with db.transaction("everything is new") as connection:
            for name in "abc":
                connection.root()[name]["text"] = f"second {name}"
        for number in range(3):
            with db.transaction() as connection:
                connection.root()["c"]["number"] = number
    return places(path)


def flip(path: Path, position: int, mask: int = 1) -> None:
    """Change a byte of a file."""
    content = bytearray(path.read_bytes())
    content[position] ^= mask
    path.write_bytes(content)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "Data.fs"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "new.fs"


def second(records: list[Place], name: str) -> Place:
    """Return the second revision of an object."""
    mark = f"second {name}".encode()
    return min(each for each in records if each.data and mark in each.data)


def test_a_changed_record_is_left_out_and_told_and_the_others_are_kept(
    path: Path, target: Path
) -> None:
    before = make(path)
    damaged = second(before, "a")
    flip(path, path.read_bytes().index(b"second a"))
    content = path.read_bytes()
    done = perdure.recover(path, target)
    (lost,) = done.lost_records
    assert (lost.oid, lost.tid, lost.position) == (damaged.oid, damaged.tid, damaged.position)
    assert lost.class_name == "persistent.mapping.PersistentMapping"
    assert lost.earlier == lost.current == before[1].tid
    assert "written by" in str(lost)
    assert "is current now" in str(lost)
    assert "nothing leads" not in str(lost)
    assert not done.ok
    assert done.remaining is not None
    assert done.remaining.ok
    assert path.read_bytes() == content
    left = {(each.tid, each.oid, each.data) for each in before if each != damaged}
    assert contents(target) == left
    with perdure.DB(str(target)) as db, db.transaction() as connection:
        assert connection.root()["a"]["text"] == "first a"
        assert connection.root()["b"]["text"] == "second b"
    assert perdure.recover(target, path.parent / "again.fs").ok
    with closing(perdure.FileStorage(str(target), verify_reads=True)) as storage:
        for record in places(target):
            assert storage.loadSerial(record.oid, record.tid) == record.data


def test_the_description_of_a_transaction_that_lost_a_record_is_kept(
    path: Path, target: Path
) -> None:
    damaged = second(make(path), "b")
    flip(path, damaged.position + HEADER_BYTES + 60)
    perdure.recover(path, target)
    with closing(perdure.FileStorage(str(target), read_only=True)) as storage:
        notes = {each.tid: each.description for each in storage.iterator()}
    assert notes[damaged.tid] == b"everything is new"


def test_it_is_told_whether_a_later_revision_or_none_is_left(path: Path, target: Path) -> None:
    before = make(path)
    flip(path, second(before, "c").position + HEADER_BYTES + 60)
    (first,) = [each for each in before if each.data and b"first a" in each.data]
    flip(path, path.read_bytes().index(b"first a"))
    flip(path, path.read_bytes().index(b"second a"))
    done = perdure.recover(path, target)
    lost = {(each.oid, each.tid): each for each in done.lost_records}
    assert len(lost) == 3
    assert "no revision of it is left" in str(lost[first.oid, first.tid])
    c = second(before, "c")
    assert f"written by {tid_repr(before[-1].tid)}, is current" in str(lost[c.oid, c.tid])
    assert lost[c.oid, c.tid].earlier == before[1].tid
    assert done.remaining is not None
    assert [each.kind for each in done.remaining.findings] == ["missing"]


@pytest.mark.parametrize("field", [0, 7, 9, 17, 25, 33, 40, 41])
def test_a_changed_byte_in_the_header_of_a_record_costs_that_record_alone(
    field: int, path: Path, target: Path
) -> None:
    before = make(path)
    damaged = second(before, "b")
    flip(path, damaged.position + field)
    done = perdure.recover(path, target)
    assert contents(target) == {(p.tid, p.oid, p.data) for p in before if p != damaged}
    (lost,) = done.lost_records
    assert (lost.position, lost.tid) == (damaged.position, damaged.tid)
    assert lost.oid == damaged.oid
    assert not done.ok
    for part in done.lost:
        assert part.kept == 2
        assert "2 were whole" in str(part)


@pytest.mark.parametrize("field", [0, 7, 9, 15, 16, 18, 20, 22, 25])
def test_a_changed_byte_in_the_header_of_a_transaction_costs_no_record(
    field: int, path: Path, target: Path
) -> None:
    before = make(path)
    damaged = second(before, "b")
    flip(path, damaged.transaction + field)
    done = perdure.recover(path, target)
    assert contents(target) == {(p.tid, p.oid, p.data) for p in before}
    assert not done.lost_records
    (doubtful,) = done.doubtful
    assert (doubtful.position, doubtful.tid) == (damaged.transaction, damaged.tid)
    assert not done.ok


def test_no_byte_changes_unnoticed_and_none_costs_more_than_a_record(
    path: Path, target: Path
) -> None:
    make(path)
    whole, content = contents(path), path.read_bytes()
    for position in range(4, len(content), 7):
        flip(path, position, 0x41)
        done = perdure.recover(path, target)
        found = contents(target)
        assert found <= whole, position
        assert len(found) >= len(whole) - 1, position
        assert not done.ok, position
        assert len(done.lost_records) == len(whole) - len(found), position
        target.unlink()
        path.write_bytes(content)


def test_no_byte_of_the_checksum_file_is_needed(path: Path, target: Path) -> None:
    make(path)
    whole, sums = contents(path), path.with_name("Data.fs.psums")
    content = sums.read_bytes()
    for position in range(0, len(content), 23):
        flip(sums, position, 0xFF)
        assert perdure.recover(path, target).ok, position
        assert contents(target) == whole, position
        target.unlink()
        sums.write_bytes(content)


@pytest.mark.parametrize("instead", ["nothing", "text", "folder", "of another file"])
def test_a_whole_file_is_salvaged_whatever_stands_for_its_checksums(
    instead: str, path: Path, target: Path, tmp_path: Path
) -> None:
    make(path)
    whole, sums = contents(path), path.with_name("Data.fs.psums")
    sums.unlink()
    if instead == "text":
        sums.write_bytes(b"Txn:" * 1000)
    elif instead == "folder":
        sums.mkdir()
    elif instead == "of another file":
        make(tmp_path / "other.fs")
        shutil.copy(tmp_path / "other.fs.psums", sums)
    assert perdure.recover(path, target).ok
    assert contents(target) == whole


def test_without_the_checksum_file_a_changed_record_is_kept_and_told_as_doubtful(
    path: Path, target: Path
) -> None:
    before = make(path)
    damaged = second(before, "a")
    path.with_name("Data.fs.psums").unlink()
    flip(path, path.read_bytes().index(b"second a"))
    done = perdure.recover(path, target)
    assert not done.ok
    assert not done.lost_records
    assert {each.tid for each in done.doubtful} == {damaged.tid}
    assert {each.oid for each in done.doubtful} == {
        each.oid for each in before if each.tid == damaged.tid
    }
    assert len(contents(target)) == len(before)


def test_a_copy_through_a_layer_is_whole_without_its_checksum_file(
    path: Path, target: Path
) -> None:
    make(path)
    with closing(ZlibStorage(perdure.FileStorage(str(target)))) as compressed:
        perdure.copy(path, compressed)
    target.with_name("new.fs.psums").unlink()
    assert not perdure.recover(target, path.parent / "again.fs").doubtful
    with closing(perdure.FileStorage(str(target), verify_reads=True)) as storage:
        for record in places(target):
            assert storage.loadSerial(record.oid, record.tid) == record.data


def test_an_unreadable_record_without_checksums_is_told(path: Path, target: Path) -> None:
    before = make(path)
    damaged = second(before, "a")
    path.with_name("Data.fs.psums").unlink()
    # Stock ZODB's files have no seals either.
    content = path.read_bytes().replace(b"PDS1", b"PDS0")
    path.write_bytes(content)
    flip(path, damaged.position + HEADER_BYTES, 0xFF)
    done = perdure.recover(path, target)
    assert not done.ok
    assert done.remaining is not None
    (finding,) = done.remaining.findings
    assert (finding.kind, finding.oid, finding.tid) == ("unreadable", damaged.oid, damaged.tid)


def test_what_an_undo_took_from_a_changed_record_is_told_as_lost(path: Path, target: Path) -> None:
    before = make(path)
    with closing(perdure.FileStorage(str(path))) as storage:
        tids = sorted({each.tid for each in before}, reverse=True)
        undone = [undo(storage, tid) for tid in tids[:-2]][-1]
    flip(path, path.read_bytes().index(b"first a"))
    done = perdure.recover(path, target)
    assert [each.tid for each in done.lost_records] == [before[1].tid, undone]
    assert {each.oid for each in done.lost_records} == {second(before, "a").oid}
    with perdure.DB(str(target)) as db, db.transaction() as connection:
        assert connection.root()["a"]["text"] == "second a"
        assert connection.root()["b"]["text"] == "first b"


def test_a_transaction_that_may_never_have_been_whole_is_not_salvaged_in_part(
    path: Path, target: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    with perdure.DB(str(path)) as db:
        for number in range(2):
            with db.transaction() as connection:
                for name in "abc":
                    connection.root()[name] = PersistentMapping(text=f"{number} {name}")
        for name in ("Data.fs", "Data.fs.psums", "Data.fs.lock"):
            shutil.copy(tmp_path / name, folder / name)
    records = places(path)
    for damage in ("cut off", "zeros"):
        content = bytearray((tmp_path / "Data.fs").read_bytes())
        if damage == "zeros":
            content[-200:-100] = bytes(100)
        else:
            del content[-100:]
        (folder / "Data.fs").write_bytes(content)
        done = perdure.recover(folder / "Data.fs", target)
        last = records[-1].tid
        assert {tid for tid, *_ in contents(target)} == {p.tid for p in records if p.tid != last}
        assert [each.tid for each in done.lost] == [last]
        assert not done.ok
        target.unlink()


KILLED = """
import os, signal, sys
from pathlib import Path
import perdure

source, target = map(Path, sys.argv[1:])
partial = target.with_name("new.fs.recovering")

def watch(done, total):
    if partial.exists() and partial.stat().st_size > 400:
        os.kill(os.getpid(), signal.SIGKILL)

perdure.recover(source, target, watch)
"""


def test_a_recovery_whose_process_is_killed_leaves_no_file_that_looks_whole(
    path: Path, target: Path
) -> None:
    make(path)
    whole = contents(path)
    done = subprocess.run(
        [sys.executable, "-c", KILLED, path, target], check=False, timeout=120, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL
    assert not target.exists()
    assert target.with_name("new.fs.recovering").exists()
    assert perdure.recover(path, target).ok
    assert contents(target) == whole
    assert perdure.check(target).verified == len({tid for tid, *_ in whole})
    assert not list(path.parent.glob("*.recovering*"))


def test_two_recoveries_into_one_file_do_not_meet(path: Path, target: Path) -> None:
    make(path)
    refused: list[StorageLocked] = []

    def meet(_done: int, _total: int) -> None:
        if not refused:
            with pytest.raises(StorageLocked) as caught:
                perdure.recover(path, target)
            refused.append(caught.value)

    assert perdure.recover(path, target, meet).ok
    assert refused
    assert contents(target) == contents(path)
