"""How objects become records and records become objects.

A record's data is two pickles of protocol 3: the class description, then the state. Other
persistent objects stand in the state as references (pickle's persistent ids):

- `oid` or `(oid, class)`: an object of the same database
- `['w', (oid,)]`, `['w', (oid, database)]`: a weak reference
- `['n', (database, oid)]`, `['m', (database, oid, class)]`: an object of another member
- `[oid]`: a weak reference of old, read and never written
"""

from typing import TYPE_CHECKING

from perdure import _native
from perdure._lazy import importing_late
from perdure.serialize.connection_base import ConnectionBase
from perdure.serialize.references import referencesf

if TYPE_CHECKING:
    from perdure.serialize.reader import ObjectReader
    from perdure.serialize.standard_references import get_refs

if TYPE_CHECKING or _native.native_objects():
    ObjectWriter = _native.ObjectWriter
else:
    from perdure.serialize.writer import StandardObjectWriter as ObjectWriter

__all__ = ["ConnectionBase", "ObjectReader", "ObjectWriter", "get_refs", "referencesf"]

__getattr__ = importing_late(
    __name__,
    {
        "ObjectReader": "perdure.serialize.reader",
        "get_refs": "perdure.serialize.standard_references",
    },
)
