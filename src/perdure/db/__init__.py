"""Databases: a storage and a pool of connections to it each."""

from typing import TYPE_CHECKING

from perdure._lazy import importing_late
from perdure.db.database import DB, connection
from perdure.db.undo import TransactionalUndo

if TYPE_CHECKING:
    from perdure.db.collection import Collection

__all__ = ["DB", "Collection", "TransactionalUndo", "connection"]

__getattr__ = importing_late(__name__, {"Collection": "perdure.db.collection"}, ("collection",))
