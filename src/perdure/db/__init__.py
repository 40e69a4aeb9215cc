"""Databases: a storage and a pool of connections to it each."""

from perdure.db.collection import Collection
from perdure.db.database import DB, connection
from perdure.db.undo import TransactionalUndo

__all__ = ["DB", "Collection", "TransactionalUndo", "connection"]
