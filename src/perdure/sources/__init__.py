"""Descriptions of databases: URIs, and dicts with the keys of a database in `perdure.toml`."""

from collections.abc import Mapping
from typing import Any

from perdure.sources.errors import ConfigurationError
from perdure.sources.schema import problems
from perdure.sources.storages import open_storage
from perdure.sources.uris import described_by_uri, is_uri

__all__ = ["ConfigurationError", "description_of", "is_described", "open_storage"]


def is_described(source: object) -> bool:
    """Tell whether *source* is a URI or a dict, not the storage or the path itself."""
    return isinstance(source, Mapping) or (isinstance(source, str) and is_uri(source))


def description_of(source: str | Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the keys that *source*, a URI or a dict, gives for the database *name*.

    `storage` is what `open_storage` takes, the rest are arguments of `DB`. Raises
    ConfigurationError for a URI or a key that doesn't fit.
    """
    described = described_by_uri(source)[1] if isinstance(source, str) else dict(source)
    for problem in problems({"databases": {name: described}}):
        raise ConfigurationError(problem.message, key=".".join(problem.keys))
    return described
