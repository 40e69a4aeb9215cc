"""Databases: a storage and a pool of connections to it each."""

from typing import TYPE_CHECKING

from perdure._lazy import importing_late
from perdure.db.database import DB, connection

if TYPE_CHECKING:
    from perdure.db.collection import Collection
    from perdure.db.undo import TransactionalUndo

__all__ = ["DB", "Collection", "TransactionalUndo", "connection"]

__getattr__ = importing_late(
    __name__,
    {"Collection": "perdure.db.collection", "TransactionalUndo": "perdure.db.undo"},
    ("collection", "undo"),
)
