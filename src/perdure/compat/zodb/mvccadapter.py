"""What connections read and commit through."""

from perdure.mvcc import HistoricalView as HistoricalStorageAdapter
from perdure.mvcc import MVCCAdapter
from perdure.mvcc import MVCCView as MVCCAdapterInstance
from perdure.mvcc import UndoView as UndoAdapterInstance

__all__ = [
    "HistoricalStorageAdapter",
    "MVCCAdapter",
    "MVCCAdapterInstance",
    "UndoAdapterInstance",
]
