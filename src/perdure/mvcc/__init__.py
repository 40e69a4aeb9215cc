"""What a connection reads and commits through: a view of a storage at one snapshot.

`adapter_for(storage)` gives a database the adapter for its storage.  The
adapter makes the views: `new_instance` for a connection, `before_instance` for
a connection to a past state, `undo_instance` for undoing.

perdure's own storages bring their views along, with layers over them or without.  The adapters here work with every
other storage that provides `IStorage` (`MVCCAdapter`) or `IMVCCStorage`
(`InstanceAdapter`).  Where a storage of stock ZODB raises stock's errors, they come
out of a view as perdure's.
"""

from typing import Any

from perdure.interfaces import IMVCCStorage
from perdure.mvcc.historical import HistoricalView
from perdure.mvcc.instances import InstanceAdapter, InstanceView
from perdure.mvcc.views import MVCCAdapter, MVCCView, UndoView
from perdure.storage._layers import engine_below
from perdure.storage.engine import EngineStorage
from perdure.storage.layered import LayeredAdapter
from perdure.storage.view import EngineAdapter

__all__ = [
    "HistoricalView",
    "InstanceAdapter",
    "InstanceView",
    "MVCCAdapter",
    "MVCCView",
    "UndoView",
    "adapter_for",
]


def adapter_for(storage: Any) -> Any:
    """Return what makes the views of *storage*."""
    if isinstance(storage, EngineStorage) and storage.is_plain():
        return EngineAdapter(storage, storage)
    engine = engine_below(storage)
    if engine is not None:
        return LayeredAdapter(storage, engine)
    if IMVCCStorage.providedBy(storage):
        return InstanceAdapter(storage)
    return MVCCAdapter(storage)
