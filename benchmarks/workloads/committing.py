"""Small transactions, alone and in company."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import transaction
from BTrees.IOBTree import IOBTree

from benchmarks.job import SECOND, Job, Sample, timed, workload
from benchmarks.peers import DATABASES
from benchmarks.threads import in_threads

OBJECTS_MAX = 10
"""A transaction changes from one to as many objects as this."""
FIRST = 10
"""So many transactions go before the ones that are measured, and load the code that they need."""


def _change(manager: Any, items: list[Any], commits: int, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(commits):
        for item in chance.sample(items, chance.randint(1, OBJECTS_MAX)):
            item.price = number
        manager.commit()


def _alone(job: Job) -> Sample:
    with job.database() as database:
        items = list(database.open().root()["some"])
        for item in items:
            item._p_activate()
        _change(transaction.manager, items, FIRST, 2)
        with timed() as clock:
            _change(transaction.manager, items, job.count, 1)
    return Sample(clock.seconds, job.count)


def _in_company(job: Job) -> Sample:
    threads = job.threads
    share = max(1, job.count // threads)
    with job.database(pool_size=threads) as database:

        def work(number: int) -> Callable[[], None]:
            manager = transaction.TransactionManager()
            connection = database.open(manager)
            items = list(connection.root()["some"])[number::threads]
            for item in items:
                item._p_activate()
            _change(manager, items, FIRST, threads + number)

            def changes() -> None:
                _change(manager, items, share, number)
                connection.close()

            return changes

        seconds = in_threads(threads, work)
    return Sample(seconds, share * threads)


@workload(
    "small commits",
    peers=DATABASES,
    data="items",
    count=5_000,
    objects=10_000,
    per="transaction",
    writes=True,
    size_max=10_000_000,
)
def small_commits(job: Job) -> Sample:
    """Transactions that change 1 to 10 objects, one after the other, memory-backed disk."""
    return _alone(job)


@workload(
    "small commits, threads",
    peers=DATABASES,
    by_threads=True,
    data="items",
    count=5_000,
    objects=10_000,
    per="transaction",
    writes=True,
)
def threaded_commits(job: Job) -> Sample:
    """The same by threads (16 in the table), each with objects of its own."""
    return _in_company(job)


@workload(
    "small commits, disk",
    peers=DATABASES,
    data="items",
    count=2_000,
    objects=10_000,
    per="transaction",
    on_disk=True,
    writes=True,
)
def small_commits_on_disk(job: Job) -> Sample:
    """Transactions that change 1 to 10 objects, one after the other, real disk."""
    return _alone(job)


@workload(
    "small commits, disk, threads",
    peers=DATABASES,
    by_threads=True,
    data="items",
    count=5_000,
    objects=10_000,
    per="transaction",
    on_disk=True,
    writes=True,
)
def threaded_commits_on_disk(job: Job) -> Sample:
    """The same by threads (16 in the table), each with objects of its own."""
    return _in_company(job)


@workload(
    "conflicting inserts, threads",
    peers=DATABASES,
    data="nothing",
    count=2_000,
    objects=1,
    per="transaction",
    writes=True,
    by_threads=True,
    threads=4,
)
def conflicting_inserts(job: Job) -> Sample:
    """Threads (4 in the table) insert into one BTree: conflicts are merged, or the transaction
    runs again.
    """
    threads, share = job.threads, max(1, job.count // job.threads)
    with job.database(pool_size=threads) as database:
        connection = database.open()
        connection.root()["tree"] = IOBTree({number * 100: number for number in range(2_000)})
        transaction.commit()
        connection.close()

        def work(number: int) -> Callable[[], None]:
            manager = transaction.TransactionManager()
            connection = database.open(manager)
            chance = random.Random(number)

            def insert(count: int) -> None:
                for _ in range(count):
                    key = chance.randrange(200_000) * threads + number
                    for attempt in manager.attempts(1_000):
                        with attempt:
                            connection.root()["tree"][key] = key

            def inserts() -> None:
                insert(share)
                connection.close()

            insert(FIRST)
            return inserts

        seconds = in_threads(threads, work)
    return Sample(seconds, share * threads)


BLOCKS = 10
"""So many blocks of each kind of operation take turns."""
SYNCED_BYTES = 1_000
"""About as much as one of the transactions writes."""


def _in_turns(kinds: list[Callable[[int], None]], count: int) -> list[float]:
    """Return the seconds that each kind of operation takes, of *count* a kind."""
    each = max(1, count // BLOCKS)
    totals = [0.0] * len(kinds)
    for operation in kinds:
        operation(each * BLOCKS)  # It may load code.
    for block in range(BLOCKS):
        for place, operation in enumerate(kinds):
            with timed() as clock:
                for number in range(each):
                    operation(block * each + number)
            totals[place] += clock.seconds
    return [total / BLOCKS / each for total in totals]


@contextmanager
def _commits(job: Job) -> Iterator[tuple[Callable[[int], None], Callable[[int], None]]]:
    """Give two operations: change two objects in each of two databases, or four in one."""
    chance = random.Random(1)
    with job.both_databases() as (database, _second):
        connection = database.open()
        places = [connection, connection.get_connection(SECOND)]
        here, there = (list(each.root()["some"]) for each in places)
        for item in here + there:
            item._p_activate()

        def commit(others: list[Any], number: int) -> None:
            for item in (*chance.sample(here, 2), *chance.sample(others, 2)):
                item.price = number
            transaction.commit()

        yield partial(commit, there), partial(commit, here)


@workload(
    "joint commits, disk",
    data="pair",
    count=500,
    objects=2_000,
    per="transaction",
    on_disk=True,
    writes=True,
)
def joint_commits(job: Job) -> Sample:
    """Transactions that change two objects in each of two databases, real disk. In perdure a
    crash leaves them in both or in neither; in ZODB it can leave them in one.
    """
    with _commits(job) as (joint, _single):
        return Sample(_in_turns([joint], job.count)[0])


@workload(
    "joint by single commit",
    data="pair",
    count=500,
    objects=2_000,
    writes=True,
    unit="x",
)
def joint_by_single(job: Job) -> Sample:
    """The time of such a transaction as a multiple of one that changes four objects in one
    database, in turns, memory-backed disk.
    """
    with _commits(job) as kinds:
        joint, single = _in_turns(list(kinds), job.count)
    return Sample(joint / single)


@workload(
    "joint by sync, disk",
    data="pair",
    count=500,
    objects=2_000,
    on_disk=True,
    writes=True,
    unit="x",
)
def joint_by_sync(job: Job) -> Sample:
    """The time of such a transaction as a multiple of appending a thousand bytes to a file and
    syncing it, in turns, real disk.
    """
    synced = job.path.with_suffix(".synced")
    with _commits(job) as (joint, _single), synced.open("wb", 0) as file:

        def append(_number: int) -> None:
            file.write(b"x" * SYNCED_BYTES)
            os.fdatasync(file)

        by_joint, by_sync = _in_turns([joint, append], job.count)
    return Sample(by_joint / by_sync)
