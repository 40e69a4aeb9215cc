"""References from one record to others, read without making the objects.

No class is imported and nothing that a record names is run.
"""

from perdure import _native
from perdure.ids import Oid

__all__ = ["all_own_references", "oid_of", "referencesf"]


def oid_of(value: bytes | str) -> Oid:
    """Return an oid from a reference; one written under Python 2 may come as ASCII text."""
    return Oid(value.encode("ascii") if isinstance(value, str) else value)


def referencesf(p: bytes, oids: list[Oid] | None = None) -> list[Oid]:
    """Return the oids that a record refers to, added to *oids* if given.

    Weak references and references to other databases are left out.
    """
    try:
        found = _native.references(p)
    except ValueError:
        # What is unusual (or damaged) is for `pickle` to read (or to complain about).
        from perdure.serialize.standard_references import get_refs

        found = [oid for oid, _ in get_refs(p)]
    if oids is None:
        return found
    oids += found
    return oids


def all_own_references(data: bytes) -> list[Oid]:
    """Return the oids that a record refers to within its database, weakly too."""
    try:
        found = _native.all_references(data)
    except ValueError:
        # Unusual: what `pickle` can read of it has no weak references of today's forms.
        from perdure.serialize.standard_references import get_refs

        return [oid for oid, _ in get_refs(data)]
    return [oid for kind, oid, database in found if kind != "other" and database is None]
