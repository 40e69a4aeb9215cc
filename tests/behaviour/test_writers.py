"""One writer at a time: by whatever name of the file, and over forks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import transaction

import perdure
from perdure.errors import StorageLocked
from perdure.storage import FileStorage

PROGRAM = """
import os, sys, transaction, perdure
from perdure.errors import StorageLocked
from perdure.storage import FileStorage
path, = sys.argv[1:]
database = perdure.DB(FileStorage(path))
connection = database.open()
connection.root()["x"] = "before"
transaction.commit()
"""
WRITES = """
child = os.fork()
if not child:
    assert connection.root()["x"] == "before"
    connection.root()["x"] = "of the child"
    try:
        transaction.commit()
    except StorageLocked as error:
        assert error.pid == os.getppid() and error.path == path, error
        transaction.abort()
        connection.cacheMinimize()
        assert connection.root()["x"] == "before"
        connection.close()
        before = {name: os.stat(name).st_mtime_ns for name in os.listdir()}
        database.close()
        assert before == {name: os.stat(name).st_mtime_ns for name in os.listdir()}
        os._exit(5)
    os._exit(6)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
connection.root()["x"] = "of the parent"
transaction.commit()
try:
    FileStorage(path)
except StorageLocked:
    database.close()
"""
IS_LEFT = """
reading, writing = os.pipe()
if os.fork():
    os.read(reading, 1)
    os._exit(0)
os.write(writing, b".")
sys.stdin.read()
"""


def root_of(path: Path) -> object:
    database = perdure.DB(FileStorage(path))
    try:
        return database.open(transaction.TransactionManager()).root()["x"]
    finally:
        database.close()


def test_of_a_process_and_one_forked_from_it_the_first_writes(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    program = [sys.executable, "-c", PROGRAM + WRITES, str(path)]
    run = subprocess.run(program, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert root_of(path) == "of the parent"


def test_a_forked_process_keeps_no_file_locked_whose_writer_died(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    program = [sys.executable, "-c", PROGRAM + IS_LEFT, str(path)]
    reading, writing = os.pipe()
    with os.fdopen(writing, "w"):
        run = subprocess.run(program, stdin=reading, check=True)
        os.close(reading)
        assert run.returncode == 0
        assert root_of(path) == "before"


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_second_writer_through_a_link_is_refused(tmp_path: Path, link: object) -> None:
    path, name = tmp_path / "data.fs", tmp_path / "link.fs"
    storage = FileStorage(path)
    assert callable(link)
    link(path, name)
    with pytest.raises(StorageLocked, match=r"link\.fs"):
        FileStorage(name)
    FileStorage(name, read_only=True).close()
    storage.close()
    FileStorage(name).close()
