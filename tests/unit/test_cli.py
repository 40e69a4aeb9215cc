"""The `perdure` command, called as a shell calls it."""

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from perdure.cli.output import seconds, size


def perdure(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perdure.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_version_is_that_of_the_package() -> None:
    done = perdure("--version")
    assert done.returncode == 0
    assert done.stdout == f"perdure {version('perdure')}\n"


def test_help_lists_the_commands() -> None:
    done = perdure("--help")
    assert done.returncode == 0
    assert "Usage:" in done.stdout


@pytest.mark.parametrize(
    ("count_bytes", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1536, "1.5 KiB"),
        (1024**2, "1.0 MiB"),
        (5 * 1024**5, "5,120.0 TiB"),
    ],
)
def test_sizes_are_written_for_people(count_bytes: int, text: str) -> None:
    assert size(count_bytes) == text


def test_durations_are_written_for_people() -> None:
    assert (seconds(0.04), seconds(999.9), seconds(61_500)) == ("0.0 ms", "999.9 ms", "61.50 s")


DATA = Path(__file__).parents[1] / "data"


def test_info_tells_what_a_file_holds() -> None:
    done = perdure("info", "--json", str(DATA / "basic.fs"))
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    manifest = json.loads((DATA / "manifest.json").read_text())["basic.fs"]
    assert found["size_bytes"] == (DATA / "basic.fs").stat().st_size
    assert found["objects"] == len(manifest["current"])
    assert found["last_tid"] == manifest["transactions"][-1]["tid"]


def test_log_lists_the_newest_transactions_first() -> None:
    done = perdure("log", "--limit", "3", "--json", str(DATA / "basic.fs"))
    assert (done.returncode, done.stderr) == (0, "")
    manifest = json.loads((DATA / "manifest.json").read_text())["basic.fs"]
    newest = [each["tid"] for each in manifest["transactions"][:-4:-1]]
    assert [each["tid"] for each in json.loads(done.stdout)] == newest


def test_log_shows_who_and_what() -> None:
    done = perdure("log", str(DATA / "basic.fs"))
    assert done.returncode == 0
    assert "records" in done.stdout


@pytest.mark.parametrize("command", ["info", "log"])
def test_a_file_that_is_no_database_is_an_error(command: str) -> None:
    done = perdure(command, str(DATA / "not_a_database.fs"))
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "not_a_database.fs" in done.stderr


@pytest.mark.parametrize("command", ["info", "log"])
def test_a_file_that_is_not_there_is_an_error(command: str, tmp_path: Path) -> None:
    done = perdure(command, str(tmp_path / "none.fs"))
    assert done.returncode == 1
    assert "no such file" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_looking_leaves_no_traces(tmp_path: Path) -> None:
    shutil.copy(DATA / "basic.fs", tmp_path)
    before = (tmp_path / "basic.fs").read_bytes()
    for command in ("info", "log"):
        assert perdure(command, str(tmp_path / "basic.fs")).returncode == 0
    assert [each.name for each in tmp_path.iterdir()] == ["basic.fs"]
    assert (tmp_path / "basic.fs").read_bytes() == before
