"""Storages: what keeps the records of a database."""

from typing import TYPE_CHECKING

from perdure._lazy import importing_late
from perdure.storage.engine import EngineStorage
from perdure.storage.file import FileStorage

if TYPE_CHECKING:
    from perdure.storage.base import BaseStorage, copy
    from perdure.storage.encrypting import EncryptingStorage
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

_HOMES = {
    "BaseStorage": "base",
    "DataRecord": "records",
    "EncryptingStorage": "encrypting",
    "MappingStorage": "mapping",
    "TransactionRecord": "records",
    "ZstdStorage": "zstd",
    "copy": "base",
}
__getattr__ = importing_late(
    __name__,
    {name: f"{__name__}.{module}" for name, module in _HOMES.items()},
    set(_HOMES.values()),
)
