"""What is measured. Each task gets a peer and a data file, and returns the seconds that it took.

Tasks run in the order in which they stand here: the first one makes the data file.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from time import perf_counter

import transaction
from BTrees.IOBTree import IOBTree

from benchmarks.model import Item
from benchmarks.peers import Peer


@dataclass(frozen=True)
class Job:
    """A task's subject: which peer, on which file, with how many objects or transactions."""

    peer: Peer
    path: Path
    objects: int
    commits: int


def bulk_add(job: Job) -> float:
    """Store all objects in one transaction."""
    database = job.peer.database(job.peer.file_storage(str(job.path), create=True))
    connection = database.open()
    items, previous = IOBTree(), None
    for number in range(job.objects):
        previous = items[number] = Item(number, previous)
    connection.root.items = items
    began = perf_counter()
    transaction.commit()
    took = perf_counter() - began
    connection.close()
    database.close()
    return took


def cold_load(job: Job) -> float:
    """Load every object into an empty cache, through the index that holds them."""
    database = job.peer.database(job.peer.file_storage(str(job.path)), cache_size=job.objects * 2)
    connection = database.open()
    gc.collect()
    began = perf_counter()
    total = sum(item.number for item in connection.root.items.values())
    took = perf_counter() - began
    if total != job.objects * (job.objects - 1) // 2:
        raise AssertionError(f"{job.peer.name} loaded other objects than were stored")
    connection.close()
    database.close()
    return took


def raw_load(job: Job) -> float:
    """Load every record from the storage, without making objects."""
    storage = job.peer.file_storage(str(job.path), read_only=True)
    oids = [number.to_bytes(8, "big") for number in range(1, len(storage))]
    began = perf_counter()
    for oid in oids:
        storage.load(oid)
    took = perf_counter() - began
    storage.close()
    return took


def iterate(job: Job) -> float:
    """Go through all transactions and their records."""
    storage = job.peer.file_storage(str(job.path), read_only=True)
    began = perf_counter()
    total = sum(len(record.data) for each in storage.iterator() for record in each)
    took = perf_counter() - began
    storage.close()
    if total <= job.objects:
        raise AssertionError(f"{job.peer.name} read too little data")
    return took


def open_with_index(job: Job) -> float:
    """Open the file, its index being there."""
    began = perf_counter()
    storage = job.peer.file_storage(str(job.path))
    took = perf_counter() - began
    storage.close()
    return took


def open_without_index(job: Job) -> float:
    """Open the file without its index, which has to be made by reading the file."""
    for suffix in job.peer.index_suffixes:
        job.path.with_name(job.path.name + suffix).unlink(missing_ok=True)
    return open_with_index(job)


def small_commits(job: Job) -> float:
    """Commit transactions of one changed object, one after the other."""
    database = job.peer.database(job.peer.file_storage(str(job.path)))
    connection = database.open()
    item = connection.root.items[0]
    began = perf_counter()
    for number in range(job.commits):
        item.number = number
        transaction.commit()
    took = perf_counter() - began
    item.number = 0
    transaction.commit()
    connection.close()
    database.close()
    return took


def threaded_commits(job: Job) -> float:
    """Commit as many from eight threads, each with its own object."""
    database = job.peer.database(job.peer.file_storage(str(job.path)), pool_size=8)
    share = job.commits // 8

    def work(key: int) -> None:
        manager = transaction.TransactionManager()
        connection = database.open(manager)
        item = connection.root.items[key * 100]
        for number in range(share):
            item.price = number
            manager.commit()
        connection.close()

    threads = [Thread(target=work, args=(key,)) for key in range(8)]
    began = perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = perf_counter() - began
    database.close()
    return took


TASKS: dict[str, Callable[[Job], float]] = {
    "bulk add": bulk_add,
    "cold load": cold_load,
    "raw load": raw_load,
    "iterate": iterate,
    "open, with index": open_with_index,
    "open, without index": open_without_index,
    "small commits": small_commits,
    "small commits, 8 threads": threaded_commits,
}
