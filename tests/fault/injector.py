"""Run a program under strace, which kills it at a system call, or lets that call fail."""

import compileall
import functools
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CALLS", "MISSING", "Run", "calls_of", "record", "run"]

CALLS = (
    "write,pwrite64,pwritev,pwritev2,fsync,fdatasync,ftruncate,rename,renameat,renameat2,unlink,"
    "unlinkat,link,linkat,copy_file_range,sendfile,fallocate,mkdir,mkdirat"
)
"""All calls that change files or names."""

_NO_THREADS = "inject=clone,clone3:error=EAGAIN"
_MORE_CALLS = "openat,lseek,writev,rmdir,clone,clone3"
"""What else has to be known to tell what they changed."""

MISSING = (
    None
    if sys.platform == "linux" and shutil.which("strace")
    else "needs strace, which Linux distributions have: apt-get install strace"
)
"""Why programs can't be run here, or None."""

TIMEOUT_S = 120
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Run:
    """What a program told, and how it ended."""

    journal: list[list[str]]
    killed: bool
    injected: bool
    """Whether the call was made, and was failed or was the end."""
    calls: list[str]


def run(
    program: str,
    directory: Path,
    inject: str | None,
    *,
    threads: bool = False,
    path: Path | None = None,
) -> Run:
    """Run a program in *directory*; *inject* as strace has it, such as `fsync:error=EIO:when=2`.

    Unless *threads*, the program can start none, so that the calls come in one order. With *path*,
    only calls on that file are injected.
    """
    log, command = _strace(directory)
    if inject is None or "signal=" not in inject:
        # Faster, but no signal arrives with it.
        command.append("--seccomp-bpf")
    command += ["-e", f"trace={CALLS},clone,clone3", "-e", "signal=none"]
    if not threads:
        command += ["-e", _NO_THREADS]
    if inject is not None:
        command += ["-e", f"inject={inject}"]
    if path is not None:
        command += ["-P", str(path)]
    done, journal = _traced(command, program, directory)
    killed = done.returncode in {-9, 137}
    assert killed or done.returncode == 0, f"exit {done.returncode}\n{done.stderr}"
    traced = log.read_text()
    log.unlink()
    calls = [line for line in traced.splitlines() if "clone" not in line]
    return Run(journal, killed, killed or any("(INJECTED)" in line for line in calls), calls)


def record(program: str, directory: Path, *, threads: bool = False) -> str:
    """Run a program in *directory*; return all calls with all bytes, as strace tells them.

    Unless *threads*, the program can start none.
    """
    log, command = _strace(directory)
    command += ["--seccomp-bpf", "-x", "-y", "-s", str(1 << 24), "-e", "signal=none"]
    command += ["-e", f"trace={CALLS},{_MORE_CALLS}"]
    if not threads:
        command += ["-e", _NO_THREADS]
    done, _journal = _traced(command, program, directory)
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stderr}"
    traced = log.read_text()
    log.unlink()
    return traced


def _strace(directory: Path) -> tuple[Path, list[str]]:
    log = directory.parent / f"{directory.name}.strace"
    return log, ["strace", "-f", "-q", "-o", str(log)]


def _traced(
    command: list[str], program: str, directory: Path
) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """Run a program under strace; return how it ended, and what it told."""
    _compile()
    reader, writer = os.pipe()
    # What `site` does at the start costs calls and time, and PYTHONPATH has all that is needed.
    python = [os.path.realpath(sys.executable), "-S", "-m", "tests.fault.programs", program]
    with os.fdopen(reader, "rb") as told:
        try:
            done = subprocess.run(
                [*command, *python, str(directory), str(writer)],
                check=False,
                capture_output=True,
                text=True,
                cwd=_ROOT,
                timeout=TIMEOUT_S,
                pass_fds=[writer],
                env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": _path()},
            )
        finally:
            os.close(writer)
        journal = [line.decode().split() for line in told]
    return done, journal


@functools.cache
def _compile() -> None:
    """Compile what the programs import: a program that had to would take twice as long."""
    for folder in ("src", "tests"):
        compileall.compile_dir(_ROOT / folder, quiet=2)


def calls_of(
    program: str, directory: Path, *, threads: bool = False, path: Path | None = None
) -> list[tuple[str, int]]:
    """Return the calls that a program makes when nothing goes wrong: each with its number.

    strace counts the calls of each name and thread by themselves.
    """
    counts: dict[tuple[str, str], int] = {}
    calls = []
    for line in run(program, directory, None, threads=threads, path=path).calls:
        if found := re.match(r"(\d+) +(\w+)\(", line):
            key = (found[1], found[2])
            counts[key] = counts.get(key, 0) + 1
            calls.append((found[2], counts[key]))
    return list(dict.fromkeys(calls))


def _path() -> str:
    """Let the bare interpreter find what this one does: a virtual environment's start costs calls."""
    return os.pathsep.join(entry for entry in sys.path if entry)
