"""Looking after databases: checking, salvaging, copying, and finding out who refers to what."""

from perdure.maintenance.check import check, check_collection
from perdure.maintenance.copying import Copied, copy
from perdure.maintenance.recover import Lost, Recovered, recover
from perdure.maintenance.referrers import ReferenceIndex, refers_to
from perdure.maintenance.report import CheckReport, Finding, OtherReference, Step

__all__ = [
    "CheckReport",
    "Copied",
    "Finding",
    "Lost",
    "OtherReference",
    "Recovered",
    "ReferenceIndex",
    "Step",
    "check",
    "check_collection",
    "copy",
    "recover",
    "refers_to",
]
