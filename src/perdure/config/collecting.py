"""Opening collections: what databases there are, which is the primary one, and routes."""

import contextlib
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from perdure.config._schemas import getDbSchema, load_file, load_url
from perdure.config._toml import read
from perdure.config._validate import problems
from perdure.config.opening import _DEFAULT_FILE, ENVIRONMENT_NAME
from perdure.sources import ConfigurationError, description_of, is_described, open_storage
from perdure.sources.uris import described_by_uri, is_uri

if TYPE_CHECKING:
    from perdure.db import DB, Collection

__all__ = ["collectionFromString", "collectionFromTOML", "collectionFromURL", "open_collection"]


def open_collection(
    source: Mapping[str, Any] | str | os.PathLike[str] | None = None,
    *,
    primary: str | None = None,
    routes: Mapping[Any, str] | None = None,
) -> "Collection":
    """Open the collection that *source* names.

    *source* is a mapping from names to databases, storages, paths, URIs (see
    `databaseFromURI`) or dicts with the keys of a database in `perdure.toml`; or a dict
    with the content of such a file; or the path of one, or of a ZConfig file (`.conf`).
    None: what the environment variable `PERDURE_URL` says, or else `perdure.toml` in the
    current folder.  *primary* and *routes* go before what it says itself.

    Raises ConfigurationError where that doesn't fit, what `Collection` raises, and what
    a storage raises that can't be opened; what was opened here is closed then.
    """
    if source is None:
        source = os.environ.get(ENVIRONMENT_NAME) or _DEFAULT_FILE
    if isinstance(source, Mapping):
        return _from_mapping(source, Path(), primary, routes)
    text = os.fspath(source)
    if is_uri(text):
        name, described = described_by_uri(text)
        return _from_mapping({name: described}, Path(), primary, routes)
    if text.endswith(".toml"):
        return _from_mapping(read(Path(text)), Path(text).parent, primary, routes)
    if text.endswith(".conf"):
        return _of_database(_opened_by_zconfig(load_url(getDbSchema(), text)), primary, routes)
    return _from_mapping({"unnamed": text}, Path(), primary, routes)


def collectionFromTOML(path: str | os.PathLike[str]) -> "Collection":
    """Open the collection that a TOML file describes; see `databaseFromTOML`."""
    return _from_mapping(read(Path(path)), Path(path).parent, None, None)


def collectionFromString(s: str) -> "Collection":
    """Open the collection that a ZConfig text describes; see `databaseFromString`."""
    file: IO[str] = io.StringIO(s)
    return _of_database(_opened_by_zconfig(load_file(getDbSchema(), file)), None, None)


def collectionFromURL(url: str) -> "Collection":
    """Open the collection described in ZConfig at *url*, a URL or a file's path."""
    return _of_database(_opened_by_zconfig(load_url(getDbSchema(), url)), None, None)


def _opened_by_zconfig(loaded: Any) -> "DB":
    from perdure.config import databaseFromConfig

    return databaseFromConfig(loaded.database)


def _of_database(
    database: "DB", primary: str | None, routes: Mapping[Any, str] | None
) -> "Collection":
    from perdure.db import Collection

    members = dict(database.databases)
    with contextlib.ExitStack() as on_failure:
        for member in members.values():
            on_failure.callback(member.close)
        made = Collection(members, primary=primary or database.database_name, routes=routes)
        on_failure.pop_all()
    return made


def _from_mapping(
    source: Mapping[str, Any],
    folder: Path,
    primary: str | None,
    routes: Mapping[Any, str] | None,
) -> "Collection":
    members = source
    if _is_content_of_file(source):
        for problem in problems(dict(source)):
            raise ConfigurationError(problem.message, key=".".join(problem.keys))
        members = source.get("databases") or {"unnamed": source["database"]}
        primary = primary or source.get("primary")
        routes = source.get("routes") if routes is None else routes
        if primary is not None and primary not in members:
            raise ConfigurationError(f"{primary!r} is no member", key="primary")
    from perdure.db import DB, Collection

    tied: dict[str, Any] = {}
    with contextlib.ExitStack() as on_failure:
        for name, member in members.items():
            if not is_described(member):
                continue
            options = description_of(member, name)
            storage = open_storage(options.pop("storage"), folder)
            on_failure.callback(storage.close)
            on_failure.callback(DB(storage, database_name=name, databases=tied, **options).close)
        given = {name: tied.get(name, member) for name, member in members.items()}
        first = next(iter(given), None)
        made = Collection(given, primary=primary or first, routes=routes)
        on_failure.pop_all()
    return made


def _is_content_of_file(source: Mapping[str, Any]) -> bool:
    return isinstance(source.get("databases"), Mapping) or (
        isinstance(source.get("database"), Mapping) and "storage" in source["database"]
    )
