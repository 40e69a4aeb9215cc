"""The name of a record's class, read without importing the class."""

import io
import pickle
from typing import Any

from perdure._native import verify_memo

__all__ = ["get_pickle_metadata"]


class _ClassName:
    """Stands for a class while a class description is read without importing it."""

    def __init__(self, module: str, name: str) -> None:
        self.names = module, name

    def __call__(self, *_args: object) -> "_ClassName":
        return self


class _ClassNameUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return _ClassName(module, name)

    def persistent_load(self, _reference: object) -> object:
        return None


def get_pickle_metadata(data: bytes) -> tuple[str, str]:
    """Return the module and name of the class of the record *data*.

    Nothing is imported.  Two empty strings are returned when the beginning of
    the record is no class description.
    """
    try:
        verify_memo(data)
        described = _ClassNameUnpickler(io.BytesIO(data)).load()
    except Exception:  # noqa: BLE001 - garbage makes pickle raise anything
        return "", ""
    if isinstance(described, tuple) and described:
        described = described[0]
    if isinstance(described, _ClassName):
        return described.names
    if isinstance(described, tuple) and len(described) == 2:
        return str(described[0]), str(described[1])
    return "", ""
