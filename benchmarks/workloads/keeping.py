"""Looking back, undoing and packing."""

import threading
import time
from typing import Any

import transaction

from benchmarks.job import Job, Sample, timed, workload
from benchmarks.model import traverse
from benchmarks.peers import DATABASES


@workload("traverse a past state", peers=DATABASES, data="revisions", count=40_000, per="object")
def traverse_past(job: Job) -> Sample:
    """Every object visited in a connection to a past state, its cache empty at first."""
    with job.database() as database:
        past = database.open(before=database.lastTransaction())
        first = past.root()["first"]
        with timed() as clock:
            count = traverse(first)
        past.close()
    return Sample(clock.seconds, count)


@workload("history of an object", peers=DATABASES, data="revisions", count=2_000, per="call")
def history(job: Job) -> Sample:
    """Descriptions of the last 50 of an object's revisions."""
    calls = 500
    with job.database() as database:
        oid = database.open().root()["first"]._p_oid
        with timed() as clock:
            for _ in range(calls):
                database.history(oid, 50)
    return Sample(clock.seconds, calls)


@workload(
    "undo",
    peers=DATABASES,
    data="items",
    count=10_000,
    per="object",
    writes=True,
    size_max=100_000,
)
def undo(job: Job) -> Sample:
    """A transaction undone that had changed all objects."""
    with job.database() as database:
        first = database.open().root()["first"]
        first.price = 0.25
        transaction.commit()
        # The first one may load code.
        database.undo(database.undoLog(0, 1)[0]["id"])
        transaction.commit()
        waiting = [first]
        while waiting:
            item = waiting.pop()
            item.price = 0.5
            waiting += [each for each in (item.left, item.right) if each is not None]
        transaction.commit()
        with timed() as clock:
            database.undo(database.undoLog(0, 1)[0]["id"])
            transaction.commit()
    return Sample(clock.seconds, job.count)


@workload(
    "pack",
    peers=DATABASES,
    data="revisions",
    count=200_000,
    per="object",
    writes=True,
    size_max=1_000_000,
)
def pack(job: Job) -> Sample:
    """A pack with garbage collection, half of the objects being garbage."""
    with job.database() as database:
        with timed() as clock:
            database.pack(time.time())
        if len(database.storage) > job.count * 0.6:
            raise AssertionError(f"{job.peer.name} kept the garbage")
    return Sample(clock.seconds, job.count)


@workload("pack, commits beside it", data="revisions", count=200_000, per="object", writes=True)
def pack_with_commits(job: Job) -> Sample:
    """The same pack while another thread commits, a small transaction every 2 ms."""
    with job.database() as database:
        committing = _Committing(database)
        with timed() as clock:
            database.pack(time.time())
        committing.stop()
    return Sample(clock.seconds, job.count)


@workload("longest commit while packing", data="revisions", count=200_000, writes=True)
def longest_commit(job: Job) -> Sample:
    """The longest one of those transactions."""
    with job.database() as database:
        committing = _Committing(database)
        database.pack(time.time())
        committing.stop()
    return Sample(committing.longest_seconds)


class _Committing:
    """A thread that commits small transactions until it is stopped."""

    def __init__(self, database: Any) -> None:
        self.longest_seconds = 0.0
        self._stopped = threading.Event()
        self._began = threading.Event()
        self._thread = threading.Thread(target=self._commit, args=(database,))
        self._thread.start()
        self._began.wait()

    def _commit(self, database: Any) -> None:
        manager = transaction.TransactionManager()
        connection = database.open(manager)
        first, number = connection.root()["first"], 0
        while not self._stopped.wait(0.002):
            number += 1
            first.title = f"commit {number}"
            with timed() as clock:
                manager.commit()
            self.longest_seconds = max(self.longest_seconds, clock.seconds)
            self._began.set()
        connection.close()

    def stop(self) -> None:
        """Stop when the transaction that is under way is committed."""
        self._stopped.set()
        self._thread.join()
