"""Undo as part of a transaction."""

from collections.abc import Container, Sequence
from typing import Any

from perdure.connection.metadata import TransactionMetaData
from perdure.errors import ConflictError
from perdure.storage.view import EngineView

__all__ = ["TransactionalUndo"]


class _Namer:
    """Names the database of a conflict, which may be met when another member votes (`Judge`)."""

    def __init__(self, database_name: str) -> None:
        self._database_name = database_name

    def __call__(self, draft: Any) -> None:
        """Have no objection."""

    def describe(self, error: ConflictError) -> None:
        """Have a conflict name the database."""
        error.describe(database=self._database_name)

    def is_content(self) -> bool:
        """Have no objection to what there is, either: it was there before."""
        return True


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
        if isinstance(self._view, EngineView):
            self._view.judge = _Namer(self._database.database_name)
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
        try:
            self._view.tpc_vote(self._meta)
        except ConflictError as error:
            # Another member's, met in this one's turn, has its name already.
            error.describe(database=self._database.database_name)
            raise

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
