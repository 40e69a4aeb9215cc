"""Where the members of a collection keep their data."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Final, NamedTuple

from perdure._folders import sync_folder
from perdure._targets import require_folder
from perdure.errors import Unsupported
from perdure.storage._transforming import TransformingStorage
from perdure.storage.file import FileStorage

__all__ = ["DataFile", "data_files", "require_names", "take_name", "written_privately"]

_OF_ANOTHER: Final = (".index", ".pindex", ".psums", ".psums_pack", ".refs")
"""What stands beside a data file and tells of that one alone."""


class DataFile(NamedTuple):
    """A data file and its folder of blobs, if there is one."""

    path: Path
    blob_dir: Path | None = None

    @classmethod
    def of(cls, given: Any) -> "DataFile":
        """Return what a path, or a `DataFile` of paths of any kind, stands for."""
        path, blob_dir = given if isinstance(given, DataFile) else (given, None)
        return cls(Path(path), Path(blob_dir) if blob_dir else None)


def data_files(members: Mapping[str, Any]) -> dict[str, DataFile]:
    """Return the files of databases, storages, paths of data files, or `DataFile`s.

    A layer that transforms records leads to the file below it. Raises Unsupported, naming the
    member, where there is no file, and ValueError for no members.
    """
    if not members:
        raise ValueError("a collection has at least one member")
    return {name: _data_file(name, member) for name, member in members.items()}


def _data_file(name: str, member: Any) -> DataFile:
    if isinstance(member, (str, os.PathLike, DataFile)):
        return DataFile.of(member)
    storage = getattr(member, "storage", member)
    while isinstance(storage, TransformingStorage):
        storage = storage.base
    if not isinstance(storage, FileStorage):
        raise Unsupported(
            f"member {name!r} ({storage!r}) has no data file of its own to back up: copy it "
            "(perdure.copy) instead"
        )
    blob_dir = Path(storage.blob_dir) if storage.blob_dir else None
    return DataFile(Path(storage._file_name), blob_dir)


def require_names(wanted: Iterable[str], given: Iterable[str], what: str) -> None:
    """Raise ValueError unless both have the same names."""
    missing, unknown = sorted(set(wanted) - set(given)), sorted(set(given) - set(wanted))
    if missing:
        raise ValueError(f"{what}: nothing is given for {', '.join(map(repr, missing))}")
    if unknown:
        raise ValueError(f"{what}: there is no member {', '.join(map(repr, unknown))}")


def written_privately(path: Path, instead_of: Path | None = None) -> IO[bytes]:
    """Open a file for writing, which no others than owner and group may read, as a data file.

    Where it will take the name *instead_of*, errors tell that one: it is what was asked for.
    """
    try:
        return open(path, "wb", opener=lambda name, flags: os.open(name, flags, 0o660))
    except OSError as error:
        require_folder(instead_of or path)
        raise OSError(error.errno, error.strerror, str(instead_of or path)) from error


def take_name(written: Path, path: Path) -> None:
    """Give a new data file its name, durably, where there may have been another of that name.

    What stood beside that one goes before: by its checksums, the new one would be taken for cut.
    """
    for suffix in _OF_ANOTHER:
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    sync_folder(path.parent)
    written.replace(path)
    sync_folder(path.parent)
