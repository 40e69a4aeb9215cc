"""From objects to records and back."""

from typing import Any

from perdure import serialize as _own
from perdure.serialize import ObjectReader, get_refs, referencesf

from ._compat import _protocol

_oidtypes = bytes, type(None)


class ObjectWriter(_own.ObjectWriter):
    """Makes records of *obj* and of new objects that it refers to."""

    def __init__(self, obj: Any = None) -> None:
        jar: Any = None if obj is None else obj._p_jar
        super().__init__(jar)
        if obj is not None:
            self._new.append(obj)


def myhasattr(obj: object, name: str, _marker: object = object()) -> bool:
    """Tell whether *obj* has the attribute, with errors other than its absence raised."""
    return getattr(obj, name, _marker) is not _marker
