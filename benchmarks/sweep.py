"""The same work at several sizes, and with several numbers of threads."""

from dataclasses import dataclass, field

from benchmarks.job import Workload
from benchmarks.measure import Bench, Outcome, Tell
from benchmarks.peers import FILES, OWN

SIZES = (10_000, 100_000, 1_000_000)
THREADS = (1, 2, 4, 8, 16, 32)
TENFOLD = 10

_ONCE_FROM = 1_000_000
"""From this size on there is one turn."""
_REPEAT_MAX = 3
_THREADS_REPEAT_MAX = 2


@dataclass(frozen=True)
class Sweep:
    """What was measured at several sizes, or with several numbers of threads."""

    by_size: list[Outcome] = field(default_factory=list)
    by_threads: list[Outcome] = field(default_factory=list)


def sweep(bench: Bench, sizes: tuple[int, ...], threads: tuple[int, ...], tell: Tell) -> Sweep:
    """Measure the plan's workloads that there is something to see of; *tell* is called for each."""
    found = Sweep()
    for size in sizes:
        for each in bench.plan.workloads:
            if size <= each.size_max:
                found.by_size.append(_at_size(bench, each, size))
                tell(found.by_size[-1])
        bench.forget(size)
    for each in bench.plan.workloads:
        for number in threads if each.by_threads else ():
            found.by_threads.append(_with_threads(bench, each, number))
            tell(found.by_threads[-1])
    return found


def _at_size(bench: Bench, each: Workload, size: int) -> Outcome:
    repeat = 1 if size >= _ONCE_FROM else min(_REPEAT_MAX, bench.plan.repeat)
    peers = _peers(bench)
    if each.objects > 1:
        # It does a number of things in a database of any size.
        return bench.measure(each, _scaled(bench, each), objects=size, repeat=repeat, peers=peers)
    objects = each.objects or size
    return bench.measure(each, size, objects=objects, repeat=repeat, peers=peers)


def _with_threads(bench: Bench, each: Workload, threads: int) -> Outcome:
    repeat = min(_THREADS_REPEAT_MAX, bench.plan.repeat)
    count = max(_scaled(bench, each), threads)
    return bench.measure(each, count, threads=threads, repeat=repeat, peers=_peers(bench))


def _peers(bench: Bench) -> tuple[str, ...]:
    """Return the two: filling others with a million objects takes long."""
    return tuple(peer for peer in bench.plan.peers if peer in FILES)


def _scaled(bench: Bench, each: Workload) -> int:
    return max(100, round(each.count * bench.plan.scale))


@dataclass(frozen=True)
class Growth:
    """By how much the cost of an operation grows when there is ten times as much."""

    name: str
    smaller: int
    larger: int
    factors: dict[str, float]
    """By peer."""


def growths(found: Sweep) -> list[Growth]:
    """Return the growth from each size that was measured to one of ten times as much."""
    by_name: dict[tuple[str, int], Outcome] = {
        (each.name, size_of(each)): each for each in found.by_size
    }
    result = []
    for (name, size), smaller in by_name.items():
        larger = by_name.get((name, size * TENFOLD))
        if larger is None:
            continue
        shared = [peer for peer in larger.amounts if peer in smaller.amounts]
        # What has no operation to count is told as a whole.
        share = 1 if smaller.workload.per else TENFOLD
        factors = {peer: larger.median(peer) / smaller.median(peer) / share for peer in shared}
        if OWN in factors:
            result.append(Growth(name, size, size * TENFOLD, factors))
    return result


def size_of(outcome: Outcome) -> int:
    """Return the size that an outcome of a sweep was measured at."""
    return outcome.objects if outcome.objects > 1 else outcome.count
