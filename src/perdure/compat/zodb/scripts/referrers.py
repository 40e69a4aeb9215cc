"""Tell which records refer to which objects."""

from typing import Any

from perdure.ids import Oid, Tid
from perdure.serialize import referencesf


def referrers(storage: Any) -> dict[Oid, list[tuple[Oid, Tid]]]:
    """Return, for each object referred to, oid and tid of the records that do."""
    found: dict[Oid, list[tuple[Oid, Tid]]] = {}
    for transaction in storage.iterator():
        for record in transaction:
            for oid in referencesf(record.data) if record.data else ():
                found.setdefault(oid, []).append((record.oid, record.tid))
    return found
