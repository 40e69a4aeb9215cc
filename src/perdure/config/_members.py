"""The databases that a configuration or a URI describes, for tools that only read."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import ZConfig

from perdure.config._schemas import getDbSchema, getStorageSchema, load_url
from perdure.config._sections import Factory
from perdure.config._sections import FileStorage as FileSection
from perdure.config._toml import read
from perdure.config._validate import problems
from perdure.maintenance import DataFile
from perdure.sources import ConfigurationError, open_storage
from perdure.sources.uris import described_by_uri, is_uri

__all__ = [
    "data_files_of",
    "has_layers",
    "is_described",
    "members_of",
    "missing_files_of",
    "storages_of",
]

Source = str | os.PathLike[str]

_TRANSFORMING: Final = {"zlib", "zstd", "encrypting"}
"""Layers that keep all that they are given, in another form, in the storage below."""
_TRANSFORMING_SECTIONS: Final = {"ZlibStorage", "ServerZlibStorage", "ZstdStorage"} | {
    "EncryptingStorage"
}


def is_described(source: Source) -> bool:
    """Tell whether *source* is a URI, a `.toml` or a `.conf` file, not a data file itself."""
    text = os.fspath(source)
    return is_uri(text) or text.endswith((".toml", ".conf"))


def data_files_of(source: Source) -> dict[str, DataFile]:
    """Return the data file and the folder of blobs of each database that *source* describes.

    *source* is a URI, a `perdure.toml` or a ZConfig file (`.conf`). For a layer that compresses
    or encrypts it is the file below. Nothing is opened. Raises ConfigurationError where *source*
    doesn't fit, or a database isn't kept in a file.
    """
    return {name: each.data_file() for name, each in _described(source).items()}


def has_layers(source: Source) -> bool:
    """Tell whether a database that *source* describes is more than a data file; none is opened."""
    return not all(each.is_plain_file for each in _described(source).values())


def missing_files_of(source: Source) -> list[Path]:
    """Return the data files that *source* describes and that don't exist.

    The changes of an overlay, and files that may be made anew (`create`), don't count.
    """
    found = (path for each in _described(source).values() for path in each.files)
    return [path for path in found if not path.exists()]


@contextmanager
def members_of(source: Source) -> Iterator[dict[str, Any]]:
    """Give what to read of each database that *source* describes, by name.

    It is a `DataFile` where the storage is a plain file, which may be damaged, and else the
    storage, with the files below opened read-only. Raises what `storages_of` raises.
    """
    with ExitStack() as stack:
        members: dict[str, Any] = {}
        for name, each in _described(source).items():
            if each.is_plain_file:
                members[name] = each.data_file()
            else:
                members[name] = each.open(True)
                stack.callback(members[name].close)
        yield members


@contextmanager
def storages_of(source: Source, *, read_only: bool = True) -> Iterator[dict[str, Any]]:
    """Give the storages of the databases that *source* describes, by name.

    *source* is a URI, a `perdure.toml` or a ZConfig file (`.conf`). The files below all layers
    are opened read-only, unless *read_only* is false. Raises ConfigurationError where *source*
    doesn't fit, and what a storage raises that can't be opened.
    """
    with ExitStack() as stack:
        storages: dict[str, Any] = {}
        for name, each in _described(source).items():
            storages[name] = each.open(read_only)
            stack.callback(storages[name].close)
        yield storages


class _Described:
    """One database: how to open its storage, and where its data file is."""

    is_plain_file = False

    def __init__(self, opening: Callable[[bool], Any], data_file: Callable[[], DataFile]) -> None:
        self.files: list[Path] = []
        self.open = opening
        """Opens the storage; told whether it is to be read only."""
        self.data_file = data_file


def _described(source: Source) -> dict[str, _Described]:
    text = os.fspath(source)
    if is_uri(text):
        name, options = described_by_uri(text)
        for problem in problems({"databases": {name: options}}):
            raise ConfigurationError(problem.message, text, key=".".join(problem.keys[2:]))
        return {name: _by_options(name, options, text, Path())}
    if text.endswith(".conf"):
        return {
            section.config.database_name or section.name or "unnamed": _by_section(section, text)
            for section in _database_sections(text)
        }
    content = read(Path(text))
    databases = content.get("databases") or {"unnamed": content["database"]}
    return {
        name: _by_options(name, options, text, Path(text).parent)
        for name, options in databases.items()
    }


def _database_sections(text: str) -> Any:
    try:
        return load_url(getDbSchema(), text).database
    except ZConfig.ConfigurationError:
        if not _is_of_storage(text):
            raise
    raise ConfigurationError(
        "it describes a storage alone: put that between <zodb> and </zodb>", text
    )


def _is_of_storage(text: str) -> bool:
    try:
        load_url(getStorageSchema(), text)
    except ZConfig.ConfigurationError:
        return False
    return True


def _by_options(name: str, options: Mapping[str, Any], source: str, folder: Path) -> _Described:
    storage = options["storage"]
    described = _Described(
        lambda read_only: open_storage(_read_only(storage) if read_only else storage, folder),
        lambda: _data_file(name, storage, source, folder),
    )
    described.is_plain_file = storage["type"] == "file"
    described.files = list(_files(storage, folder))
    return described


def _files(storage: Mapping[str, Any], folder: Path) -> Iterator[Path]:
    if storage["type"] == "file" and not storage.get("create"):
        yield folder / storage["path"]
    if "base" in storage:
        yield from _files(storage["base"], folder)


def _data_file(name: str, storage: Mapping[str, Any], source: str, folder: Path) -> DataFile:
    while storage["type"] in _TRANSFORMING:
        storage = storage["base"]
    if storage["type"] != "file":
        raise ConfigurationError(
            f"a storage of type {storage['type']!r} has no data file of its own",
            source,
            key=f"databases.{name}.storage",
        )
    blob_dir = storage.get("blob_dir")
    return DataFile(folder / storage["path"], folder / blob_dir if blob_dir else None)


def _read_only(storage: Mapping[str, Any]) -> dict[str, Any]:
    changed = dict(storage)
    if storage["type"] == "file":
        changed["read_only"] = True
    for below in ("base", "changes"):
        if below in storage:
            changed[below] = _read_only(storage[below])
    return changed


def _by_section(database: Any, source: str) -> _Described:
    section = database.config.storage
    described = _Described(
        lambda read_only: _open_section(section, read_only),
        lambda: _file_of_section(section, source),
    )
    described.is_plain_file = isinstance(section, FileSection)
    described.files = [
        Path(each.config.path)
        for each in _sections(section)
        if isinstance(each, FileSection) and each.name != "changes" and not each.config.create
    ]
    return described


def _open_section(section: Any, read_only: bool) -> Any:
    for each in _sections(section) if read_only else ():
        if isinstance(each, FileSection):
            each.config.read_only = True
    return section.open()


def _sections(section: Any) -> Iterator[Any]:
    """Give a storage's section and those in it."""
    yield section
    inside = [getattr(section.config, name, None) for name in ("base", "changes")]
    inside += getattr(section.config, "factories", None) or ()
    for each in inside:
        if isinstance(each, Factory):
            yield from _sections(each)


def _file_of_section(section: Any, source: str) -> DataFile:
    while type(section).__name__ in _TRANSFORMING_SECTIONS:
        section = section.config.base
    if not isinstance(section, FileSection):
        kind = type(section).__name__
        raise ConfigurationError(f"a {kind} has no data file of its own", source)
    blob_dir = section.config.blob_dir
    return DataFile(Path(section.config.path), Path(blob_dir) if blob_dir else None)
