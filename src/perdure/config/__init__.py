"""Open databases and storages that a text configuration (ZConfig) describes.

    >>> from perdure.config import databaseFromString
    >>> db = databaseFromString('''
    ... <zodb>
    ...   cache-size-bytes 100MB
    ...   <mappingstorage/>
    ... </zodb>
    ... ''')
    >>> db.close()

Several ``zodb`` sections with names make a collection: the first database is
returned, the others are in its ``databases``. Sections of other packages come in by
``%import``, as in ``%import ZEO``.

Every function raises ``ZConfig.ConfigurationError`` with file name and line for text
that doesn't fit, and whatever the storage raises that can't be opened.
"""

import io
from collections.abc import Iterable, MutableMapping
from typing import IO, TYPE_CHECKING, Any

import ZConfig

from perdure.config._members import (
    data_files_of,
    has_layers,
    is_described,
    members_of,
    missing_files_of,
    storages_of,
)
from perdure.config._schemas import getDbSchema, getStorageSchema, load_file, load_url
from perdure.config._sections import Factory, ZODBDatabase
from perdure.config.collecting import (
    collectionFromString,
    collectionFromTOML,
    collectionFromURL,
    open_collection,
)
from perdure.config.opening import databaseFromTOML, databaseFromURI, open_database
from perdure.sources import ConfigurationError

if TYPE_CHECKING:
    from perdure.db import DB

__all__ = [
    "ConfigurationError",
    "Factory",
    "ZODBDatabase",
    "collectionFromString",
    "collectionFromTOML",
    "collectionFromURL",
    "data_files_of",
    "databaseFromConfig",
    "databaseFromFile",
    "databaseFromString",
    "databaseFromTOML",
    "databaseFromURI",
    "databaseFromURL",
    "getDbSchema",
    "getStorageSchema",
    "has_layers",
    "is_described",
    "members_of",
    "missing_files_of",
    "open_collection",
    "open_database",
    "storageFromConfig",
    "storageFromFile",
    "storageFromString",
    "storageFromURL",
    "storages_of",
]


def databaseFromString(s: str) -> "DB":
    """Return the first database that the configuration text *s* describes.

    *s* holds one ``zodb`` section or more; all that it describes are opened and tied
    into one collection, the ``databases`` of the one returned.
    """
    return databaseFromFile(io.StringIO(s))


def databaseFromFile(f: IO[str]) -> "DB":
    """Return the first database that the open text file *f* describes.

    See `databaseFromString`. ``%include`` and the errors' file name go by *f*'s
    ``name``, where it has one.
    """
    return databaseFromConfig(load_file(getDbSchema(), f).database)


def databaseFromURL(url: str) -> "DB":
    """Return the first database described at *url*, a URL or a file's path.

    See `databaseFromString`.
    """
    return databaseFromConfig(load_url(getDbSchema(), url).database)


def databaseFromConfig(database_factories: Iterable[ZODBDatabase]) -> "DB":
    """Open all of *database_factories* as one collection and return the first.

    The factories are what a loaded configuration has for its ``zodb`` sections. When
    one fails to open, those before it are closed again.
    """
    databases: MutableMapping[str, Any] = {}
    opened: list[DB] = []
    routes: dict[str, str] = {}
    try:
        for factory in database_factories:
            _require_new_name(factory, databases)
            opened.append(factory.open(databases))
            _add_routes(routes, factory, opened[-1].database_name)
        if routes:
            opened[0]._route(routes)
    except BaseException:
        for db in opened:
            db.close()
        raise
    return opened[0]


class _SameNameError(ZConfig.ConfigurationError, ValueError):
    """Two sections describe databases of one name: ZODB raises ValueError."""


def _require_new_name(factory: ZODBDatabase, databases: MutableMapping[str, Any]) -> None:
    # Sections of other packages may not tell how the database will be called.
    name = getattr(factory, "database_name", None)
    if name in databases:
        raise _SameNameError(
            f"two sections describe a database {name!r}: give each a name of its own, as in "
            "<zodb NAME>"
        )


def _add_routes(routes: dict[str, str], factory: ZODBDatabase, database_name: str) -> None:
    # Sections of other packages may be databases without this key.
    for name in getattr(factory.config, "routes", ()):
        if name in routes:
            raise ZConfig.ConfigurationError(
                f"{name!r} is routed to two databases, {routes[name]!r} and {database_name!r}"
            )
        routes[name] = database_name


def storageFromString(s: str) -> Any:
    """Return the storage that the one section in the configuration text *s* describes."""
    return storageFromFile(io.StringIO(s))


def storageFromFile(f: IO[str]) -> Any:
    """Return the storage that the open text file *f* describes."""
    return storageFromConfig(load_file(getStorageSchema(), f).storage)


def storageFromURL(url: str) -> Any:
    """Return the storage described at *url*, a URL or a file's path."""
    return storageFromConfig(load_url(getStorageSchema(), url).storage)


def storageFromConfig(section: Factory) -> Any:
    """Open the storage of *section*, what a loaded configuration has for a storage."""
    return section.open()
