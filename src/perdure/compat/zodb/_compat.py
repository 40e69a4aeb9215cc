"""Pickling as stock ZODB sets it up, on the standard `pickle`."""

import io
import pickle
from collections.abc import Callable
from typing import Any

FILESTORAGE_MAGIC = b"FS30"
HIGHEST_PROTOCOL = 3
_protocol = 3

FindGlobal = Callable[[str, str], Any]


class _Nothing:
    """Stands for whatever an object that isn't made would be."""

    def __new__(cls, *_args: Any, **_keywords: Any) -> Any:
        return super().__new__(cls)

    def __init__(self, *_args: Any, **_keywords: Any) -> None:
        """Take anything."""

    def __call__(self, *_args: Any, **_keywords: Any) -> "_Nothing":
        return self

    def __setstate__(self, _state: Any) -> None:
        """Take any state."""

    def __setitem__(self, _key: Any, _value: Any) -> None:
        """Take any item."""

    def append(self, _value: Any) -> None:
        """Take any item."""

    def extend(self, _values: Any) -> None:
        """Take any items."""


def _stand_in(_module: str, _name: str) -> Any:
    return _Nothing


class Pickler(pickle.Pickler):
    """A pickler whose ``persistent_id`` can be set on the instance."""

    def __init__(self, f: Any, protocol: int | None = None) -> None:
        super().__init__(f, HIGHEST_PROTOCOL if protocol is None else protocol)


class Unpickler(pickle.Unpickler):
    """An unpickler whose ``find_global`` and ``persistent_load`` can be set."""

    find_global: FindGlobal | None = None

    def __init__(self, f: Any) -> None:
        super().__init__(f, encoding="ASCII", errors="surrogateescape")

    def find_class(self, modulename: str, name: str) -> Any:
        """Return the object called *name* in a module, by ``find_global`` if it is set."""
        if self.find_global is not None:
            return self.find_global(modulename, name)
        if (modulename, name) == ("zodbpickle", "binary"):
            return bytes
        return super().find_class(modulename, name)

    def noload(self) -> None:
        """Read an object and make none: only ``persistent_load`` is called."""
        found, self.find_global = self.find_global, _stand_in
        try:
            self.load()
        finally:
            self.find_global = found


def dump(o: object, f: Any, protocol: int | None = None) -> None:
    """Pickle *o* to the file *f*."""
    Pickler(f, protocol).dump(o)


def dumps(o: object, protocol: int | None = None) -> bytes:
    """Return *o*, pickled."""
    file = io.BytesIO()
    dump(o, file, protocol)
    return file.getvalue()


def loads(s: bytes) -> Any:
    """Return the object that *s* is the pickle of."""
    return Unpickler(io.BytesIO(s)).load()


def PersistentPickler(persistent_id: Callable[[Any], Any], *args: Any, **kwargs: Any) -> Pickler:
    """Return a `Pickler` that asks *persistent_id* for the references to write."""
    pickler = Pickler(*args, **kwargs)
    pickler.persistent_id = persistent_id  # type: ignore[method-assign]
    return pickler


def PersistentUnpickler(
    find_global: FindGlobal | None,
    load_persistent: Callable[[Any], Any] | None,
    *args: Any,
    **kwargs: Any,
) -> Unpickler:
    """Return an `Unpickler` that asks these two for classes and referenced objects."""
    unpickler = Unpickler(*args, **kwargs)
    if find_global is not None:
        unpickler.find_global = find_global
    if load_persistent is not None:
        unpickler.persistent_load = load_persistent  # type: ignore[method-assign]
    return unpickler


def ascii_bytes(x: str | bytes) -> bytes:
    """Return *x*, text in ASCII, as bytes."""
    return x.encode("ascii") if isinstance(x, str) else x
