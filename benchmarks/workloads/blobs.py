"""Blobs: large data in files beside the database."""

from typing import Any

import transaction
from BTrees.IOBTree import IOBTree

from benchmarks.job import Job, Sample, timed, workload
from benchmarks.peers import DATABASES, OWN

SMALL_BYTES = 64 * 1024
MEBIBYTE = 1024 * 1024


def content(number: int) -> bytes:
    """Return the content of a small blob, another one for each number."""
    return number.to_bytes(8, "big") * (SMALL_BYTES // 8)


def _blob_class(job: Job) -> type[Any]:
    if job.peer.name == OWN:
        from perdure import Blob  # here and below: only this peer is to be in memory

        return Blob
    from ZODB.blob import Blob as StockBlob

    return StockBlob  # type: ignore[no-any-return]


def _store(job: Job, database: Any) -> float:
    """Store small blobs in one transaction; return the seconds that it takes."""
    blob_class, connection = _blob_class(job), database.open()
    connection.root()["blobs"] = blobs = IOBTree()
    transaction.commit()
    contents = [content(number) for number in range(job.count)]

    def store(numbers: range) -> None:
        for number in numbers:
            blobs[number] = blob = blob_class()
            with blob.open("w") as file:
                file.write(contents[number])
        transaction.commit()

    store(range(1))  # It may load code.
    with timed() as clock:
        store(range(job.count))
    connection.close()
    return clock.seconds


_SMALL: dict[str, Any] = {
    "peers": DATABASES,
    "data": "nothing",
    "count": 1_000,
    "objects": 1,
    "per": "blob",
}
_LARGE: dict[str, Any] = {
    "peers": DATABASES,
    "data": "nothing",
    "count": 256,
    "objects": 1,
    "per": "MiB",
}


@workload("blobs of 64 KiB, stored", writes=True, **_SMALL)
def store_small(job: Job) -> Sample:
    """Blobs made, written and committed in one transaction, memory-backed disk."""
    with job.database(blobs=True) as database:
        return Sample(_store(job, database), job.count)


@workload("blobs of 64 KiB, stored, disk", writes=True, on_disk=True, **_SMALL)
def store_small_on_disk(job: Job) -> Sample:
    """The same on a real disk: perdure waits until each file is on it, ZODB does not."""
    return store_small(job)


@workload("blobs of 64 KiB, read back", writes=True, **_SMALL)
def read_small(job: Job) -> Sample:
    """Those blobs loaded, opened and read, the object cache empty at first."""
    with job.database(blobs=True) as database:
        _store(job, database)
    with job.database(blobs=True) as database:
        blobs, data = database.open().root()["blobs"], b""
        with timed() as clock:
            for blob in blobs.values():
                with blob.open() as file:
                    data = file.read()
    if data != content(job.count - 1):
        raise AssertionError(f"{job.peer.name} gave other data back")
    return Sample(clock.seconds, job.count)


def _store_large(job: Job, database: Any) -> float:
    data = b"\x5a" * MEBIBYTE
    root, blob = database.open().root(), _blob_class(job)()
    with timed() as clock:
        root["blob"] = blob
        with blob.open("w") as file:
            for _ in range(job.count):
                file.write(data)
        transaction.commit()
    return clock.seconds


@workload("large blob, stored", fixed=True, writes=True, **_LARGE)
def store_large(job: Job) -> Sample:
    """One blob of 256 MiB, written 1 MiB at a time and committed."""
    with job.database(blobs=True) as database:
        return Sample(_store_large(job, database), job.count)


@workload("large blob, stored, disk", fixed=True, writes=True, on_disk=True, **_LARGE)
def store_large_on_disk(job: Job) -> Sample:
    """The same on a real disk: perdure waits until the file is on it, ZODB does not."""
    return store_large(job)


@workload("large blob, read back", fixed=True, writes=True, **_LARGE)
def read_large(job: Job) -> Sample:
    """That blob opened and read, 1 MiB at a time."""
    with job.database(blobs=True) as database:
        _store_large(job, database)
        blob, found = database.open().root()["blob"], 0
        with timed() as clock, blob.open() as file:
            while data := file.read(MEBIBYTE):
                found += len(data)
    if found != job.count * MEBIBYTE:
        raise AssertionError(f"{job.peer.name} gave {found} bytes back")
    return Sample(clock.seconds, job.count)
