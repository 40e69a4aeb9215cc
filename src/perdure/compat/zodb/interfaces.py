"""ZODB's interfaces, and the two errors that it defines beside them."""

from perdure.compat._names import known_as
from perdure.interfaces import *
from perdure.interfaces import BlobError, StorageStopIteration

known_as(__name__, BlobError, StorageStopIteration)
