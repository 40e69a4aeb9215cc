"""How commands end that are cut short: by Ctrl-C, or because nobody reads their output."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import perdure

INTERRUPTED, OUTPUT_CLOSED = 130, 141


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data file that more can be told of than fits into a pipe."""
    path = tmp_path_factory.mktemp("ending") / "Data.fs"
    db = perdure.DB(str(path))
    with db.transaction() as connection:
        for number in range(3_000):
            connection.root()[number] = perdure.PersistentMapping(number=number)
    db.close()
    return path


def run_without_reader(*command: str) -> tuple[int, str]:
    """Run a program whose output nobody reads; return its exit code and what it complains of."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, *command],
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=120,
    )
    os.close(writing)
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    "command", ["analyze", "check", "diff --from 2001-01-01", "info", "log", "log --json", "ls"]
)
def test_a_command_whose_output_nobody_reads_ends_quietly(file: Path, command: str) -> None:
    name, *options = command.split()
    ended = run_without_reader("-m", "perdure.cli", name, *options, str(file))
    assert ended == (OUTPUT_CLOSED, "")


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["check", "--help"]])
def test_help_that_nobody_reads_ends_quietly(arguments: list[str]) -> None:
    assert run_without_reader("-m", "perdure.cli", *arguments) == (OUTPUT_CLOSED, "")


def test_a_command_without_any_output_does_its_work(file: Path, tmp_path: Path) -> None:
    copied = tmp_path / "copy.fs"
    command = ["-m", "perdure.cli", "copy", str(file), str(copied)]
    done = subprocess.run(
        ["sh", "-c", 'exec "$@" >&-', "sh", sys.executable, *command],
        stderr=subprocess.PIPE,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert perdure.check(copied).ok


def test_a_program_in_the_shell_whose_output_nobody_reads_ends_quietly(file: Path) -> None:
    shell = ("-m", "perdure.cli", "shell", str(file), "-c")
    assert run_without_reader(*shell, "print('x' * 100_000)") == (OUTPUT_CLOSED, "")


def test_a_program_in_the_shell_whose_own_pipe_breaks_is_told(file: Path) -> None:
    program = "raise BrokenPipeError('of the program')"
    done = subprocess.run(
        [sys.executable, "-m", "perdure.cli", "shell", str(file), "-c", program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    told = done.stderr.splitlines()
    assert (done.returncode, told[-1]) == (1, "BrokenPipeError: of the program")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no such device")
@pytest.mark.parametrize("command", ["analyze", "info", "ls", "log --json", "undo --dry-run"])
def test_a_command_whose_output_has_no_room_says_so(file: Path, command: str) -> None:
    name, *options = command.split()
    with perdure.DB(perdure.FileStorage(str(file), read_only=True)) as db:
        tid = db.lastTransaction().hex()
    arguments = [name, *options, str(file), *([tid] if name == "undo" else ())]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "perdure.cli", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            timeout=120,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("No space left on device")
    assert "Traceback" not in done.stderr


FRONTS = ["FileStorage.fsdump", "scripts.netspace", "scripts.space", "scripts.fstail"]


@pytest.mark.parametrize("front", [*FRONTS, "scripts.fstest -v -v", "scripts.analyze"])
def test_a_classic_script_whose_output_nobody_reads_ends_quietly(file: Path, front: str) -> None:
    name, *options = front.split()
    ended = run_without_reader("-m", "perdure.compat", "-m", f"ZODB.{name}", *options, str(file))
    assert ended == (OUTPUT_CLOSED, "")


INTERRUPTED_AT = """
import os, signal, sys

module = sys.argv.pop(1)

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
from perdure.cli.entry import run
sys.argv.insert(1, "info")
run()
"""
"""Runs a command that is sent SIGINT when it imports a given module."""


@pytest.mark.parametrize("module", ["click", "perdure.cli.info", "perdure.db", "persistent"])
def test_a_command_that_is_interrupted_while_it_starts_ends_quietly(
    file: Path, module: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_AT, module, str(file)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (INTERRUPTED, "")
    assert done.stderr.strip() in {"perdure: interrupted", "perdure info: interrupted"}


def test_the_command_imports_nothing_large_before_it_can_be_interrupted() -> None:
    code = (
        "import perdure.cli.entry, sys;"
        "sys.exit(bool({'click', 'persistent', 'perdure.db', 'perdure._native'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
