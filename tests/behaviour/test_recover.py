"""Recovering from damage, and copying."""

import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.behaviour.models import Node
from tests.storing import commit

import perdure
from perdure.errors import NotADatabase, StorageError

DATA = Path(__file__).parents[1] / "data"


def tids(source: Any) -> list[bytes]:
    with closing(perdure.FileStorage(str(source), read_only=True)) as storage:
        return [each.tid for each in storage.iterator()]


def contents(storage: Any) -> list[Any]:
    return [
        (
            (each.tid, each.status, each.user, each.description, each.extension_bytes),
            [(record.oid, record.data, record.data_txn) for record in each],
        )
        for each in storage.iterator()
    ]


def starts(path: Path) -> list[int]:
    with closing(perdure.FileStorage(str(path), read_only=True)) as storage:
        return [each[5] for each in storage._native.transactions()]


@pytest.mark.parametrize("name", ["truncated", "garbage_tail", "voted_tail"])
def test_all_whole_transactions_are_salvaged(name: str, tmp_path: Path) -> None:
    done = perdure.recover(DATA / f"{name}.fs", tmp_path / "new.fs")
    expected = tids(DATA / "basic.fs")[: done.transactions]
    assert tids(tmp_path / "new.fs") == expected
    assert not done.ok
    assert len(done.lost) == 1
    assert done.remaining is not None
    assert done.remaining.ok


def test_what_was_lost_is_reported(tmp_path: Path) -> None:
    start = starts(DATA / "basic.fs")
    content = bytearray((DATA / "basic.fs").read_bytes())
    content[start[5] + 9 : start[5] + 14] = b"\xff" * 5
    (tmp_path / "damaged.fs").write_bytes(content)
    done = perdure.recover(tmp_path / "damaged.fs", tmp_path / "new.fs")
    (lost,) = done.lost
    whole = tids(DATA / "basic.fs")
    assert (lost.start, lost.end, lost.tid) == (start[5], start[6], whole[5])
    assert lost.oids
    assert tids(tmp_path / "new.fs") == whole[:5] + whole[6:]
    assert done.transactions == len(whole) - 1
    assert (tmp_path / "damaged.fs").read_bytes() == content


def test_a_whole_file_is_copied_as_it_is(tmp_path: Path) -> None:
    for name in ("basic", "undo", "packed"):
        done = perdure.recover(DATA / f"{name}.fs", tmp_path / f"{name}.fs")
        assert done.ok
        with (
            closing(perdure.FileStorage(str(DATA / f"{name}.fs"), read_only=True)) as source,
            closing(perdure.FileStorage(str(tmp_path / f"{name}.fs"), read_only=True)) as target,
        ):
            assert contents(target) == contents(source)


def test_an_existing_database_is_not_overwritten(tmp_path: Path) -> None:
    shutil.copy(DATA / "basic.fs", tmp_path / "new.fs")
    with pytest.raises(StorageError, match="exists"):
        perdure.recover(DATA / "truncated.fs", tmp_path / "new.fs")
    with pytest.raises(NotADatabase):
        perdure.recover(DATA / "not_a_database.fs", tmp_path / "other.fs")
    assert not (tmp_path / "other.fs").exists()


def test_a_source_that_has_the_name_of_what_is_written_is_left_alone(tmp_path: Path) -> None:
    source = tmp_path / "new.fs.recovering"
    shutil.copy(DATA / "basic.fs", source)
    with pytest.raises(StorageError, match="rename it first"):
        perdure.recover(source, tmp_path / "new.fs")
    assert source.read_bytes() == (DATA / "basic.fs").read_bytes()


def test_a_copy_has_the_same_transactions(tmp_path: Path) -> None:
    target = perdure.MappingStorage()
    seen = []
    copied = perdure.copy(DATA / "basic.fs", target, lambda done, total: seen.append(done))
    assert copied.transactions == len(tids(DATA / "basic.fs"))
    with closing(perdure.FileStorage(str(DATA / "basic.fs"), read_only=True)) as source:
        assert contents(target) == contents(source)
        assert copied.last == source.lastTransaction()
    assert seen == sorted(seen)
    assert seen[-1] == 1000


def test_a_copy_goes_on_where_the_last_one_ended(tmp_path: Path) -> None:
    source = perdure.MappingStorage()
    commit(source, {0: b"first"})
    perdure.copy(source, tmp_path / "copy.fs")
    commit(source, {1: b"second"})
    commit(source, {0: b"third"})
    assert perdure.copy(source, tmp_path / "copy.fs").transactions == 2
    assert perdure.copy(source, tmp_path / "copy.fs").transactions == 0
    with closing(perdure.FileStorage(str(tmp_path / "copy.fs"), read_only=True)) as target:
        assert contents(target) == contents(source)


def test_a_copy_into_something_else_is_refused() -> None:
    source, target = perdure.MappingStorage(), perdure.MappingStorage()
    commit(source, {0: b"first"})
    commit(target, {0: b"other"})
    with pytest.raises(StorageError, match="something else"):
        perdure.copy(source, target)


def test_any_storage_is_copied_into_a_file(db: Any, conn: Any, tm: Any, tmp_path: Path) -> None:
    conn.root.node = Node(name="here")
    tm.commit()
    perdure.copy(db, tmp_path / "copy.fs")
    copy = perdure.DB(str(tmp_path / "copy.fs"))
    assert copy.open().root.node.name == "here"
    transaction.abort()
    copy.close()


def test_a_copy_that_is_stopped_can_be_continued(tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise StoppedError

    with pytest.raises(StoppedError):
        perdure.copy(DATA / "basic.fs", tmp_path / "copy.fs", stop)
    assert len(tids(tmp_path / "copy.fs")) == 1
    perdure.copy(DATA / "basic.fs", tmp_path / "copy.fs")
    assert tids(tmp_path / "copy.fs") == tids(DATA / "basic.fs")
