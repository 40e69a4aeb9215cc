"""Looking after databases: checking, salvaging, copying, and finding out who refers to what."""

from perdure.maintenance.backup import BackedUp, backup, restore, verify_backup
from perdure.maintenance.check import check, check_collection
from perdure.maintenance.copying import Copied, copy
from perdure.maintenance.inspection import Inspected, Inspector, Made, ObjectReference
from perdure.maintenance.recover import Lost, Recovered, recover
from perdure.maintenance.referrers import ReferenceIndex, refers_to
from perdure.maintenance.report import CheckReport, Finding, OtherReference, Step

__all__ = [
    "BackedUp",
    "CheckReport",
    "Copied",
    "Finding",
    "Inspected",
    "Inspector",
    "Lost",
    "Made",
    "ObjectReference",
    "OtherReference",
    "Recovered",
    "ReferenceIndex",
    "Step",
    "backup",
    "check",
    "check_collection",
    "copy",
    "recover",
    "refers_to",
    "restore",
    "verify_backup",
]
