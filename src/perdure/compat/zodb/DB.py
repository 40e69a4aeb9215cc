"""Databases."""

import datetime
from typing import Any

from perdure.broken import find_global
from perdure.compat._names import known_as
from perdure.connection import Connection, TransactionMetaData
from perdure.db import DB, TransactionalUndo, connection
from perdure.db.inonetransaction import ContextManager
from perdure.db.moments import tid_before
from perdure.db.pool import ConnectionPool
from perdure.ids import Tid
from perdure.interfaces import IDatabase, IMVCCStorage
from perdure.timestamp import TimeStamp, tid_at_datetime
from perdure.utils import z64

from . import utils
from .valuedoc import ValueDoc

known_as(__name__, DB, ContextManager, TransactionalUndo)


def toTimeStamp(dt: datetime.datetime) -> Any:
    """Return a moment as a time stamp."""
    return TimeStamp(tid_at_datetime(dt))


def getTID(at: Any, before: Any) -> Tid | None:
    """Return the tid that bounds the state *at* or *before* a moment; None for neither."""
    return tid_before(at, before)
