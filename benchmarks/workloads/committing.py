"""Small transactions, alone and in company."""

import random
from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import transaction
from BTrees.IOBTree import IOBTree

from benchmarks.job import Job, Sample, timed, workload

OBJECTS_MAX = 10
"""A transaction changes from one to as many objects as this."""


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
        with timed() as clock:
            _change(transaction.manager, items, job.count, 1)
    return Sample(clock.seconds, job.count)


def _in_threads(threads: int, work: Callable[[int], Callable[[], None]]) -> float:
    """Return the seconds that *work* takes in threads, without what it prepares."""
    ready = Barrier(threads + 1)

    def run(number: int) -> None:
        prepared = work(number)
        ready.wait()
        prepared()

    running = [Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    ready.wait()
    with timed() as clock:
        for thread in running:
            thread.join()
    return clock.seconds


def _in_company(job: Job, threads: int) -> Sample:
    share = job.count // threads
    with job.database(pool_size=threads) as database:

        def work(number: int) -> Callable[[], None]:
            manager = transaction.TransactionManager()
            connection = database.open(manager)
            items = list(connection.root()["some"])[number::threads]
            for item in items:
                item._p_activate()

            def changes() -> None:
                _change(manager, items, share, number)
                connection.close()

            return changes

        seconds = _in_threads(threads, work)
    return Sample(seconds, share * threads)


@workload(
    "small commits", data="items", count=5_000, objects=10_000, per="transaction", writes=True
)
def small_commits(job: Job) -> Sample:
    """Transactions that change 1 to 10 objects, one after the other, memory-backed disk."""
    return _alone(job)


@workload(
    "small commits, 16 threads",
    data="items",
    count=5_000,
    objects=10_000,
    per="transaction",
    writes=True,
)
def threaded_commits(job: Job) -> Sample:
    """The same by 16 threads, each with objects of its own."""
    return _in_company(job, 16)


@workload(
    "small commits, disk",
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
    "small commits, disk, 16 threads",
    data="items",
    count=5_000,
    objects=10_000,
    per="transaction",
    on_disk=True,
    writes=True,
)
def threaded_commits_on_disk(job: Job) -> Sample:
    """The same by 16 threads, each with objects of its own."""
    return _in_company(job, 16)


@workload(
    "conflicting inserts, 4 threads", data="nothing", count=2_000, per="transaction", writes=True
)
def conflicting_inserts(job: Job) -> Sample:
    """4 threads insert into one BTree: conflicts are merged, or the transaction runs again."""
    threads, share = 4, job.count // 4
    with job.database(pool_size=threads) as database:
        with database.transaction() as connection:
            connection.root()["tree"] = IOBTree({number * 100: number for number in range(2_000)})

        def work(number: int) -> Callable[[], None]:
            manager = transaction.TransactionManager()
            connection = database.open(manager)
            chance = random.Random(number)

            def inserts() -> None:
                for _ in range(share):
                    key = chance.randrange(200_000) * threads + number
                    for attempt in manager.attempts(1_000):
                        with attempt:
                            connection.root()["tree"][key] = key
                connection.close()

            return inserts

        seconds = _in_threads(threads, work)
    return Sample(seconds, share * threads)
