"""Opening databases that `perdure.toml`, a URI or the environment describes."""

import os
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from perdure.blob import BlobStorage
from perdure.config._toml import ConfigurationError
from perdure.config._validate import problems
from perdure.storage.before import BeforeStorage
from perdure.storage.demo import DemoStorage, DemoStorage2
from perdure.storage.encrypting import EncryptingStorage
from perdure.storage.file import FileStorage
from perdure.storage.mapping import MappingStorage
from perdure.storage.zlib import ZlibStorage
from perdure.storage.zstd import ZstdStorage

if TYPE_CHECKING:
    from perdure.db import DB

__all__ = ["ENVIRONMENT_NAME", "databaseFromTOML", "databaseFromURI", "open_database"]

ENVIRONMENT_NAME: Final = "PERDURE_URL"
"""The environment variable that names the database to open."""

_DEFAULT_FILE: Final = "perdure.toml"
_OLD_NAMES: Final = {
    "connection_cache_size": "cache_size",
    "connection_cache_size_bytes": "cache_size_bytes",
    "connection_pool_size": "pool_size",
    "connection_pool_timeout": "pool_timeout",
    "blobstorage_dir": "blob_dir",
}
_DEMO: Final = re.compile(r"demo:\((?P<base>.*)\)/\((?P<changes>.*)\)(?:[#?](?P<options>.*))?$")
_OF_FILES: Final = {
    "blob_dir",
    "create",
    "read_only",
    "quota",
    "pack_gc",
    "pack_keep_old",
    "verify_reads",
    "record_bytes_max",
}
_TRUE: Final = {"1", "true", "yes", "on", "t", "y", ""}
_FALSE: Final = {"0", "false", "no", "off", "f", "n"}


def open_database(source: str | os.PathLike[str] | None = None) -> "DB":
    """Open the database that *source* names.

    *source* is a URI (see `databaseFromURI`), or the path of a `.toml` file (see
    `databaseFromTOML`) or of a data file. None: what the environment variable `PERDURE_URL` says,
    or else `perdure.toml` in the current folder. Raises ConfigurationError where that doesn't fit.
    """
    if source is None:
        source = os.environ.get(ENVIRONMENT_NAME) or _DEFAULT_FILE
    text = os.fspath(source)
    if re.match(r"[a-z][a-z0-9+.-]+:", text):
        return databaseFromURI(text)
    if text.endswith(".toml"):
        return databaseFromTOML(text)
    from perdure.db import DB

    return DB(text)


def databaseFromTOML(path: str | os.PathLike[str]) -> "DB":
    """Open what a TOML file describes; return the first of its databases, or the primary one.

    The others are in its `databases`, and the file's routes hold. Paths are relative to the file's folder. Raises
    ConfigurationError, which names file, line and key, for a file that doesn't fit, and whatever
    a storage raises that can't be opened; what was opened before is closed then.
    """
    from perdure.config.collecting import collectionFromTOML

    return collectionFromTOML(path).primary


def _storage(options: Mapping[str, Any], folder: Path) -> Any:
    """Open a storage with the layers below it; where one can't be opened, close the others."""
    with ExitStack() as on_failure:
        layers: dict[str, Any] = {}
        for name in ("base", "changes"):
            if name in options:
                layers[name] = _storage(options[name], folder)
                on_failure.callback(layers[name].close)
        rest = {key: value for key, value in options.items() if key not in ("type", *layers)}
        storage = _layer(options["type"], layers, rest, folder)
        on_failure.pop_all()
    return storage


def _layer(kind: str, layers: Mapping[str, Any], rest: dict[str, Any], folder: Path) -> Any:
    if "blob_dir" in rest:
        rest["blob_dir"] = str(folder / rest["blob_dir"])
    if kind == "file":
        return FileStorage(str(folder / rest.pop("path")), **rest)
    if kind == "memory":
        return MappingStorage(**rest)
    if kind == "demo":
        return DemoStorage(**layers, **rest)
    if kind == "demo2":
        return DemoStorage2(**layers)
    return _over(kind, layers["base"], rest, folder)


def _over(kind: str, base: Any, rest: dict[str, Any], folder: Path) -> Any:
    if kind == "blobs":
        return BlobStorage(rest["blob_dir"], base)
    if kind == "before":
        return BeforeStorage(base, rest.get("before"))
    if kind == "zlib":
        return ZlibStorage(base, **rest)
    if kind == "encrypting":
        return _encrypting(base, rest, folder)
    if "dictionaries" in rest:
        rest["dictionaries"] = folder / rest["dictionaries"]
    return ZstdStorage(base, **rest)


def _encrypting(base: Any, rest: dict[str, Any], folder: Path) -> EncryptingStorage:
    keys = [folder / name for name in (rest.pop("key_file"), *rest.pop("old_key_files", ()))]
    if "clear_directory" in rest:
        rest["clear_directory"] = folder / rest["clear_directory"]
    return EncryptingStorage(base, keys, **rest)


def databaseFromURI(uri: str) -> "DB":
    """Open the database that a URI names.

    `file:///path/Data.fs`, `memory://name`, and `demo:(BASE)/(CHANGES)` with the URIs of both
    layers. Options follow a `?` (after `demo:…`, a `#`): `database_name`, those of a
    database and of its storage as in `perdure.toml`, and `demostorage` for changes in memory.
    Raises ConfigurationError for anything else.
    """
    name, options = _described(uri)
    for problem in problems({"databases": {name: options}}):
        key = ".".join(problem.keys[2:])
        raise ConfigurationError(problem.message, uri, key=key)
    from perdure.config.collecting import open_collection

    return open_collection({name: options}).primary


def _described(uri: str) -> tuple[str, dict[str, Any]]:
    demo = _DEMO.match(uri)
    if demo is not None:
        layers = [_described(demo[name])[1]["storage"] for name in ("base", "changes")]
        storage = {"type": "demo", "base": layers[0], "changes": layers[1]}
        return _with_options(storage, demo["options"] or "")
    parts = urlsplit(uri)
    place = unquote(parts.netloc + parts.path)
    if parts.scheme == "file" and place:
        return _with_options({"type": "file", "path": str(Path(place).expanduser())}, parts.query)
    if parts.scheme == "memory":
        return _with_options({"type": "memory", "name": place.strip("/") or "memory"}, parts.query)
    raise ConfigurationError(
        "is no URI of a database: file:///path/Data.fs, memory://name, demo:(BASE)/(CHANGES)", uri
    )


def _with_options(storage: dict[str, Any], query: str) -> tuple[str, dict[str, Any]]:
    database: dict[str, Any] = {}
    name, demo = "unnamed", False
    for given, text in parse_qsl(query, keep_blank_values=True):
        key = _OLD_NAMES.get(given, given)
        if key == "database_name":
            name = text
        elif key == "demostorage":
            demo = _value(text) is not False
        elif key in _OF_FILES:
            storage[key] = text if key == "blob_dir" else _value(text)
        else:
            database[key] = _value(text)
    if demo:
        storage = {"type": "demo", "base": storage}
    return name, {"storage": storage} | database


def _value(text: str) -> Any:
    """Return the number or truth value that the text stands for, else the text."""
    if text.isdigit() and text not in ("0", "1"):
        return int(text)
    lower = text.lower()
    if lower in ("0", "1"):
        return int(text)
    if lower in _TRUE:
        return True
    return False if lower in _FALSE else text
