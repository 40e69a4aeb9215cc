"""What transactions are annotated with, as storages keep it: pickles of plain values."""

import io
import pickle
from collections.abc import Callable
from typing import Any, Final

from perdure import _native

__all__ = ["extension_bytes_of", "extension_of"]

_EXTENSION_GLOBALS: Final = {
    ("_codecs", "encode"),
    ("builtins", "complex"),
    ("builtins", "dict"),
    ("builtins", "frozenset"),
    ("builtins", "set"),
    ("__builtin__", "frozenset"),
    ("__builtin__", "set"),
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "time"),
    ("datetime", "timedelta"),
    ("datetime", "timezone"),
    ("decimal", "Decimal"),
}


def _unless_sized(kind: type[bytes] | type[bytearray]) -> Callable[..., Any]:
    """Return what makes a *kind* of values; a number of zeros, which no pickler asks for, is refused."""

    def made(*given: Any) -> Any:
        if given and isinstance(given[0], int):
            raise pickle.UnpicklingError(f"{kind.__name__} of a size in a transaction's extension")
        return kind(*given)

    return made


_EXTENSION_BYTES: Final = {
    ("zodbpickle", "binary"): _unless_sized(bytes),
    ("builtins", "bytearray"): _unless_sized(bytearray),
}


class _ExtensionUnpickler(pickle.Unpickler):
    """Reads what a transaction was annotated with, and runs nothing that it names."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _EXTENSION_BYTES:
            return _EXTENSION_BYTES[module, name]
        if (module, name) not in _EXTENSION_GLOBALS:
            raise pickle.UnpicklingError(f"{module}.{name} in a transaction's extension")
        return super().find_class(module, name)


def extension_of(pickled: bytes) -> dict[str, Any]:
    """Return a transaction's extension as a dictionary.

    An empty one where there is none, or where it is not made of plain values:
    reading the annotations of a transaction never runs code that they name.
    """
    if not pickled:
        return {}
    try:
        # A seal behind the pickle has random bytes, which may look like anything.
        _native.verify_memo(pickled, only_first=True)
        found = _ExtensionUnpickler(io.BytesIO(pickled), encoding="latin-1").load()
    except Exception:  # noqa: BLE001 - garbage makes pickle, and what it may name, raise anything
        return {}
    return found if isinstance(found, dict) else {}


def extension_bytes_of(transaction: Any) -> bytes:
    """Return a transaction's extension as it is stored.

    Storages of others iterate over transactions that have it as a dictionary only.
    """
    pickled = getattr(transaction, "extension_bytes", None)
    if pickled is None:
        extension = getattr(transaction, "extension", None)
        pickled = pickle.dumps(extension, 3) if extension else b""
    return bytes(pickled)
