"""What the URIs of databases say."""

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

from perdure.sources.errors import ConfigurationError

__all__ = ["described_by_uri", "is_uri"]

_URI: Final = re.compile(r"(file|memory|demo):|[a-z][a-z0-9+.-]+://")
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


def is_uri(text: str) -> bool:
    """Tell whether *text* is meant as a URI, if not as one that is known here."""
    return _URI.match(text) is not None


def described_by_uri(uri: str) -> tuple[str, dict[str, Any]]:
    """Return the name of the database and the keys that a URI gives for it.

    Raises ConfigurationError for one that names no database.
    """
    try:
        return _described(uri)
    except ConfigurationError:
        raise
    except (RuntimeError, ValueError) as error:  # no such user, layers without end, no such host
        raise ConfigurationError(f"is no URI of a database: {error}", uri) from error


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
    if text.isdecimal() and text.isascii() and text not in ("0", "1"):
        return int(text)
    lower = text.lower()
    if lower in ("0", "1"):
        return int(text)
    if lower in _TRUE:
        return True
    return False if lower in _FALSE else text
