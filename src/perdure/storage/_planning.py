"""Which storages can say what an undo would do."""

from typing import Any

from zope.interface import Interface

__all__ = ["IPlansUndo"]


class IPlansUndo(Interface):
    """A storage that says what undoing would do, and undoes a transaction for chosen objects."""

    def undo_plan(transaction_id: bytes, oids: Any = None) -> Any:  # noqa: N805 - no self here
        """Return an `UndoStep` for each object that a transaction changed; nothing is changed.

        With *oids* (a container), only for these. UndoError is raised for an unknown or packed
        transaction.
        """

    def undo(transaction_id: bytes, transaction: Any, oids: Any = None) -> Any:  # noqa: N805
        """Undo a transaction as part of another; with *oids*, what it did to these objects."""
