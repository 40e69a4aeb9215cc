"""A database takes part in a transaction once."""

from typing import Any

from perdure.errors import StorageTransactionError

__all__ = ["require_once"]


def require_once(database: Any, transaction: Any) -> None:
    """Raise StorageTransactionError if a resource of *transaction* writes to *database* already.

    It has the lock from its vote to the end, or from the beginning on: another one would wait
    for it for ever, and so would everybody else. To be asked before the storage is told.
    """
    for resource in getattr(transaction, "_resources", ()):
        written: Any = getattr(resource, "_written_database", None)
        if written is database:
            raise StorageTransactionError(
                f"{database.database_name!r} takes part in this transaction twice: undo in a "
                "transaction of its own, and change objects through one connection"
            )
