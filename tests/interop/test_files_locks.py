"""A data file has one writer at a time, perdure or stock ZODB, in whatever process."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zc.lockfile
from tests.interop import filepeers
from tests.interop.filepeers import OURS, PEERS, THEIRS, Peer
from tests.interop.programs import TIMEOUT_S

import perdure
from perdure.errors import StorageLocked

PROGRAM = """
import sys
{imports}
storage = {opener}({path!r})
print("open", flush=True)
sys.stdin.read()
storage.close()
"""
IMPORTS = {
    OURS.name: ("import perdure", "perdure.FileStorage"),
    THEIRS.name: ("import ZODB.FileStorage", "ZODB.FileStorage.FileStorage"),
}


@contextmanager
def opened_elsewhere(path: Path, peer: Peer) -> Iterator[int]:
    """Hold a file open for writing in another process; gives the process's id."""
    imports, opener = IMPORTS[peer.name]
    code = PROGRAM.format(imports=imports, opener=opener, path=str(path))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "open\n"
        yield process.pid
    finally:
        process.stdin.close()
        assert process.wait(TIMEOUT_S) == 0
        process.stdout.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "data.fs"
    storage = perdure.FileStorage(str(path))
    filepeers.commit(storage, {0: b"root"})
    storage.close()
    return path


@pytest.mark.parametrize("holder", PEERS, ids=str)
def test_perdure_refuses_a_file_that_is_open_elsewhere_and_names_the_process(
    holder: Peer, path: Path
) -> None:
    with opened_elsewhere(path, holder) as pid:
        before = path.read_bytes()
        with pytest.raises(StorageLocked, match=str(pid)) as caught:
            perdure.FileStorage(str(path))
        assert str(path) in str(caught.value)
        with pytest.raises(StorageLocked):
            perdure.FileStorage(str(path), create=True)
        assert path.read_bytes() == before
    perdure.FileStorage(str(path)).close()


def test_stock_refuses_a_file_that_perdure_has_open(path: Path) -> None:
    with opened_elsewhere(path, OURS), pytest.raises(zc.lockfile.LockError):
        THEIRS.open(str(path))
    THEIRS.open(str(path)).close()


@pytest.mark.parametrize("holder", PEERS, ids=str)
@pytest.mark.parametrize("second", PEERS, ids=str)
def test_one_process_cannot_open_a_file_twice_either(
    holder: Peer, second: Peer, path: Path
) -> None:
    storage = holder.open(str(path))
    with pytest.raises(zc.lockfile.LockError):
        second.open(str(path))
    storage.close()
    second.open(str(path)).close()


def test_perdures_error_is_the_one_that_callers_of_stock_expect(path: Path) -> None:
    storage = THEIRS.open(str(path))
    with pytest.raises(StorageLocked, match=str(os.getpid())):
        perdure.FileStorage(str(path))
    with pytest.raises(zc.lockfile.LockError):
        perdure.FileStorage(str(path))
    storage.close()


@pytest.mark.parametrize("holder", PEERS, ids=str)
def test_readers_need_no_lock(holder: Peer, path: Path) -> None:
    with opened_elsewhere(path, holder):
        storage = perdure.FileStorage(str(path), read_only=True)
        assert storage.load(filepeers.oid(0))[0] == b"root"
        storage.close()


def test_a_lock_file_left_by_a_process_that_died_is_no_lock(path: Path) -> None:
    path.with_name("data.fs.lock").write_text(" 999999\n", encoding="ascii")
    perdure.FileStorage(str(path)).close()


@pytest.mark.parametrize("holder", PEERS, ids=str)
def test_a_child_that_was_killed_leaves_the_file_free(holder: Peer, path: Path) -> None:
    imports, opener = IMPORTS[holder.name]
    code = PROGRAM.format(imports=imports, opener=opener, path=str(path))
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    process.kill()
    process.wait(TIMEOUT_S)
    process.stdin.close()
    process.stdout.close()
    perdure.FileStorage(str(path)).close()
