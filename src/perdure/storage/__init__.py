"""Storages: what keeps the records of a database."""

from typing import TYPE_CHECKING

from perdure._lazy import importing_late
from perdure.storage.base import BaseStorage, copy
from perdure.storage.engine import EngineStorage
from perdure.storage.file import FileStorage
from perdure.storage.mapping import MappingStorage
from perdure.storage.records import DataRecord, TransactionRecord

if TYPE_CHECKING:
    from perdure.storage.encrypting import EncryptingStorage
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

__getattr__ = importing_late(
    __name__,
    {
        "EncryptingStorage": "perdure.storage.encrypting",
        "ZstdStorage": "perdure.storage.zstd",
    },
    ("encrypting", "zstd"),
)
