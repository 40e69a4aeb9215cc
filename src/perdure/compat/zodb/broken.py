"""Stand-ins for objects whose class can't be imported."""

from perdure.broken import (
    Broken,
    BrokenModified,
    PersistentBroken,
    broken_cache,
    find_global,
    persistentBroken,
    rebuild,
)
from perdure.compat._names import known_as
from perdure.interfaces import IBroken

known_as(__name__, Broken, BrokenModified, PersistentBroken, find_global, persistentBroken, rebuild)
