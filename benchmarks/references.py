"""What looking for dangling references costs: `python -m benchmarks.references`.

The same transactions with `check_references` on and off, in turn; the least CPU time of
the committing thread counts.
"""

import gc
import time
from collections.abc import Callable
from typing import Any

import transaction
from BTrees.OOBTree import OOBTree
from persistent import Persistent

import perdure

_ROUNDS = 60
_COMMITS = 100
_OBJECTS = 5_000


class _Part(Persistent):
    def __init__(self, number: int) -> None:
        self.number = number


class _Bench:
    """One database, and the least times per transaction (or object) in it."""

    def __init__(self, *, check: bool) -> None:
        self.database = perdure.DB(None, check_references=check)
        self.manager = transaction.TransactionManager()
        self.connection: Any = self.database.open(self.manager)
        root = self.connection.root()
        root["part"], root["holder"], root["tree"] = _Part(0), _Part(0), OOBTree()
        root["tree"].update({number: _Part(number) for number in range(0, 2_000, 2)})
        self.manager.commit()
        self.part, self.holder, self.tree = root["part"], root["holder"], root["tree"]
        self.best: dict[str, float] = {}

    def measure(self, what: str, count: int, work: Callable[[int], None]) -> None:
        started = time.thread_time()
        for number in range(count):
            work(number)
            self.manager.commit()
        each = (time.thread_time() - started) / count
        self.best[what] = min(self.best.get(what, each), each)

    def small(self, number: int) -> None:
        self.part.number = number

    def refer(self, number: int) -> None:
        self.holder.part, self.holder.number = self.part, number

    def bucket(self, number: int) -> None:
        key = 1 + 2 * (number // 2 % 7)
        if number % 2:
            del self.tree[key]
        else:
            self.tree[key] = self.part

    def add(self, _number: int) -> None:
        self.connection.root.parts = self.made

    def round(self) -> None:
        self.measure("small commit", _COMMITS, self.small)
        self.measure("commit with one loaded reference", _COMMITS, self.refer)
        self.connection.cacheMinimize()
        self.measure("commit of a bucket of ghosts", _COMMITS, self.bucket)
        self.made = [_Part(number) for number in range(_OBJECTS)]
        self.measure(f"adding {_OBJECTS:,} objects", 1, self.add)


def main() -> None:
    """Measure and print."""
    on, off = _Bench(check=True), _Bench(check=False)
    gc.disable()
    for _ in range(_ROUNDS):
        for bench in (on, off):
            bench.round()
        gc.collect()
    for what, with_check in on.best.items():
        print(
            f"{what:34} {off.best[what] * 1e6:9.2f} us off, {with_check / off.best[what]:.3f} x on"
        )


if __name__ == "__main__":
    main()
