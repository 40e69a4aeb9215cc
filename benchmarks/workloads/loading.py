"""Objects out of the database."""

import random

from benchmarks.job import Job, Sample, timed, workload
from benchmarks.model import traverse


@workload("cold load", data="items", count=100_000, per="object")
def cold_load(job: Job) -> Sample:
    """Every object visited by following references, the object cache empty at first."""
    with job.database() as database:
        first = database.open().root()["first"]
        with timed() as clock:
            count = traverse(first)
    return Sample(clock.seconds, count)


@workload("hot traversal", data="items", count=100_000, per="object")
def hot_traversal(job: Job) -> Sample:
    """The same, all objects being in the cache; the best of five."""
    with job.database() as database:
        first = database.open().root()["first"]
        count = traverse(first)
        seconds = []
        for _ in range(5):
            with timed() as clock:
                traverse(first)
            seconds.append(clock.seconds)
    return Sample(min(seconds), count)


def _scan(job: Job) -> Sample:
    with job.database() as database:
        tree = database.open().root()["tree"]
        with timed() as clock:
            count = sum(1 for _ in tree.items())
    return Sample(clock.seconds, count)


@workload("BTree scan, integer keys", data="int_tree", count=1_000_000, per="item")
def scan_integers(job: Job) -> Sample:
    """All items of a BTree in order, the cache empty at first."""
    return _scan(job)


@workload("BTree scan, string keys", data="str_tree", count=1_000_000, per="item")
def scan_strings(job: Job) -> Sample:
    """The same with strings as keys."""
    return _scan(job)


@workload("BTree lookups, integer keys", data="int_tree", count=1_000_000, per="lookup")
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


@workload("BTree lookups, string keys", data="str_tree", count=1_000_000, per="lookup")
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
