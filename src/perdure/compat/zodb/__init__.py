"""perdure, by the name of ZODB."""

from persistent import TimeStamp
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping

# `import ZODB` is enough to have these, as `ZODB.POSException.ConflictError`.
from . import (
    Connection,
    POSException,
    _compat,
    blob,
    broken,
    interfaces,
    mvccadapter,
    serialize,
    utils,
)
from .DB import DB, connection

__all__ = ["DB", "PersistentList", "PersistentMapping", "TimeStamp", "connection"]
