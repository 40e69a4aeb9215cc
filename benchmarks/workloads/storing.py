"""Many objects into the database at once."""

import transaction

from benchmarks.job import Job, Sample, timed, workload
from benchmarks.model import make_items
from benchmarks.peers import DATABASES


@workload(
    "bulk add, with building",
    peers=DATABASES,
    data="nothing",
    count=100_000,
    objects=1,
    per="object",
    writes=True,
    size_max=100_000,
)
def bulk_add(job: Job) -> Sample:
    """One transaction with new objects, the time for making them in Python included."""
    with job.database() as database:
        root = database.open().root()
        with timed() as clock:
            root["first"] = make_items(job.count)[0]
            transaction.commit()
    return Sample(clock.seconds, job.count)


@workload(
    "bulk add, commit alone",
    peers=DATABASES,
    data="nothing",
    count=100_000,
    objects=1,
    per="object",
    writes=True,
)
def bulk_commit(job: Job) -> Sample:
    """The same without the time for making them."""
    with job.database() as database:
        database.open().root()["first"] = make_items(job.count)[0]
        with timed() as clock:
            transaction.commit()
    return Sample(clock.seconds, job.count)


@workload("change all", peers=DATABASES, data="items", count=100_000, per="object", writes=True)
def change_all(job: Job) -> Sample:
    """One transaction that changes one attribute of every object, all being in the cache."""
    with job.database() as database:
        waiting, changed = [database.open().root()["first"]], 0
        while waiting:
            item = waiting.pop()
            item.price, changed = 0.5, changed + 1
            waiting += [each for each in (item.left, item.right) if each is not None]
        with timed() as clock:
            transaction.commit()
    return Sample(clock.seconds, changed)
