"""What one process measures: the job that it gets, and the sample that it hands back."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.peers import Peer

FIRST, SECOND = "first", "second"
"""The names of the databases where there are two."""


def second_of(path: Path) -> Path:
    """Return the path of the second data file, beside the first one's."""
    return path.with_name(f"{path.name}.{SECOND}")


@dataclass(frozen=True)
class Job:
    """A workload's subject: which peer, on which data file, how much of it."""

    peer: Peer
    path: Path
    """The data file: this process's own, with the content that the workload asks for."""
    count: int
    """Objects, transactions or keys: what the workload counts."""

    def storage(self, **options: Any) -> Any:
        """Open the data file."""
        return self.peer.file_storage(str(self.path), **options)

    def paths(self) -> dict[str, Path]:
        """Return the data files of both databases, by the databases' names."""
        return {FIRST: self.path, SECOND: second_of(self.path)}

    @contextmanager
    def database(self, **options: Any) -> Iterator[Any]:
        """Open the data file's database, with room in the cache for everything."""
        opened = self.peer.database(self.storage(), **{"cache_size": 10_000_000, **options})
        try:
            yield opened
        finally:
            opened.close()


@dataclass(frozen=True)
class Sample:
    """What was measured: seconds, or bytes, for how many operations."""

    amount: float
    operations: int = 1


class Clock:
    """How long the block took that it was started for."""

    def __init__(self) -> None:
        self.seconds = 0.0


@contextmanager
def timed() -> Iterator[Clock]:
    """Measure the time, in `seconds`, that the block takes."""
    clock, began = Clock(), perf_counter()
    yield clock
    clock.seconds = perf_counter() - began


Measure = Callable[[Job], Sample]


@dataclass(frozen=True)
class Workload:
    """Something to measure."""

    name: str
    measure: Measure
    what: str
    """One sentence for the documentation."""
    data: str
    """What the data file holds: the name of a function in `benchmarks.data`."""
    count: int
    """How much at scale 1."""
    objects: int
    """How many objects the data file has, at every scale; 0: as many as are counted."""
    per: str
    """What one operation is; empty where the whole is meant."""
    on_disk: bool
    """Whether the file is on a real disk, not on a memory-backed one."""
    writes: bool
    """Whether the data file is changed, so that each measurement needs a copy of its own."""
    unit: str
    """Of the amount: `s` (seconds) or `B` (bytes)."""


WORKLOADS: dict[str, Workload] = {}


def workload(  # noqa: PLR0913 - a table's columns
    name: str,
    *,
    data: str,
    count: int,
    objects: int = 0,
    per: str = "",
    on_disk: bool = False,
    writes: bool = False,
    unit: str = "s",
) -> Callable[[Measure], Measure]:
    """Register a function as the workload *name*; its docstring says what it measures."""

    def register(measure: Measure) -> Measure:
        what = " ".join((measure.__doc__ or "").split())
        WORKLOADS[name] = Workload(
            name, measure, what, data, count, objects, per, on_disk, writes, unit
        )
        return measure

    return register
