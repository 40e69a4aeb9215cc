"""What one process measures: the job that it gets, and the sample that it hands back."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.peers import FILES, Peer

FIRST, SECOND = "first", "second"
"""The names of the databases where there are two."""

THREADS = 16
"""How many threads a workload has that has several, unless it says otherwise."""


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
    threads: int = THREADS

    def storage(self, **options: Any) -> Any:
        """Open the data file."""
        return self.peer.storage(self.path, **options)

    def paths(self) -> dict[str, Path]:
        """Return the data files of both databases, by the databases' names."""
        return {FIRST: self.path, SECOND: second_of(self.path)}

    @contextmanager
    def database(self, *, blobs: bool = False, **options: Any) -> Iterator[Any]:
        """Open the data file's database, with room in the cache for everything."""
        place = {}
        if blobs:
            place["blob_dir"] = f"{self.path}.blobs"
            # A blob that is in no database yet is written there: it has to be the same disk.
            tempfile.tempdir = str(self.path.parent)
        storage = self.storage(**place)
        opened = self.peer.database(storage, **{"cache_size": 10_000_000, **options})
        try:
            yield opened
        finally:
            opened.close()

    @contextmanager
    def both_databases(self) -> Iterator[tuple[Any, Any]]:
        """Open both data files as databases that know each other."""
        databases: dict[str, Any] = {}
        for name, path in self.paths().items():
            storage = self.peer.storage(path)
            self.peer.database(storage, database_name=name, databases=databases)
        try:
            yield databases[FIRST], databases[SECOND]
        finally:
            for each in databases.values():
                each.close()


@dataclass(frozen=True)
class Sample:
    """What was measured: seconds, bytes or a ratio, for how many operations."""

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
    measures: dict[str, Measure]
    """How, by the name of the peer; who isn't in it cannot do the work."""
    what: str
    """One sentence for the documentation."""
    data: str
    """What the data file holds: the name of a function in `benchmarks.data`."""
    count: int
    """How much at scale 1."""
    fixed: bool = False
    """Whether that is so at every scale."""
    objects: int = 0
    """How many objects the data file has, at every scale; 0: as many as are counted."""
    per: str = ""
    """What one operation is; empty where the whole is meant."""
    on_disk: bool = False
    """Whether the file is on a real disk, not on a memory-backed one."""
    writes: bool = False
    """Whether the data file is changed, so that each measurement needs a copy of its own."""
    unit: str = "s"
    """Of the amount: `s` (seconds), `B` (bytes) or `x` (a ratio)."""
    size_max: int = 0
    """Its cost is measured at several sizes, up to this one; 0: at one size only."""
    by_threads: bool = False
    """Its cost is measured with several numbers of threads."""
    threads: int = THREADS
    """How many it has in the table, if it has several."""
    modules: Mapping[str, str] = field(default_factory=dict)
    """What a peer needs more, by its name: a module to import."""


WORKLOADS: dict[str, Workload] = {}


def workload(
    name: str, *, peers: tuple[str, ...] = FILES, **columns: Any
) -> Callable[[Measure], Measure]:
    """Register a function as the workload *name*; its docstring says what it measures.

    *peers* can do it by that function; *columns* are attributes of the `Workload`.
    """

    def register(measure: Measure) -> Measure:
        what = " ".join((measure.__doc__ or "").split())
        WORKLOADS[name] = Workload(name, dict.fromkeys(peers, measure), what, **columns)
        return measure

    return register


def also(name: str, peer: str) -> Callable[[Measure], Measure]:
    """Register a function as how *peer* does the workload *name*, which is there already."""

    def register(measure: Measure) -> Measure:
        WORKLOADS[name].measures[peer] = measure
        return measure

    return register
