"""References from one record to others, read by the standard `pickle`.

No class is imported and nothing that a record names is run.
"""

from typing import Any

from perdure.ids import Oid
from perdure.serialize.pickling import load_both
from perdure.serialize.references import oid_of

__all__ = ["get_refs", "references"]


class _Inert:
    """Stands for whatever a record would make; nothing runs, everything is accepted."""

    def __new__(cls, *_args: Any, **_keywords: Any) -> Any:
        return object.__new__(cls)

    def __init__(self, *_args: Any, **_keywords: Any) -> None:
        pass

    def __call__(self, *_args: Any, **_keywords: Any) -> "_Inert":
        return _Inert()

    def __setstate__(self, _state: Any) -> None:
        pass

    def __setitem__(self, _key: Any, _value: Any) -> None:
        pass

    def append(self, _value: Any) -> None:
        """Accept an item of a list."""

    def extend(self, _values: Any) -> None:
        """Accept items of a list."""


def references(data: bytes) -> list[Any]:
    """Return the references in a record as they stand there, in order."""
    found: list[Any] = []
    names: dict[tuple[str, str], Any] = {}

    def note(reference: Any) -> _Inert:
        found.append(reference)
        return _Inert()

    def stand_in(module: str, name: str) -> Any:
        key = (module, name)
        if key not in names:
            names[key] = type(name, (_Inert,), {"__module__": module})
        return names[key]

    load_both(data, stand_in, note)
    return found


def get_refs(a_pickle: bytes) -> list[tuple[Oid, Any]]:
    """Return oid and class (None: not given) of the ordinary references in a record.

    Weak references and references to other databases are left out. The class is a stand-in that
    has the class's `__module__` and `__name__`, or a pair of names in old records.
    """
    result: list[tuple[Oid, Any]] = []
    for reference in references(a_pickle):
        if isinstance(reference, tuple):
            oid, cls = reference
            result.append((oid_of(oid), cls))
        elif isinstance(reference, (bytes, str)):
            result.append((oid_of(reference), None))
    return result
