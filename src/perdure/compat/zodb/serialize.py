"""From objects to records and back."""

from typing import Any

from persistent import Persistent
from persistent.wref import WeakRef, WeakRefMarker

from perdure import broken
from perdure import serialize as _own
from perdure.errors import InvalidObjectReference, POSError, StateLoadError
from perdure.serialize import ObjectReader, get_refs, referencesf

from ._compat import PersistentPickler, PersistentUnpickler, _protocol

binary = bytes

_oidtypes = bytes, type(None)


class ObjectWriter(_own.ObjectWriter):
    """Makes records of *obj* and of new objects that it refers to."""

    def __new__(cls, obj: Any = None) -> Any:
        """Make a writer for the connection of *obj*, which is the first to be written."""
        self = super().__new__(cls, None if obj is None else obj._p_jar)
        if obj is not None:
            self.put(obj)
        return self


def myhasattr(obj: object, name: str, _marker: object = object()) -> bool:
    """Tell whether *obj* has the attribute, with errors other than its absence raised."""
    return getattr(obj, name, _marker) is not _marker
