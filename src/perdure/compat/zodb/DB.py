"""Databases."""

from perdure.compat._names import known_as
from perdure.connection import Connection, TransactionMetaData
from perdure.db import DB, TransactionalUndo, connection
from perdure.db.inonetransaction import ContextManager
from perdure.db.pool import ConnectionPool
from perdure.utils import z64

from .valuedoc import ValueDoc

known_as(__name__, DB, ContextManager, TransactionalUndo)
