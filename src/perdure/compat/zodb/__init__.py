"""perdure, by the name of ZODB."""

if __name__ != "ZODB":
    # What these modules import would go by a wrong name in pickles for the rest of the process.
    raise ImportError(f"{__name__}: call perdure.compat.install(), then import it as ZODB")

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
