"""Storages: what keeps the records of a database."""

from perdure.storage.base import BaseStorage, copy
from perdure.storage.encrypting import EncryptingStorage
from perdure.storage.engine import EngineStorage
from perdure.storage.file import FileStorage
from perdure.storage.mapping import MappingStorage
from perdure.storage.records import DataRecord, TransactionRecord
from perdure.storage.zstd import ZstdStorage

__all__ = [
    "BaseStorage",
    "DataRecord",
    "EncryptingStorage",
    "EngineStorage",
    "FileStorage",
    "MappingStorage",
    "TransactionRecord",
    "ZstdStorage",
    "copy",
]
