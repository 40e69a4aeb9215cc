"""Objects out of the database."""

import random
from collections.abc import Callable

import transaction

from benchmarks.job import Job, Sample, timed, workload
from benchmarks.model import traverse
from benchmarks.peers import DATABASES
from benchmarks.threads import in_threads


@workload(
    "cold load",
    peers=DATABASES,
    data="items",
    count=100_000,
    per="object",
    size_max=10_000_000,
)
def cold_load(job: Job) -> Sample:
    """Objects (100,000 at most) visited by following references, the object cache empty at first."""
    with job.database() as database:
        first = database.open().root()["first"]
        with timed() as clock:
            count = traverse(first)
    return Sample(clock.seconds, count)


@workload("hot traversal", peers=DATABASES, data="items", count=100_000, per="object")
def hot_traversal(job: Job) -> Sample:
    """The same, all objects being in the cache; the best of 25."""
    with job.database() as database:
        first = database.open().root()["first"]
        count = traverse(first)
        seconds = []
        for _ in range(25):
            with timed() as clock:
                traverse(first)
            seconds.append(clock.seconds)
    return Sample(min(seconds), count)


@workload(
    "cold load, threads",
    peers=DATABASES,
    data="items",
    count=20_000,
    per="object",
    by_threads=True,
)
def cold_load_by_threads(job: Job) -> Sample:
    """The same by threads (16 in the table) at once, each with a connection and all objects."""
    with job.database(pool_size=job.threads) as database:

        def work(_number: int) -> Callable[[], None]:
            connection = database.open(transaction.TransactionManager())
            first = connection.root()["first"]

            def load() -> None:
                traverse(first)
                connection.close()

            return load

        seconds = in_threads(job.threads, work)
    return Sample(seconds, job.threads * job.count)


def _scan(job: Job) -> Sample:
    with job.database() as database:
        tree = database.open().root()["tree"]
        with timed() as clock:
            count = sum(1 for _ in tree.items())
    return Sample(clock.seconds, count)


@workload(
    "BTree scan, integer keys",
    peers=DATABASES,
    data="int_tree",
    count=1_000_000,
    per="item",
    size_max=1_000_000,
)
def scan_integers(job: Job) -> Sample:
    """All items of a BTree in order, the cache empty at first."""
    return _scan(job)


@workload(
    "BTree scan, string keys",
    peers=DATABASES,
    data="str_tree",
    count=1_000_000,
    per="item",
)
def scan_strings(job: Job) -> Sample:
    """The same with strings as keys."""
    return _scan(job)


@workload(
    "BTree lookups, integer keys",
    peers=DATABASES,
    data="int_tree",
    count=1_000_000,
    per="lookup",
    size_max=1_000_000,
)
def look_up_integers(job: Job) -> Sample:
    """Keys looked up in random order, one for each hundred in the tree, the cache empty at first."""
    keys = [number * 3 for number in range(0, job.count, 100)]
    random.Random(1).shuffle(keys)
    with job.database() as database:
        tree = database.open().root()["tree"]
        with timed() as clock:
            for key in keys:
                tree[key]
    return Sample(clock.seconds, len(keys))


@workload(
    "BTree lookups, string keys",
    peers=DATABASES,
    data="str_tree",
    count=1_000_000,
    per="lookup",
)
def look_up_strings(job: Job) -> Sample:
    """The same with strings as keys."""
    keys = [f"key {number * 3:09}" for number in range(0, job.count, 100)]
    random.Random(1).shuffle(keys)
    with job.database() as database:
        tree = database.open().root()["tree"]
        with timed() as clock:
            for key in keys:
                tree[key]
    return Sample(clock.seconds, len(keys))
