"""Measures in turns: stock, perdure, stock, perdure, each time in a process of its own."""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.job import Workload, second_of
from benchmarks.peers import OWN, PEERS, STOCK
from benchmarks.worker import Answer

TOP = Path(__file__).parents[1]
SMALLEST = 100
"""No workload gets fewer objects, keys or transactions, whatever the scale."""
_SMALLEST_AMOUNT = 1e-12


@dataclass(frozen=True)
class Plan:
    """What to measure, how often, on how much, where."""

    workloads: list[Workload]
    repeat: int
    scale: float
    memory_directory: Path
    disk_directory: Path


@dataclass(frozen=True)
class Outcome:
    """What was measured in all turns: amounts per operation, and peak memory, by peer."""

    name: str
    unit: str
    per: str
    count: int
    amounts: dict[str, list[float]] = field(default_factory=lambda: {peer: [] for peer in PEERS})
    peaks_bytes: dict[str, list[int]] = field(default_factory=lambda: {peer: [] for peer in PEERS})

    def median(self, peer: str) -> float:
        """Return the middle one of a peer's amounts."""
        return statistics.median(self.amounts[peer])

    def ratios(self) -> list[float]:
        """Return stock's amount by perdure's, turn by turn."""
        pairs = zip(self.amounts[STOCK], self.amounts[OWN], strict=True)
        return [stock / max(own, _SMALLEST_AMOUNT) for stock, own in pairs]

    def ratio(self) -> float:
        """Return the middle one of the ratios."""
        return statistics.median(self.ratios())

    def peak_share(self) -> float:
        """Return the memory of perdure's process at its peak, as a share of stock's."""
        own, stock = (statistics.median(self.peaks_bytes[peer]) for peer in (OWN, STOCK))
        return own / stock


def measure_all(plan: Plan, tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Measure everything; *tell* is called after each workload."""
    outcomes = []
    with (
        TemporaryDirectory(dir=plan.memory_directory, prefix="perdure-bench-") as memory,
        TemporaryDirectory(dir=plan.disk_directory, prefix="perdure-bench-") as disk,
    ):
        for each in plan.workloads:
            directory = Path(disk if each.on_disk else memory)
            outcome = _measure_in_turns(each, plan, directory)
            outcomes.append(outcome)
            tell(outcome)
    return outcomes


def _measure_in_turns(each: Workload, plan: Plan, directory: Path) -> Outcome:
    count = max(SMALLEST, round(each.count * plan.scale))
    files = {peer: _prepared(each, count, peer, directory) for peer in PEERS}
    outcome = Outcome(each.name, each.unit, each.per, count)
    for turn in range(plan.repeat):
        for peer in PEERS if turn % 2 == 0 else reversed(PEERS):
            with _own_copy(files[peer], wanted=each.writes) as path:
                found = _in_process("measure", each.name, peer, str(path), str(count))
            outcome.amounts[peer].append(found["amount"] / found["operations"])
            outcome.peaks_bytes[peer].append(found["peak_bytes"])
    return outcome


def _prepared(each: Workload, count: int, peer: str, directory: Path) -> Path:
    """Return a data file with the content asked for, and the peer's index beside it."""
    data, count = each.data, each.objects or count
    built = directory / f"{data}-{count}.fs"
    if not built.exists():
        _in_process("build", data, OWN, str(built), str(count))
    path = directory / peer / built.name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        for source in (built, second_of(built)):
            if source.exists():
                copied = shutil.copy(source, path.parent / source.name)
                _in_process("index", data, peer, str(copied), str(count))
    return path


@contextmanager
def _own_copy(path: Path, *, wanted: bool) -> Iterator[Path]:
    if not wanted:
        yield path
        return
    with TemporaryDirectory(dir=path.parent) as directory:
        for each in path.parent.glob(f"{path.name}*"):
            if each.is_file():
                shutil.copy(each, directory)
        yield Path(directory) / path.name


def _in_process(*arguments: str) -> Answer:
    command = [sys.executable, "-m", "benchmarks.worker", *arguments]
    done = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, text=True, check=True)
    answer: Answer = json.loads(done.stdout)
    return answer
