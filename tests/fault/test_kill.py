"""Real programs, killed at each system call that changes a file, or let down by it.

`make kill` tries every call; a usual run a few of each program.
"""

import os
import shutil
from pathlib import Path

import pytest
from tests.campaign import report
from tests.fault import injector, outcome
from tests.fault.programs import PROGRAMS

pytestmark = pytest.mark.skipif(injector.MISSING is not None, reason=str(injector.MISSING))

ALL = os.environ.get("PERDURE_KILL") == "all"
FEW = 2
FAULTS = ("signal=KILL", "error=EIO", "error=ENOSPC")


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_program_that_ends_or_fails_at_any_call_loses_nothing_acknowledged(
    program: str, fault: str, tmp_path: Path
) -> None:
    prepared = outcome.prepare(program, tmp_path)
    calls = _chosen(injector.calls_of(program, _copy(prepared, tmp_path / "whole")))
    for call, number in calls:
        inject = f"{call}:{fault}:when={number}"
        directory = _copy(prepared, tmp_path / f"{call}{number}")
        run = injector.run(program, directory, inject)
        assert run.injected, f"{inject} wasn't reached in {program}"
        outcome.check(program, directory, run.journal, inject)
        shutil.rmtree(directory)
    report("kills", program=program, fault=fault, runs=len(calls))


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("program", ["commit", "joint", "blobs"] if ALL else ["joint"])
@pytest.mark.parametrize("suffix", [".fs", ".fs.psums"])
def test_a_program_whose_threads_sync_its_files_loses_nothing_acknowledged(
    program: str, fault: str, suffix: str, tmp_path: Path
) -> None:
    prepared = outcome.prepare(program, tmp_path)
    for member in PROGRAMS[program][0]:
        whole = _copy(prepared, tmp_path / f"{member}-whole")
        file = f"{member}{suffix}"
        calls = _chosen(injector.calls_of(program, whole, threads=True, path=whole / file))
        for call, number in calls:
            inject = f"{call}:{fault}:when={number}"
            directory = _copy(prepared, tmp_path / f"{member}{call}{number}")
            run = injector.run(program, directory, inject, threads=True, path=directory / file)
            outcome.check(program, directory, run.journal, f"{inject} on {file}")
            shutil.rmtree(directory)
        report("kills beside threads", file=file, program=program, fault=fault, runs=len(calls))


def _chosen(calls: list[tuple[str, int]]) -> list[tuple[str, int]]:
    """All calls, or a few of them."""
    assert len(calls) > FEW
    return calls if ALL else calls[:: len(calls) // FEW]


def _copy(prepared: Path, directory: Path) -> Path:
    shutil.copytree(prepared, directory)
    return directory
