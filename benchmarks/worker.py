"""What a process of its own does for a measurement: `python -m benchmarks.worker TASK`."""

import importlib
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TypedDict

import benchmarks.alone  # noqa: F401 - before anything imports BTrees
from benchmarks.job import Job, Sample
from benchmarks.peers import FILES, OWN, RELSTORAGE, SHELVE, SQLALCHEMY, STOCK, ZEO, load_peer
from benchmarks.workloads import WORKLOADS

__all__ = ["Answer", "Task"]


class Task(TypedDict):
    """What the process is asked for, as JSON."""

    what: Literal["build", "prepare", "measure"]
    """Write a data file; make of it what the peer needs; measure a workload."""
    name: str
    """Of the data, or of the workload."""
    peer: str
    path: str
    count: int
    threads: int


class Answer(TypedDict):
    """What the process prints, as JSON."""

    amount: float
    operations: int
    peak_bytes: int
    """Of the whole process, code and all."""
    net_peak_bytes: int
    """The same, less what it had when everything was imported."""


def main(task: Task) -> Answer:
    """Do what is asked for."""
    sample, path, imported = Sample(0.0), Path(task["path"]), 0
    with ExitStack() as until:
        if task["what"] == "build":
            from benchmarks.data import build  # imports perdure, which is not every process's peer

            build(task["name"], path, task["count"])
        elif task["what"] == "prepare":
            _prepare(task, path, until)
        else:
            workload = WORKLOADS[task["name"]]
            job = Job(load_peer(task["peer"], until), path, task["count"], task["threads"])
            if task["peer"] in workload.modules:
                importlib.import_module(workload.modules[task["peer"]])
            imported = _memory_bytes("VmRSS")
            sample = workload.measures[task["peer"]](job)
        peak = _memory_bytes("VmHWM")
    return Answer(
        amount=sample.amount,
        operations=sample.operations,
        peak_bytes=peak,
        net_peak_bytes=peak - imported,
    )


def _prepare(task: Task, path: Path, until: ExitStack) -> None:
    """Make of a data file what the peer needs: an index beside it, or a database of its own."""
    peer = task["peer"]
    if peer in {*FILES, ZEO}:
        load_peer(OWN if peer == OWN else STOCK, until).storage(path).close()
    elif peer == RELSTORAGE:
        from benchmarks.peers import relational  # here and below: not every process's peer

        relational.fill(path)
    elif peer == SQLALCHEMY:
        from benchmarks.others import sql

        sql.build(task["name"], path, task["count"])
    elif peer == SHELVE:
        from benchmarks.others import shelf

        shelf.build(task["name"], path, task["count"])


def _memory_bytes(name: str) -> int:
    """Return a line of what Linux tells of this process's memory; 0 elsewhere."""
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
