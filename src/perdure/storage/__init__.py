"""Storages: what keeps the records of a database."""

from perdure.storage.base import BaseStorage, copy
from perdure.storage.engine import EngineStorage
from perdure.storage.file import FileStorage
from perdure.storage.mapping import MappingStorage
from perdure.storage.records import DataRecord, TransactionRecord

__all__ = [
    "BaseStorage",
    "DataRecord",
    "EngineStorage",
    "FileStorage",
    "MappingStorage",
    "TransactionRecord",
    "copy",
]
