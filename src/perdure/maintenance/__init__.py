"""Looking after databases: checking, salvaging, copying, and finding out who refers to what."""

from perdure._lazy import importing_late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from perdure.maintenance._places import DataFile
    from perdure.maintenance.backups import BackedUp, backup, restore, verify_backup
    from perdure.maintenance.checking import check
    from perdure.maintenance.collection_backups import (
        CollectionBackedUp,
        CollectionRestored,
        backup_collection,
        is_backup_of_collection,
        restore_collection,
        verify_collection_backup,
    )
    from perdure.maintenance.collection_check import check_collection
    from perdure.maintenance.collection_copy import CollectionCopied, copy_collection
    from perdure.maintenance.copying import Copied, copy
    from perdure.maintenance.inspection import Inspected, Inspector, Made, ObjectReference
    from perdure.maintenance.recovering import DamagedRecord, Lost, Recovered, recover
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
    "DamagedRecord",
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

_HOMES = {
    "BackedUp": "backups",
    "CheckReport": "report",
    "CollectionBackedUp": "collection_backups",
    "CollectionCopied": "collection_copy",
    "CollectionRestored": "collection_backups",
    "Copied": "copying",
    "DamagedRecord": "recovering",
    "Dangling": "references",
    "DataFile": "_places",
    "Finding": "report",
    "Inspected": "inspection",
    "Inspector": "inspection",
    "Lost": "recovering",
    "Made": "inspection",
    "ObjectPlace": "references",
    "ObjectReference": "inspection",
    "OtherReference": "report",
    "Recovered": "recovering",
    "ReferenceIndex": "referrers",
    "References": "references",
    "Referrer": "references",
    "Step": "report",
    "backup": "backups",
    "backup_collection": "collection_backups",
    "check": "checking",
    "check_collection": "collection_check",
    "copy": "copying",
    "copy_collection": "collection_copy",
    "is_backup_of_collection": "collection_backups",
    "recover": "recovering",
    "refers_to": "referrers",
    "restore": "backups",
    "restore_collection": "collection_backups",
    "verify_backup": "backups",
    "verify_collection_backup": "collection_backups",
}
__getattr__ = importing_late(
    __name__,
    {name: f"{__name__}.{module}" for name, module in _HOMES.items()},
    set(_HOMES.values()),
)
