"""The `perdure` command, called as a shell calls it."""

import subprocess
import sys
from importlib.metadata import version


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
