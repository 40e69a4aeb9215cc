"""What a connection reads and commits through: a view of a storage at one snapshot.

`adapter_for(storage)` gives a database the adapter for its storage.  The
adapter makes the views: `new_instance` for a connection, `before_instance` for
a connection to a past state, `undo_instance` for undoing.

perdure's own storages bring their views along, with layers over them or without.  The adapters here work with every
other storage that provides `IStorage` (`MVCCAdapter`) or `IMVCCStorage`
(`InstanceAdapter`).  Where a storage of stock ZODB raises stock's errors, they come
out of a view as perdure's.
"""

from typing import TYPE_CHECKING, Any

from perdure._lazy import importing_late
from perdure.interfaces import IMVCCStorage
from perdure.storage.engine import EngineStorage
from perdure.storage.view import EngineAdapter

if TYPE_CHECKING:
    from perdure.mvcc.historical import HistoricalView
    from perdure.mvcc.instances import InstanceAdapter, InstanceView
    from perdure.mvcc.views import MVCCAdapter, MVCCView, UndoView

__all__ = [
    "HistoricalView",
    "InstanceAdapter",
    "InstanceView",
    "MVCCAdapter",
    "MVCCView",
    "UndoView",
    "adapter_for",
]

_HOMES = {
    "HistoricalView": "historical",
    "InstanceAdapter": "instances",
    "InstanceView": "instances",
    "MVCCAdapter": "views",
    "MVCCView": "views",
    "UndoView": "views",
}
__getattr__ = importing_late(
    __name__, {name: f"{__name__}.{module}" for name, module in _HOMES.items()}
)


def adapter_for(storage: Any) -> Any:
    """Return what makes the views of *storage*."""
    if isinstance(storage, EngineStorage) and storage.is_plain():
        return EngineAdapter(storage, storage)
    return _adapter_for_others(storage)


def _adapter_for_others(storage: Any) -> Any:
    """Return what makes the views of layers, and of storages of others' making."""
    # Late: a program with a plain file of perdure's own needs no memory for them.
    from perdure.storage._layers import engine_below

    engine = engine_below(storage)
    if engine is not None:
        from perdure.storage.layered import LayeredAdapter

        return LayeredAdapter(storage, engine)
    if IMVCCStorage.providedBy(storage):
        from perdure.mvcc.instances import InstanceAdapter

        return InstanceAdapter(storage)
    from perdure.mvcc.views import MVCCAdapter

    return MVCCAdapter(storage)
