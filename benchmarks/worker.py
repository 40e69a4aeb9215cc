"""What a process of its own does for a measurement: `python -m benchmarks.worker`."""

import json
import resource
import sys
from pathlib import Path
from typing import TypedDict

from benchmarks.job import Job
from benchmarks.peers import load_peer
from benchmarks.workloads import WORKLOADS

__all__ = ["Answer"]


class Answer(TypedDict):
    """What the process prints, as JSON."""

    amount: float
    operations: int
    peak_bytes: int


def main(task: str, name: str, peer_name: str, path: Path, count: int) -> Answer:
    """Do the task: `build` or `index` a data file, or `measure` a workload."""
    amount, operations = 0.0, 1
    if task == "build":
        from benchmarks.data import build  # imports perdure, which is not every process's peer

        build(name, path, count)
    elif task == "index":
        load_peer(peer_name).file_storage(str(path)).close()
    else:
        sample = WORKLOADS[name].measure(Job(load_peer(peer_name), path, count))
        amount, operations = sample.amount, sample.operations
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return Answer(amount=amount, operations=operations, peak_bytes=peak_bytes)


if __name__ == "__main__":
    asked_task, asked_name, asked_peer, asked_path, asked_count = sys.argv[1:]
    print(json.dumps(main(asked_task, asked_name, asked_peer, Path(asked_path), int(asked_count))))
