"""Databases and storages from text."""

from pathlib import Path as _Path

from perdure.config import (
    databaseFromConfig,
    databaseFromFile,
    databaseFromString,
    databaseFromURL,
    getDbSchema,
    getStorageSchema,
    storageFromConfig,
    storageFromFile,
    storageFromString,
    storageFromURL,
)
from perdure.config._sections import (
    BlobStorage,
    DemoStorage,
    FileStorage,
    MappingStorage,
    ZEOClient,
    ZODBDatabase,
    importable_name,
)
from perdure.config._sections import Factory as BaseConfig

db_schema_path = str(_Path(__file__).with_name("config.xml"))
s_schema_path = str(_Path(__file__).with_name("storage.xml"))
