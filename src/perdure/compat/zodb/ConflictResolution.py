"""Merging two changes of one object."""

from perdure._merging import _class_cache, _unresolvable, find_global, logger
from perdure.compat._names import known_as
from perdure.conflict import (
    BadClass,
    BadClassName,
    ConflictResolvingStorage,
    IPersistentReference,
    PersistentReference,
    PersistentReferenceFactory,
    tryToResolveConflict,
)
from perdure.errors import ConflictError

known_as(__name__, ConflictResolvingStorage, PersistentReference)
