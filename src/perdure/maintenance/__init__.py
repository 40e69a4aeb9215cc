"""Looking after databases: checking, salvaging, copying, and finding out who refers to what."""

from perdure.maintenance._places import DataFile
from perdure.maintenance.backup import BackedUp, backup, restore, verify_backup
from perdure.maintenance.backup_collection import (
    CollectionBackedUp,
    CollectionRestored,
    backup_collection,
    is_backup_of_collection,
    restore_collection,
    verify_collection_backup,
)
from perdure.maintenance.check import check
from perdure.maintenance.check_collection import check_collection
from perdure.maintenance.copy_collection import CollectionCopied, copy_collection
from perdure.maintenance.copying import Copied, copy
from perdure.maintenance.inspection import Inspected, Inspector, Made, ObjectReference
from perdure.maintenance.recover import Lost, Recovered, recover
from perdure.maintenance.references import Dangling, ObjectPlace, References, Referrer
from perdure.maintenance.referrers import ReferenceIndex, refers_to
from perdure.maintenance.report import CheckReport, Finding, OtherReference, Step

__all__ = [
    "BackedUp",
    "CheckReport",
    "CollectionBackedUp",
    "CollectionCopied",
    "CollectionRestored",
    "Copied",
    "Dangling",
    "DataFile",
    "Finding",
    "Inspected",
    "Inspector",
    "Lost",
    "Made",
    "ObjectPlace",
    "ObjectReference",
    "OtherReference",
    "Recovered",
    "ReferenceIndex",
    "References",
    "Referrer",
    "Step",
    "backup",
    "backup_collection",
    "check",
    "check_collection",
    "copy",
    "copy_collection",
    "is_backup_of_collection",
    "recover",
    "refers_to",
    "restore",
    "restore_collection",
    "verify_backup",
    "verify_collection_backup",
]
