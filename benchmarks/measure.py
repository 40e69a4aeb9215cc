"""Measures in turns: each peer after the other, again and again, each in a process of its own."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.job import Workload, second_of
from benchmarks.peers import FILES, OWN, STOCK
from benchmarks.worker import Answer, Task

TOP = Path(__file__).parents[1]
SMALLEST = 100
"""No workload gets fewer objects, keys or transactions, whatever the scale."""
_SMALLEST_AMOUNT = 1e-12


@dataclass(frozen=True)
class Plan:
    """What to measure, of whom, how often, on how much, where."""

    workloads: list[Workload]
    peers: tuple[str, ...]
    repeat: int
    others_repeat: int
    """How often those are measured that aren't ZODB or perdure: some take long."""
    scale: float
    memory_directory: Path
    disk_directory: Path


@dataclass(frozen=True)
class Outcome:
    """What was measured in all turns: amounts per operation, and peak memory, by peer."""

    workload: Workload
    count: int
    objects: int
    """How many objects or keys the data file had."""
    threads: int
    amounts: dict[str, list[float]] = field(default_factory=dict)
    peaks_bytes: dict[str, list[int]] = field(default_factory=dict)
    net_peaks_bytes: dict[str, list[int]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The workload's name."""
        return self.workload.name

    def add(self, peer: str, answer: Answer) -> None:
        """Take in what a process has measured."""
        amount = answer["amount"] / answer["operations"]
        self.amounts.setdefault(peer, []).append(amount)
        self.peaks_bytes.setdefault(peer, []).append(answer["peak_bytes"])
        self.net_peaks_bytes.setdefault(peer, []).append(answer["net_peak_bytes"])

    def median(self, peer: str) -> float:
        """Return the middle one of a peer's amounts."""
        return statistics.median(self.amounts[peer])

    def ratios(self, peer: str = STOCK) -> list[float]:
        """Return the peer's amount by perdure's, turn by turn; empty where one did not run."""
        pairs = zip(self.amounts.get(peer, []), self.amounts.get(OWN, []), strict=False)
        return [other / max(own, _SMALLEST_AMOUNT) for other, own in pairs]

    def ratio(self, peer: str = STOCK) -> float:
        """Return the middle one of the ratios."""
        return statistics.median(self.ratios(peer))

    def peak_share(self, *, net: bool = False) -> float:
        """Return the memory of perdure's process at its peak, as a share of stock's."""
        peaks = self.net_peaks_bytes if net else self.peaks_bytes
        own, stock = (statistics.median(peaks[peer]) for peer in (OWN, STOCK))
        return own / max(stock, 1)


Tell = Callable[[Outcome], None]


class Bench:
    """Measures workloads; the data files that it has made are used again, up to `close`."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._memory = TemporaryDirectory(dir=plan.memory_directory, prefix="perdure-bench-")
        self._disk = TemporaryDirectory(dir=plan.disk_directory, prefix="perdure-bench-")

    def close(self) -> None:
        """Remove all data files."""
        self._memory.cleanup()
        self._disk.cleanup()

    def measure_all(self, tell: Tell) -> list[Outcome]:
        """Measure everything at the plan's scale; *tell* is called after each workload."""
        outcomes = []
        for each in self.plan.workloads:
            scaled = max(SMALLEST, round(each.count * self.plan.scale))
            count = each.count if each.fixed else scaled
            outcome = self.measure(each, count)
            if outcome.amounts:
                outcomes.append(outcome)
                tell(outcome)
        return outcomes

    def measure(
        self,
        workload: Workload,
        count: int,
        *,
        objects: int = 0,
        threads: int = 0,
        repeat: int = 0,
        peers: tuple[str, ...] = (),
    ) -> Outcome:
        """Measure one workload in turns, where not said otherwise as the plan has it."""
        wanted = peers or self.plan.peers
        taking_part = [peer for peer in wanted if peer in workload.measures]
        objects, threads = objects or workload.objects or count, threads or workload.threads
        directory = Path(self._disk.name if workload.on_disk else self._memory.name)
        files = {peer: _prepared(workload, objects, peer, directory) for peer in taking_part}
        outcome = Outcome(workload, count, objects, threads)
        for turn in range(repeat or self.plan.repeat):
            for peer in _rotated(taking_part, turn):
                if turn >= self.plan.others_repeat and peer not in FILES:
                    continue
                with _own_copy(files[peer], wanted=workload.writes) as path:
                    answer = _in_process("measure", workload.name, peer, path, count, threads)
                outcome.add(peer, answer)
        return outcome

    def forget(self, objects: int) -> None:
        """Remove the data files with so many objects, which take room in memory."""
        for place in (self._memory, self._disk):
            for each in Path(place.name).glob(f"*-{objects}"):
                shutil.rmtree(each)


def _rotated(peers: list[str], turn: int) -> list[str]:
    """Return them in another order in each turn: being the first may be good or bad."""
    first = turn % len(peers) if peers else 0
    return peers[first:] + peers[:first]


def _prepared(workload: Workload, objects: int, peer: str, directory: Path) -> Path:
    """Return a data file with the content asked for, and what else the peer needs beside it."""
    data = workload.data
    built = directory / f"built-{data}-{objects}" / "data.fs"
    if not built.exists():
        built.parent.mkdir()
        _in_process("build", data, OWN, built, objects)
    path = directory / f"{peer}-{data}-{objects}" / "data.fs"
    if not path.exists():
        path.parent.mkdir()
        for source in (built, second_of(built)):
            if source.exists():
                copied = Path(shutil.copy(source, path.parent / source.name))
                _in_process("prepare", data, peer, copied, objects)
    return path


@contextmanager
def _own_copy(path: Path, *, wanted: bool) -> Iterator[Path]:
    if not wanted:
        yield path
        return
    with TemporaryDirectory(dir=path.parent.parent) as directory:
        copied = Path(directory) / "copy"
        shutil.copytree(path.parent, copied, ignore=_locks)
        yield copied / path.name


def _locks(_directory: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.endswith(".lock")]


def _in_process(
    what: str, name: str, peer: str, path: Path, count: int, threads: int = 1
) -> Answer:
    asked = {"what": what, "name": name, "peer": peer, "path": str(path)}
    task: Task = {**asked, "count": count, "threads": threads}  # type: ignore[typeddict-item]
    command = [sys.executable, "-m", "benchmarks.worker", json.dumps(task)]
    # Compiling takes memory: no peer is to do it at each import. (An installed one doesn't.)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        command, cwd=TOP, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    answer: Answer = json.loads(done.stdout)
    return answer
