"""The members of a collection that `perdure.toml` describes, for tools that only read."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from perdure.config._toml import ConfigurationError, read
from perdure.config.opening import _storage
from perdure.maintenance import DataFile

__all__ = ["data_files_of_toml", "members_of_toml"]

_TRANSFORMING: Final = {"zlib", "zstd", "encrypting"}
"""Layers that keep all that they are given, in another form, in the storage below."""


def data_files_of_toml(path: str | os.PathLike[str]) -> dict[str, DataFile]:
    """Return the data file and the folder of blobs of each database that a TOML file describes.

    For a layer that compresses or encrypts it is the file below. Nothing is opened. Raises
    ConfigurationError for a file that doesn't fit, or a database that isn't kept in a file.
    """
    file = Path(path)
    return {
        name: _data_file(name, options["storage"], file)
        for name, options in _described(file).items()
    }


def _described(file: Path) -> Mapping[str, Any]:
    content = read(file)
    return content.get("databases") or {"unnamed": content["database"]}


def _data_file(name: str, storage: Mapping[str, Any], file: Path) -> DataFile:
    while storage["type"] in _TRANSFORMING:
        storage = storage["base"]
    if storage["type"] != "file":
        raise ConfigurationError(
            f"a storage of type {storage['type']!r} has no data file of its own",
            str(file),
            key=f"databases.{name}.storage",
        )
    blob_dir = storage.get("blob_dir")
    return DataFile(file.parent / storage["path"], file.parent / blob_dir if blob_dir else None)


@contextmanager
def members_of_toml(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Give what to read of each database that a TOML file describes, by name.

    It is a `DataFile` where the storage is a plain file, which may be damaged, and else the
    storage, with the file below opened read-only. Raises ConfigurationError for a file that doesn't fit.
    """
    file = Path(path)
    with ExitStack() as stack:
        members: dict[str, Any] = {}
        for name, options in _described(file).items():
            storage = options["storage"]
            if storage["type"] == "file":
                members[name] = _data_file(name, storage, file)
            else:
                members[name] = _storage(_read_only(storage), file.parent)
                stack.callback(members[name].close)
        yield members


def _read_only(storage: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(storage)
    if storage["type"] == "file":
        changed["read_only"] = True
    for below in ("base", "changes"):
        if below in storage:
            changed[below] = _read_only(storage[below])
    return changed
