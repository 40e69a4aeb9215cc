"""The standard `pickle`, set up for records.

Everything that a record may hold can be read and written this way; the native reader and writer
are held to give the same results.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any, Final

from perdure._names import stored_name
from perdure._native import verify_memo

PROTOCOL: Final = 3
"""The pickle protocol that records are written in."""

FindClass = Callable[[str, str], Any]
PersistentId = Callable[[Any], Any]
PersistentLoad = Callable[[Any], Any]


class RecordPickler(pickle.Pickler):
    """A pickler that asks *persistent_id* for the reference to write for an object, or None."""

    def __init__(
        self, file: io.BytesIO, persistent_id: PersistentId, protocol: int = PROTOCOL
    ) -> None:
        super().__init__(file, protocol)
        self._reference_of = persistent_id

    def persistent_id(self, obj: Any) -> Any:
        """Return the reference that stands for *obj* in the record; None: pickle it in place."""
        return self._reference_of(obj)


class RecordUnpickler(pickle.Unpickler):
    """An unpickler that gets classes from *find_class* and references from *persistent_load*."""

    def __init__(self, data: bytes, find_class: FindClass, persistent_load: PersistentLoad) -> None:
        verify_memo(data)
        super().__init__(io.BytesIO(data))
        self._class_of = find_class
        self._object_of = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        """Return the global that the record names."""
        return self._class_of(module, name)

    def persistent_load(self, pid: Any) -> Any:
        """Return the object that the reference *pid* stands for."""
        return self._object_of(pid)


class OldStringsUnpickler(pickle._Unpickler):
    """Reads what Python 2 wrote: strings that aren't ASCII are bytes."""

    def __init__(self, data: bytes, find_class: FindClass, persistent_load: PersistentLoad) -> None:
        super().__init__(io.BytesIO(data))
        self._class_of = find_class
        self._object_of = persistent_load

    def find_class(self, module: str, name: str) -> Any:
        """Return the global that the record names."""
        return self._class_of(module, name)

    def persistent_load(self, pid: Any) -> Any:
        """Return the object that the reference *pid* stands for."""
        return self._object_of(pid)

    def _decode_string(self, value: bytes) -> str | bytes:
        try:
            return value.decode("ascii")
        except UnicodeDecodeError:
            return value


def load_both(
    data: bytes, find_class: FindClass, persistent_load: PersistentLoad
) -> tuple[Any, Any]:
    """Return a record's class description and state."""
    try:
        unpickler = RecordUnpickler(data, find_class, persistent_load)
        return unpickler.load(), unpickler.load()
    except UnicodeDecodeError:
        old = OldStringsUnpickler(data, find_class, persistent_load)
        return old.load(), old.load()


def load_first(data: bytes, find_class: FindClass, persistent_load: PersistentLoad) -> Any:
    """Return a record's class description."""
    try:
        return RecordUnpickler(data, find_class, persistent_load).load()
    except UnicodeDecodeError:
        return OldStringsUnpickler(data, find_class, persistent_load).load()


def dump_both(description: Any, state: Any, persistent_id: PersistentId) -> bytes:
    """Return a record: the pickle of the class description, then that of the state."""
    file = io.BytesIO()
    pickler = RecordPickler(file, persistent_id)
    pickler.dump(description)
    start_of_state = file.tell()
    pickler.dump(state)
    data = file.getvalue()
    if b"cperdure." not in data:
        return data
    return b"".join(map(with_stored_names, (data[:start_of_state], data[start_of_state:])))


def dump_by_name(
    cls: type, arguments: tuple[Any, ...], state: Any, persistent_id: PersistentId
) -> bytes:
    """Return a record of a class that can't be imported, as `dump_both` would if it could."""
    module, name = stored_name(cls.__module__, cls.__name__)
    described = f"c{module}\n{name}\n".encode()
    if arguments:
        # Without its beginning and end, a pickle is what puts the value on the stack.
        described += _pickled(arguments, persistent_id)[2:-1] + pickle.TUPLE2
    return b"\x80\x03" + described + b"q\0." + _pickled(state, persistent_id)


def _pickled(value: Any, persistent_id: PersistentId) -> bytes:
    file = io.BytesIO()
    RecordPickler(file, persistent_id).dump(value)
    return with_stored_names(file.getvalue())


def with_stored_names(data: bytes) -> bytes:
    """Return a pickle with this package's names replaced by those that records carry."""
    # Late: it is large, and rarely needed.
    import pickletools

    parts: list[bytes] = []
    copied = 0
    for opcode, argument, position in pickletools.genops(data):
        if opcode.name != "GLOBAL" or position is None:
            continue
        module, name = str(argument).split(" ", 1)
        if not module.startswith("perdure."):
            continue
        end = position + 1 + len(f"{module}\n{name}\n".encode())
        module, name = stored_name(module, name)
        parts += [data[copied:position], f"c{module}\n{name}\n".encode()]
        copied = end
    return b"".join([*parts, data[copied:]])
