"""Opening a data file."""

import gc
import os
from pathlib import Path
from typing import Any

from benchmarks.job import Job, Sample, timed, workload


def _resident_bytes() -> int:
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _opened(job: Job) -> tuple[Any, float]:
    with timed() as clock:
        storage = job.storage()
    return storage, clock.seconds


@workload("open, fresh index", data="items", count=1_000_000, size_max=10_000_000)
def open_with_index(job: Job) -> Sample:
    """The file storage alone, its index being there."""
    storage, seconds = _opened(job)
    storage.close()
    return Sample(seconds)


@workload("open, no index", data="items", count=1_000_000, writes=True, size_max=10_000_000)
def open_without_index(job: Job) -> Sample:
    """The same where the index has to be made by reading the file, which is in memory."""
    job.path.with_name(job.path.name + job.peer.index_suffix).unlink()
    storage, seconds = _opened(job)
    storage.close()
    return Sample(seconds)


@workload("memory of an open file", data="items", count=1_000_000, unit="B")
def memory_when_open(job: Job) -> Sample:
    """The memory that the process has more when the file is open, its index being there."""
    gc.collect()
    before = _resident_bytes()
    storage, _ = _opened(job)
    taken = _resident_bytes() - before
    storage.close()
    return Sample(taken)
