"""Undo as part of a transaction."""

from collections.abc import Container, Sequence
from typing import Any

from perdure.connection.metadata import TransactionMetaData

__all__ = ["TransactionalUndo"]


class TransactionalUndo:
    """A resource of a transaction that undoes others when it commits."""

    def __init__(
        self, database: Any, ids: Sequence[bytes], oids: Container[Any] | None = None
    ) -> None:
        self._database = database
        self._ids = ids
        self._oids = oids
        self._view: Any = None
        self._meta: TransactionMetaData | None = None

    def sortKey(self) -> str:
        """Return the place among the resources of the transaction."""
        return f"{self._database._mvcc_storage.sortKey()}:{id(self)}"

    def abort(self, transaction: Any) -> None:
        """Do nothing: nothing has happened yet."""

    def tpc_begin(self, transaction: Any) -> None:
        """Begin to commit."""
        self._meta = TransactionMetaData(
            transaction.user, transaction.description, transaction.extension
        )
        self._view = self._database._mvcc_storage.undo_instance()
        self._view.tpc_begin(self._meta)
        joint = self._database._shared.joint_commit(transaction)
        if joint is not None:
            joint.join(self._view)

    def commit(self, transaction: Any) -> None:
        """Undo; raises UndoError where that isn't possible."""
        for transaction_id in self._ids:
            if self._oids is None:
                self._view.undo(transaction_id, self._meta)
            else:
                self._view.undo(transaction_id, self._meta, self._oids)

    def tpc_vote(self, transaction: Any) -> None:
        """Get ready to finish."""
        self._view.tpc_vote(self._meta)

    def tpc_finish(self, transaction: Any) -> None:
        """Make it permanent."""
        try:
            self._view.tpc_finish(self._meta)
        finally:
            self._release()

    def tpc_abort(self, transaction: Any) -> None:
        """Leave everything as it was."""
        if self._view is None:
            return
        try:
            self._view.tpc_abort(self._meta)
        finally:
            self._release()

    def _release(self) -> None:
        # Released, not closed: closing could change what others see.
        view, self._view = self._view, None
        view.release()
