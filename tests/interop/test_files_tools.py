"""Stock ZODB's own tools find nothing wrong with files that perdure wrote."""

from pathlib import Path

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from tests.interop.programs import checked, run
from tests.storing import commit, oid

import perdure
from perdure.ids import Tid


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with changes, deletions, undo and a pack behind it."""
    path = tmp_path / "data.fs"
    database = perdure.DB(perdure.FileStorage(str(path)))
    for turn in range(4):
        with database.transaction(f"turn {turn}") as connection:
            root = connection.root()
            root[f"tree {turn}"] = OOBTree({number: PersistentMapping() for number in range(50)})
            root.pop(f"tree {turn - 2}", None)
    database.undo(database.undoLog(0, 1)[0]["id"])
    transaction.commit()
    database.pack()
    with database.transaction("after") as connection:
        connection.root()["after"] = PersistentMapping()
    database.close()
    return path


def tool(name: str, *arguments: str) -> str:
    return checked(run("-m", f"ZODB.scripts.{name}", *arguments))


def test_fstest_finds_a_sound_file(path: Path) -> None:
    assert "ERROR" not in tool("fstest", "-v", str(path))


def test_fsrefs_finds_no_dangling_reference(path: Path) -> None:
    assert tool("fsrefs", str(path)) == ""


def test_fstail_and_analyze_describe_it(path: Path) -> None:
    assert "after" in tool("fstail", "-n", "2", str(path))
    assert "persistent.mapping.PersistentMapping" in tool("analyze", str(path))


def test_fsrecover_recovers_all_of_it(path: Path, tmp_path: Path) -> None:
    recovered = tmp_path / "recovered.fs"
    assert "0 bytes removed" in run("-m", "ZODB.fsrecover", "-f", str(path), str(recovered)).stdout
    ours = perdure.FileStorage(str(recovered), read_only=True)
    original = perdure.FileStorage(str(path), read_only=True)
    assert [txn.tid for txn in ours.iterator()] == [txn.tid for txn in original.iterator()]
    ours.close()
    original.close()


def test_repozo_backs_up_a_file_that_perdure_has_open_and_restores_it(
    path: Path, tmp_path: Path
) -> None:
    backups, restored = tmp_path / "backups", tmp_path / "restored.fs"
    backups.mkdir()
    storage = perdure.FileStorage(str(path))
    commit(storage, {10_000: b"before the backup"})
    expected = path.read_bytes()
    tool("repozo", "-B", "-r", str(backups), "-f", str(path))
    commit(storage, {10_001: b"after it"})
    storage.close()
    tool("repozo", "-R", "-r", str(backups), "-o", str(restored))
    assert restored.read_bytes() == expected
    again = perdure.FileStorage(str(restored))
    assert again.load(oid(10_000))[0] == b"before the backup"
    assert len(list(again.iterator())) == len(storage_transactions(path)) - 1
    again.close()


def storage_transactions(path: Path) -> list[Tid]:
    storage = perdure.FileStorage(str(path), read_only=True)
    tids = [txn.tid for txn in storage.iterator()]
    storage.close()
    return tids
