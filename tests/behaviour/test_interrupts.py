"""Commands that are interrupted while they work, and what they show of their progress."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from persistent.mapping import PersistentMapping

import perdure

TURNS, OBJECTS = 100, 10
INTERRUPTED = 130

PROGRAM = """
import os, signal, sys
from contextlib import contextmanager
from perdure.cli import analyzing, backing, changing, checking, exporting, info, main, opening

# Whoever runs the tests in the background may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)
left = int(sys.argv.pop(1))
opening._SHOWN_AFTER_SECONDS = float(sys.argv.pop(1))

def interrupting(original):
    @contextmanager
    def progressing(title):
        if left == -1:
            print("begun", flush=True)
        with original(title) as show:
            def counted(*arguments):
                global left
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGINT)
                show(*arguments)
            yield counted
    return progressing

for module in (analyzing, backing, changing, checking, exporting, info):
    module.progressing = interrupting(module.progressing)
main(prog_name="perdure")
"""
"""Runs a command that is sent SIGINT when it tells of its progress for the given time.

With the time -1, it says when it begins.
"""


def arguments(interrupt_at: int, *command: Any, shown_after: float = 1.0) -> list[str]:
    options = [str(interrupt_at), str(shown_after), *map(str, command)]
    return [sys.executable, "-c", PROGRAM, *options]


def run(interrupt_at: int, *command: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments(interrupt_at, *command), capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data file with so much in it that commands tell of their progress; most is garbage."""
    path = tmp_path_factory.mktemp("original") / "Data.fs"
    db = perdure.DB(str(path))
    for turn in range(TURNS):
        with db.transaction() as connection:
            for number in range(OBJECTS):
                connection.root()[number] = PersistentMapping(turn=turn, text="x" * 100)
    db.close()
    return path


