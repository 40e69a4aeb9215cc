"""Real programs, and what a disk that loses its power at any of their calls may have of it.

`make crash` makes many states after each call; a usual run a few of each program.
"""

import os
import random
import shutil
from pathlib import Path

import pytest
from tests.campaign import CAMPAIGN, SEED, report
from tests.fault import injector, outcome
from tests.fault.powerloss import Disk, Step, steps_in
from tests.fault.programs import PROGRAMS, THREADED

pytestmark = pytest.mark.skipif(injector.MISSING is not None, reason=str(injector.MISSING))

ALL = "PERDURE_CAMPAIGN" in os.environ
FEW = 8


@pytest.mark.parametrize("program", [*PROGRAMS, *THREADED])
def test_a_power_loss_at_any_call_loses_nothing_acknowledged(program: str, tmp_path: Path) -> None:
    prepared = outcome.prepare(program, tmp_path)
    directory = tmp_path / "whole"
    shutil.copytree(prepared, directory)
    steps = steps_in(injector.record(program, directory, threads=program in THREADED))
    changes = _changes(steps, Disk(directory, prepared))
    assert _replayed(steps, Disk(directory, prepared)) == _found(directory)
    disk, losses = Disk(directory, prepared), 0
    journal: list[list[str]] = []
    chosen = set(changes if ALL else changes[SEED % 2 :: max(1, len(changes) // FEW)])
    for number, step in enumerate(steps):
        disk.take(step)
        journal += _told(step)
        # What is told last is relied on first: it is tried with nothing else.
        times = [-1] * bool(_told(step)) + [*range(CAMPAIGN if number in chosen else 0)]
        for again in times:
            seed = f"{SEED} {program} {number} {again}"
            left = tmp_path / "left"
            left.mkdir()
            disk.after_power_loss(random.Random(seed), left, unsynced=again >= 0)
            context = f"seed {seed}, {step.call.name} {step.call.files}"
            outcome.check(program, left, journal, context)
            shutil.rmtree(left)
        losses += len(times)
    report("power losses of programs", program=program, calls=len(changes), losses=losses)


def _changes(steps: list[Step], disk: Disk) -> list[int]:
    """Return the numbers of the steps that change something, sync or tell."""
    return [number for number, step in enumerate(steps) if disk.take(step) or _told(step)]


def _told(step: Step) -> list[list[str]]:
    """Return what a program told with a call: each line's words."""
    call = step.call
    if not step.begins or call.name != "writev" or not call.files[0].startswith("pipe:"):
        return []
    return [line.split() for line in b"".join(call.strings).decode().splitlines()]


def _replayed(steps: list[Step], disk: Disk) -> dict[str, bytes | None]:
    for step in steps:
        disk.take(step)
    return disk.seen()


def _found(directory: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(directory)): None if path.is_dir() else path.read_bytes()
        for path in directory.rglob("*")
    }
