"""A block of code as a transaction."""

from types import TracebackType
from typing import TYPE_CHECKING, Any

import transaction

if TYPE_CHECKING:
    from perdure.connection.connection import Connection
    from perdure.db.database import DB

__all__ = ["ContextManager"]


class ContextManager:
    """Gives a `with` block a connection, and commits at its end.

    An exception in the block aborts.  The transaction manager is the block's
    own, so the thread's transaction isn't touched.
    """

    def __init__(self, db: "DB", note: str | None = None) -> None:
        self.db = db
        self.note = note

    def __enter__(self) -> "Connection":
        self.tm = transaction.TransactionManager()
        self.conn = self.db.open(self.tm)
        try:
            begun: Any = self.tm.begin()
            if self.note:
                begun.note(self.note)
        except BaseException:
            # The block is not entered, nor left.
            self.tm.abort()
            self.conn.close()
            raise
        return self.conn

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.tm.commit()
        finally:
            # After a commit there is nothing left to abort.
            self.tm.abort()
            self.conn.close()