@pytest.fixture
def file(original: Path, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "Data.fs"
    path.write_bytes(original.read_bytes())
    yield path
    # Whatever happened, the file is whole and free for the next writer.
    assert perdure.check(path).ok
    db = perdure.DB(str(path))
    with db.transaction() as connection:
        assert [value["turn"] for value in connection.root().values()] == [TURNS - 1] * OBJECTS
    db.close()


def interrupted(command: str, at: int, *rest: Any) -> bool:
    """Run a command and interrupt it; tell whether it was still at work then."""
    done = run(at, command, *rest)
    if done.returncode != INTERRUPTED:
        assert done.returncode == 0, done.stderr
        assert at > 1, f"{command} tells nothing of its progress"
        return False
    assert "interrupted" in done.stderr
    assert "Traceback" not in done.stderr
    return True


MOMENTS = [1, 20]


def interrupted_at_work(command: str, file: Path) -> None:
    """Run a command and send it SIGINT from outside as soon as it is at work."""
    with subprocess.Popen(
        arguments(-1, command, file), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        process.send_signal(signal.SIGINT)
        _output, errors = process.communicate(timeout=120)
    # It may be through when the signal comes, or just ending.
    assert process.returncode in {INTERRUPTED, 0, -signal.SIGINT}, errors


def test_a_pack_that_is_interrupted_leaves_the_file_as_it_was_or_packed(file: Path) -> None:
    before = file.read_bytes()
    interrupted_at_work("pack", file)
    assert file.read_bytes() == before or file.stat().st_size < len(before)
    assert run(0, "pack", file).returncode == 0
    assert file.stat().st_size < len(before)


def test_a_check_that_is_interrupted_changes_nothing(file: Path) -> None:
    before = file.read_bytes()
    interrupted_at_work("check", file)
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["Data.fs"]


@pytest.mark.parametrize("at", MOMENTS)
def test_a_copy_that_is_interrupted_can_be_gone_on_with(file: Path, at: int) -> None:
    target = file.parent / "copy.fs"
    if interrupted("copy", at, file, target):
        assert perdure.check(target).ok
    done = run(0, "copy", file, target, "--json")
    assert done.returncode == 0
    assert target.read_bytes() == file.read_bytes()
    assert json.loads(done.stdout)["transactions"] <= TURNS + 1 - (at - 1)


@pytest.mark.parametrize("at", MOMENTS)
def test_a_recovery_that_is_interrupted_leaves_nothing_behind(file: Path, at: int) -> None:
    target = file.parent / "recovered.fs"
    if interrupted("recover", at, file, target):
        assert [path.name for path in file.parent.iterdir()] == ["Data.fs"]
    else:
        target.unlink()
    assert run(0, "recover", file, target).returncode == 0
    assert perdure.check(target).ok


@pytest.mark.parametrize("at", MOMENTS)
def test_a_backup_that_is_interrupted_can_be_made_again(file: Path, at: int) -> None:
    folder = file.parent / "backups"
    interrupted("backup", at, file, folder)
    assert run(0, "backup", file, folder).returncode == 0
    assert perdure.verify_backup(folder) == []
    target = file.parent / "restored.fs"
    if interrupted("restore", at, folder, target):
        assert not target.exists()
        assert run(0, "restore", folder, target).returncode == 0
    assert target.read_bytes() == file.read_bytes()


@pytest.mark.parametrize("command", ["analyze", "diff", "log"])
def test_a_command_that_only_looks_can_be_interrupted(file: Path, command: str) -> None:
    assert interrupted(command, 1, file)


def test_ctrl_c_while_the_arguments_are_looked_at_ends_as_anywhere_else(file: Path) -> None:
    program = """
import os, signal
from perdure.cli import collections, main
signal.signal(signal.SIGINT, signal.default_int_handler)
collections._Source.convert = lambda *_arguments: os.kill(os.getpid(), signal.SIGINT)
main(["info", "Data.fs"], prog_name="perdure")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == INTERRUPTED
    assert "Traceback" not in done.stderr


def test_an_import_that_is_interrupted_stores_nothing(file: Path) -> None:
    exported = file.parent / "all.zexp"
    assert run(0, "export", file, "/", exported).returncode == 0
    before = file.read_bytes()
    assert interrupted("import", 3, file, exported, "again")
    assert file.read_bytes() == before


def on_a_terminal(
    *command: Any, shown_after: float, answering: tuple[bytes, bytes] = (b"", b"")
) -> tuple[str, int]:
    """Run a command on a terminal; return what it shows there, and its exit code.

    When it shows the first of `answering`, it is given the second one.
    """
    awaited, answer = answering
    ours, theirs = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        arguments(0, *command, shown_after=shown_after),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment,
    ) as process:
        os.close(theirs)
        shown = bytearray()
        while select.select([ours], [], [], 60)[0]:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            shown += piece
            if awaited and awaited in shown:
                os.write(ours, answer)
                awaited = b""
        code = process.wait(timeout=60)
    os.close(ours)
    return shown.decode(), code


@pytest.mark.parametrize(
    ("command", "title"),
    [
        ("copy", "copying"),
        ("backup", "copying"),
        ("recover", "recovering"),
        ("analyze", "reading"),
    ],
)
def test_what_takes_long_shows_its_progress_on_a_terminal(
    file: Path, command: str, title: str
) -> None:
    targets = [file.parent / "target"] if command in {"backup", "copy", "recover"} else []
    shown, code = on_a_terminal(command, file, *targets, shown_after=0.0)
    assert code == 0
    assert title in shown
    assert "%" in shown


def test_an_import_shows_how_much_of_the_file_is_read(file: Path) -> None:
    exported, target = file.parent / "all.zexp", file.parent / "other.fs"
    target.write_bytes(file.read_bytes())
    assert run(0, "export", file, "/", exported).returncode == 0
    shown, code = on_a_terminal("import", target, exported, "again", shown_after=0.0)
    assert code == 0
    assert "importing" in shown
    assert "%" in shown


def test_what_tells_no_progress_shows_that_it_is_at_work(file: Path) -> None:
    program = "with perdure.cli.opening.progressing('working'): print('heard', input())"
    command = ["shell", file, "-c", program]
    shown, code = on_a_terminal(*command, shown_after=0.01, answering=(b"working", b"that\n"))
    assert code == 0
    assert "heard that" in shown


def test_what_is_quick_shows_no_progress(file: Path) -> None:
    shown, code = on_a_terminal("check", file, shown_after=60.0)
    assert code == 0
    assert "checking" not in shown
    assert "Data.fs" in shown


def test_without_a_terminal_no_progress_is_shown(file: Path) -> None:
    done = subprocess.run(
        arguments(0, "check", file, shown_after=0.0), capture_output=True, text=True, check=True
    )
    assert "checking" not in done.stderr
    assert "checking" not in done.stdout
