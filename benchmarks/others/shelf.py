"""The standard library's `shelve`: a pickle for each key, references as keys.

It has no transactions, and no order of keys; a `sync` stands for a commit. What is behind
it is whichever `dbm` this Python has.
"""

import random
import shelve
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.job import Job, Sample, also, timed
from benchmarks.peers import SHELVE
from benchmarks.workloads.blobs import content
from benchmarks.workloads.committing import OBJECTS_MAX


class Entry:
    """The attributes of `benchmarks.model.Item`, with keys in place of references."""

    def __init__(self, number: int, count: int) -> None:
        self.number = number
        self.title = f"item number {number}"
        self.price = number / 8
        self.tags = ["small", "blue"]
        self.left = _key_within(2 * number + 1, count)
        self.right = _key_within(2 * number + 2, count)
        self.other = str(number * 7919 % count)


def _key_within(number: int, count: int) -> str | None:
    return str(number) if number < count else None


def _opened(path: Path) -> "shelve.Shelf[Any]":
    return shelve.open(str(path.with_suffix(".shelf")))


def build(data: str, path: Path, count: int) -> None:
    """Write the shelf beside *path* with what the data file *data* has in it."""
    with _opened(path) as shelf:
        if data == "items":
            shelf.update({str(number): Entry(number, count) for number in range(count)})
        elif data == "int_tree":
            shelf.update({str(number * 3): number for number in range(count)})
        elif data == "str_tree":
            shelf.update({f"key {number * 3:09}": number for number in range(count)})


def _cold_load(job: Job) -> Sample:
    count, waiting = 0, ["0"]
    with _opened(job.path) as shelf, timed() as clock:
        while waiting:
            entry = shelf[waiting.pop()]
            count += entry.number is not None
            waiting += [key for key in (entry.left, entry.right) if key is not None]
    return Sample(clock.seconds, count)


def _look_up(form: Callable[[int], str]) -> Callable[[Job], Sample]:
    def look_up(job: Job) -> Sample:
        keys = [form(number * 3) for number in range(0, job.count, 100)]
        random.Random(1).shuffle(keys)
        with _opened(job.path) as shelf, timed() as clock:
            for key in keys:
                shelf[key]
        return Sample(clock.seconds, len(keys))

    return look_up


def _bulk_add(job: Job) -> Sample:
    with _opened(job.path) as shelf, timed() as clock:
        for number in range(job.count):
            shelf[str(number)] = Entry(number, job.count)
        shelf.sync()
    return Sample(clock.seconds, job.count)


def _small_commits(job: Job) -> Sample:
    chance = random.Random(1)
    with _opened(job.path) as shelf:
        entries = [shelf[key] for key in list(shelf)]
        with timed() as clock:
            for number in range(job.count):
                for entry in chance.sample(entries, chance.randint(1, OBJECTS_MAX)):
                    entry.price = number
                    shelf[str(entry.number)] = entry
                shelf.sync()
    return Sample(clock.seconds, job.count)


def _store_blobs(job: Job) -> Sample:
    contents = [content(number) for number in range(job.count)]
    with _opened(job.path) as shelf, timed() as clock:
        for number, data in enumerate(contents):
            shelf[str(number)] = data
        shelf.sync()
    return Sample(clock.seconds, job.count)


def _read_blobs(job: Job) -> Sample:
    _store_blobs(job)
    with _opened(job.path) as shelf, timed() as clock:
        data = [shelf[str(number)] for number in range(job.count)]
    if data[-1] != content(job.count - 1):
        raise AssertionError("shelve gave other data back")
    return Sample(clock.seconds, job.count)


_MEASURES = {
    "cold load": _cold_load,
    "BTree lookups, integer keys": _look_up(str),
    "BTree lookups, string keys": _look_up("key {:09}".format),
    "bulk add, with building": _bulk_add,
    "small commits": _small_commits,
    "small commits, disk": _small_commits,
    "blobs of 64 KiB, stored": _store_blobs,
    "blobs of 64 KiB, stored, disk": _store_blobs,
    "blobs of 64 KiB, read back": _read_blobs,
}

for each, measure in _MEASURES.items():
    also(each, SHELVE)(measure)
