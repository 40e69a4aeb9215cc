"""perdure, by the name of ZODB."""

from persistent import TimeStamp
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping

from .DB import DB, connection

__all__ = ["DB", "PersistentList", "PersistentMapping", "TimeStamp", "connection"]
