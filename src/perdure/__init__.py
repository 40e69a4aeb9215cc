"""perdure: an object database for Python.

Objects persist transparently, in as many databases as you like, under one
transaction::

    import perdure, transaction

    connection = perdure.connection("Data.fs")
    connection.root.greeting = "hello"
    transaction.commit()
"""

import sys

from perdure._lazy import importing_late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from persistent import Persistent
    from persistent.list import PersistentList
    from persistent.mapping import PersistentMapping

    from perdure.blob import Blob
    from perdure.connection.connection import Connection
    from perdure.connection.snapshot import resetCaches
    from perdure.db.collection import Collection
    from perdure.db.database import DB, connection
    from perdure.ids import Oid, Tid
    from perdure.lost import LostObject
    from perdure.maintenance._places import DataFile
    from perdure.maintenance.backups import backup, restore, verify_backup
    from perdure.maintenance.checking import check
    from perdure.maintenance.collection_backups import (
        backup_collection,
        is_backup_of_collection,
        restore_collection,
        verify_collection_backup,
    )
    from perdure.maintenance.collection_check import check_collection
    from perdure.maintenance.collection_copy import copy_collection
    from perdure.maintenance.copying import copy
    from perdure.maintenance.inspection import Inspector
    from perdure.maintenance.recovering import recover
    from perdure.maintenance.references import References
    from perdure.maintenance.referrers import refers_to
    from perdure.storage import FileStorage, MappingStorage
    from perdure.timestamp import TimeStamp

__all__ = [
    "DB",
    "Blob",
    "Collection",
    "Connection",
    "DataFile",
    "FileStorage",
    "Inspector",
    "LostObject",
    "MappingStorage",
    "Oid",
    "Persistent",
    "PersistentList",
    "PersistentMapping",
    "References",
    "Tid",
    "TimeStamp",
    "backup",
    "backup_collection",
    "check",
    "check_collection",
    "connection",
    "copy",
    "copy_collection",
    "is_backup_of_collection",
    "recover",
    "refers_to",
    "resetCaches",
    "restore",
    "restore_collection",
    "verify_backup",
    "verify_collection_backup",
]

_HOMES = {
    "Blob": "perdure.blob",
    "Collection": "perdure.db",
    "Connection": "perdure.connection",
    "DB": "perdure.db",
    "DataFile": "perdure.maintenance",
    "FileStorage": "perdure.storage",
    "Inspector": "perdure.maintenance",
    "LostObject": "perdure.lost",
    "MappingStorage": "perdure.storage",
    "Oid": "perdure.ids",
    "Persistent": "persistent",
    "PersistentList": "persistent.list",
    "PersistentMapping": "persistent.mapping",
    "References": "perdure.maintenance",
    "Tid": "perdure.ids",
    "TimeStamp": "perdure.timestamp",
    "backup": "perdure.maintenance",
    "backup_collection": "perdure.maintenance",
    "check": "perdure.maintenance",
    "check_collection": "perdure.maintenance",
    "copy": "perdure.maintenance",
    "copy_collection": "perdure.maintenance",
    "is_backup_of_collection": "perdure.maintenance",
    "recover": "perdure.maintenance",
    "refers_to": "perdure.maintenance",
    "resetCaches": "perdure.connection",
    "restore": "perdure.maintenance",
    "restore_collection": "perdure.maintenance",
    "verify_backup": "perdure.maintenance",
    "verify_collection_backup": "perdure.maintenance",
}
_MODULES = (
    "blob", "broken", "classname", "conflict", "db", "errors", "exportimport", "ids",
    "interfaces", "invalidations", "lost", "maintenance", "mvcc", "persistentreference",
    "serialize", "storage", "timestamp", "utils",
)  # fmt: skip
__getattr__ = importing_late(__name__, _HOMES, _MODULES)


class _Package(type(sys)):  # type: ignore[misc]
    """This package: `perdure.connection` is the function, whoever imports the package inside."""

    @property
    def connection(self) -> "Any":
        from perdure.db import connection

        return connection

    @connection.setter
    def connection(self, _package: "ModuleType") -> None:
        """The import system tells of the package inside by setting it here."""


sys.modules[__name__].__class__ = _Package
