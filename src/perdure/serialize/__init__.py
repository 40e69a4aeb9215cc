"""How objects become records and records become objects.

A record's data is two pickles of protocol 3: the class description, then the state. Other
persistent objects stand in the state as references (pickle's persistent ids):

- `oid` or `(oid, class)`: an object of the same database
- `['w', (oid,)]`, `['w', (oid, database)]`: a weak reference
- `['n', (database, oid)]`, `['m', (database, oid, class)]`: an object of another member
- `[oid]`: a weak reference of old, read and never written
"""

from perdure.serialize.connection_base import ConnectionBase
from perdure.serialize.reader import ObjectReader
from perdure.serialize.references import get_refs, referencesf
from perdure.serialize.writer import ObjectWriter

__all__ = ["ConnectionBase", "ObjectReader", "ObjectWriter", "get_refs", "referencesf"]
