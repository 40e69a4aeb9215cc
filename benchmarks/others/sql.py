"""SQLAlchemy's objects in SQLite: a row for each object, references as foreign keys.

Each commit is synced, as in ZODB and perdure (write-ahead log, `synchronous=FULL`).
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.job import Job, Sample, also, timed
from benchmarks.model import traverse
from benchmarks.peers import SQLALCHEMY, is_installed
from benchmarks.threads import in_threads
from benchmarks.workloads.blobs import content
from benchmarks.workloads.committing import OBJECTS_MAX

_TREES: dict[str, Callable[[int], Any]] = {
    "int_tree": lambda number: number * 3,
    "str_tree": lambda number: f"key {number * 3:09}",
}


def build(data: str, path: Path, count: int) -> None:
    """Write the database beside *path* with what the data file *data* has in it."""
    from benchmarks.others import tables  # here and below: only one peer is to be in memory

    with _sessions(path) as session_class, session_class() as session:
        if data == "items":
            session.add_all(tables.make_rows(count))
        elif data in _TREES:
            entry, key = tables.ENTRIES[data], _TREES[data]
            session.add_all(entry(key=key(number), value=number) for number in range(count))
        session.commit()


@contextmanager
def _sessions(path: Path) -> Iterator[Any]:
    from benchmarks.others import tables

    engine = tables.opened(path.with_suffix(".sqlite3"))
    try:
        yield tables.session_class(engine)
    finally:
        engine.dispose()


def _cold_load(job: Job) -> Sample:
    from benchmarks.others import tables

    with _sessions(job.path) as session_class, session_class() as session:
        first = session.get(tables.Row, 0)
        with timed() as clock:
            count = traverse(first)
    return Sample(clock.seconds, count)


def _hot_traversal(job: Job) -> Sample:
    from benchmarks.others import tables

    seconds = []
    with _sessions(job.path) as session_class, session_class() as session:
        first = session.get(tables.Row, 0)
        # The session refers to its rows weakly.
        kept = list(session.scalars(tables.every(tables.Row)))
        count = traverse(first)
        for _ in range(5):
            with timed() as clock:
                traverse(first)
            seconds.append(clock.seconds)
        del kept
    return Sample(min(seconds), count)


def _scan(data: str) -> Callable[[Job], Sample]:
    def scan(job: Job) -> Sample:
        from benchmarks.others import tables

        entry = tables.ENTRIES[data]
        with _sessions(job.path) as session_class, session_class() as session, timed() as clock:
            count = sum(1 for _ in session.execute(tables.in_order(entry)))
        return Sample(clock.seconds, count)

    return scan


def _look_up(data: str) -> Callable[[Job], Sample]:
    def look_up(job: Job) -> Sample:
        from benchmarks.others import tables

        entry, key = tables.ENTRIES[data], _TREES[data]
        keys = [key(number) for number in range(0, job.count, 100)]
        random.Random(1).shuffle(keys)
        with _sessions(job.path) as session_class, session_class() as session, timed() as clock:
            for wanted in keys:
                session.get(entry, wanted)
        return Sample(clock.seconds, len(keys))

    return look_up


def _bulk_add(*, with_building: bool) -> Callable[[Job], Sample]:
    def bulk_add(job: Job) -> Sample:
        from benchmarks.others import tables

        with _sessions(job.path) as session_class, session_class() as session:
            with timed() as building:
                rows = tables.make_rows(job.count)
            with timed() as clock:
                session.add_all(rows)
                session.commit()
        return Sample(clock.seconds + building.seconds * with_building, job.count)

    return bulk_add


def _change_all(job: Job) -> Sample:
    from benchmarks.others import tables

    with _sessions(job.path) as session_class, session_class() as session:
        rows = list(session.scalars(tables.every(tables.Row)))
        for row in rows:
            row.price = 0.5
        with timed() as clock:
            session.commit()
    return Sample(clock.seconds, len(rows))


def _change(session: Any, rows: list[Any], commits: int, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(commits):
        for row in chance.sample(rows, chance.randint(1, OBJECTS_MAX)):
            row.price = number
        session.commit()


def _alone(job: Job) -> Sample:
    from benchmarks.others import tables

    with _sessions(job.path) as session_class, session_class() as session:
        rows = list(session.scalars(tables.every(tables.Row)))
        with timed() as clock:
            _change(session, rows, job.count, 1)
    return Sample(clock.seconds, job.count)


def _in_company(job: Job) -> Sample:
    from benchmarks.others import tables

    threads, share = job.threads, max(1, job.count // job.threads)
    with _sessions(job.path) as session_class:

        def work(number: int) -> Callable[[], None]:
            session = session_class()
            rows = list(session.scalars(tables.every(tables.Row)))[number::threads]
            session.commit()

            def changes() -> None:
                _change(session, rows, share, number)
                session.close()

            return changes

        seconds = in_threads(threads, work)
    return Sample(seconds, share * threads)


def _store_blobs(job: Job) -> Sample:
    from benchmarks.others import tables

    contents = [content(number) for number in range(job.count)]
    with _sessions(job.path) as session_class, session_class() as session, timed() as clock:
        session.add_all(
            tables.Large(number=number, data=data) for number, data in enumerate(contents)
        )
        session.commit()
    return Sample(clock.seconds, job.count)


def _read_blobs(job: Job) -> Sample:
    from benchmarks.others import tables

    _store_blobs(job)
    with _sessions(job.path) as session_class, session_class() as session, timed() as clock:
        data = [session.get(tables.Large, number).data for number in range(job.count)]
    if data[-1] != content(job.count - 1):
        raise AssertionError("SQLAlchemy gave other data back")
    return Sample(clock.seconds, job.count)


_MEASURES = {
    "cold load": _cold_load,
    "hot traversal": _hot_traversal,
    "BTree scan, integer keys": _scan("int_tree"),
    "BTree scan, string keys": _scan("str_tree"),
    "BTree lookups, integer keys": _look_up("int_tree"),
    "BTree lookups, string keys": _look_up("str_tree"),
    "bulk add, with building": _bulk_add(with_building=True),
    "bulk add, commit alone": _bulk_add(with_building=False),
    "change all": _change_all,
    "small commits": _alone,
    "small commits, threads": _in_company,
    "small commits, disk": _alone,
    "small commits, disk, threads": _in_company,
    "blobs of 64 KiB, stored": _store_blobs,
    "blobs of 64 KiB, stored, disk": _store_blobs,
    "blobs of 64 KiB, read back": _read_blobs,
}

if is_installed(SQLALCHEMY):
    for each, measure in _MEASURES.items():
        also(each, SQLALCHEMY)(measure)
