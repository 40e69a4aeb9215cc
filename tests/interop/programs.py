"""Run Python programs in processes of their own, with and without the alias."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from perdure.compat import ENVIRONMENT_NAME

TIMEOUT_S = 120


def run(
    *arguments: str, alias: bool = False, directory: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python with *arguments*; with *alias*, as a child of an aliased process."""
    environment = {key: os.environ[key] for key in os.environ if key != ENVIRONMENT_NAME}
    if alias:
        environment[ENVIRONMENT_NAME] = "1"
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        env=environment,
        cwd=directory,
    )


def run_code(code: str, *, alias: bool = False, directory: Path | None = None) -> str:
    """Run *code* and return what it printed; AssertionError with its errors if it fails."""
    return checked(run("-c", textwrap.dedent(code), alias=alias, directory=directory))


def checked(done: subprocess.CompletedProcess[str]) -> str:
    """Return what the program printed; AssertionError with its errors if it failed."""
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()
