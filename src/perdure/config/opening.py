"""Opening databases that `perdure.toml`, a URI or the environment describes."""

import os
import re
from typing import TYPE_CHECKING, Final

from perdure.config._validate import problems
from perdure.sources import ConfigurationError
from perdure.sources.uris import described_by_uri

if TYPE_CHECKING:
    from perdure.db import DB

__all__ = ["ENVIRONMENT_NAME", "databaseFromTOML", "databaseFromURI", "open_database"]

ENVIRONMENT_NAME: Final = "PERDURE_URL"
"""The environment variable that names the database to open."""

_DEFAULT_FILE: Final = "perdure.toml"


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


def databaseFromURI(uri: str) -> "DB":
    """Open the database that a URI names.

    `file:///path/Data.fs`, `memory://name`, and `demo:(BASE)/(CHANGES)` with the URIs of both
    layers. Options follow a `?` (after `demo:…`, a `#`): `database_name`, those of a
    database and of its storage as in `perdure.toml`, and `demostorage` for changes in memory.
    Raises ConfigurationError for anything else.
    """
    name, options = described_by_uri(uri)
    for problem in problems({"databases": {name: options}}):
        key = ".".join(problem.keys[2:])
        raise ConfigurationError(problem.message, uri, key=key)
    from perdure.config.collecting import open_collection

    return open_collection({name: options}).primary
