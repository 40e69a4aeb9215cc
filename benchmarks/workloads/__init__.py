"""The workloads, by what they exercise; importing this registers them, in the table's order."""

# isort: off
from benchmarks.workloads import loading as loading
from benchmarks.workloads import storing as storing
from benchmarks.workloads import committing as committing
from benchmarks.workloads import records as records
from benchmarks.workloads import opening as opening
from benchmarks.workloads import keeping as keeping
from benchmarks.workloads import collecting as collecting
from benchmarks.workloads import blobs as blobs
from benchmarks import others as others
# isort: on

from benchmarks.job import WORKLOADS

__all__ = ["WORKLOADS"]
