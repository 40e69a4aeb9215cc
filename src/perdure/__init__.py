"""perdure: an object database for Python.

Objects persist transparently, in as many databases as you like, under one
transaction::

    import perdure, transaction

    connection = perdure.connection("Data.fs")
    connection.root.greeting = "hello"
    transaction.commit()
"""

from persistent import Persistent
from persistent.list import PersistentList
from persistent.mapping import PersistentMapping

from perdure.blob import Blob
from perdure.connection import Connection, resetCaches
from perdure.db import DB, Collection, connection
from perdure.ids import Oid, Tid
from perdure.lost import LostObject
from perdure.maintenance import (
    DataFile,
    Inspector,
    References,
    backup,
    backup_collection,
    check,
    check_collection,
    copy,
    copy_collection,
    is_backup_of_collection,
    recover,
    refers_to,
    restore,
    restore_collection,
    verify_backup,
    verify_collection_backup,
)
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
