"""Databases as commands are given them.

A source is a data file; or a description: a perdure.toml, a ZConfig file (`.conf`), a URI. Several
sources, NAME=FILE, or a description mean a collection.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import click

import perdure
from perdure.config import (
    data_files_of,
    is_described,
    members_of,
    missing_files_of,
    open_collection,
    storages_of,
)

__all__ = [
    "SOURCE",
    "Source",
    "chosen",
    "data_files",
    "is_collection",
    "is_described",
    "members",
    "oid_in",
    "opened",
    "single_data_file",
    "writable",
]

Source = Path | str
"""What `SOURCE` gives: the path of a file, or a URI."""


class _Source(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    """A path, NAME=FILE, or a URI, which is no path."""

    name = "source"

    def convert(self, value: Any, param: Any, ctx: Any) -> Source:
        if not isinstance(value, str):
            return Path(value)
        uri = is_described(value) and not value.endswith((".toml", ".conf"))
        return value if uri else Path(value)


SOURCE = _Source()


def oid_in(text: str) -> perdure.Oid:
    """Return the oid that is written in hexadecimal digits; UsageError for anything else."""
    try:
        return perdure.Oid(int(text.removeprefix("#"), 16).to_bytes(8, "big"))
    except (ValueError, OverflowError):
        raise click.UsageError(f"{text!r} is no oid such as 0x2a") from None


def is_collection(sources: Sequence[Source]) -> bool:
    """Tell whether arguments mean a collection, not one data file or folder."""
    return len(sources) != 1 or _is_named(sources[0]) or is_described(sources[0])


def _is_named(source: Source) -> bool:
    return isinstance(source, Path) and "=" in str(source)


def chosen(found: Any, member: str | None) -> Any:
    """Return the member of a collection that an option names, else the first one."""
    if member is None:
        return next(iter(found.values()))
    if member not in found:
        raise click.UsageError(f"no member {member!r} among {', '.join(found)}")
    return found[member]


def data_files(sources: Sequence[Source]) -> dict[str, perdure.DataFile]:
    """Return the members' data files, by name; a file without a name has its own, less suffix.

    Raises UsageError for a name that is given twice, ConfigurationError for a description that
    doesn't fit.
    """
    if len(sources) == 1 and is_described(sources[0]):
        return data_files_of(sources[0])
    found: dict[str, perdure.DataFile] = {}
    for source in sources:
        name, file = _named(source)
        if name in found:
            raise click.UsageError(f"two members are called {name!r}: give them as NAME=FILE")
        found[name] = file
    return found


def single_data_file(source: Source) -> perdure.DataFile:
    """Return the one data file that *source* is, or describes; UsageError for several."""
    if not is_described(source):
        return perdure.DataFile(Path(source))
    files = data_files_of(source)
    if len(files) != 1:
        raise click.UsageError(f"{source} describes {len(files)} databases: give one data file")
    return next(iter(files.values()))


def _named(source: Source) -> tuple[str, perdure.DataFile]:
    if is_described(source):
        raise click.UsageError(f"{source} is a description: give it alone, or NAME=FILE for each")
    name, equals, place = str(source).partition("=")
    if not equals:
        return Path(source).stem, perdure.DataFile(Path(source))
    path, comma, blobs = place.partition(",")
    return name, perdure.DataFile(Path(path), Path(blobs) if comma else None)


@contextmanager
def members(sources: Sequence[Source]) -> Iterator[dict[str, Any]]:
    """Give what to read of each member, by name: `DataFile`s, or storages opened read-only."""
    if len(sources) == 1 and is_described(sources[0]):
        with members_of(sources[0]) as found:
            yield found
    else:
        yield dict(data_files(sources))


@contextmanager
def opened(sources: Sequence[Source]) -> Iterator[dict[str, Any]]:
    """Give the members' storages, opened read-only, by name."""
    if len(sources) == 1 and is_described(sources[0]):
        with storages_of(sources[0]) as found:
            yield found
        return
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(closing(_storage(each, read_only=True)))
            for name, each in data_files(sources).items()
        }


@contextmanager
def writable(sources: Sequence[Source]) -> Iterator[perdure.Collection]:
    """Give the collection, opened for writing; members that don't exist are refused."""
    if len(sources) == 1 and is_described(sources[0]):
        for missing in missing_files_of(sources[0]):
            raise click.ClickException(f"{missing}: no such file")
        with open_collection(sources[0]) as collection:
            yield collection
        return
    files = data_files(sources)
    for name, file in files.items():
        if not file.path.is_file():
            raise click.ClickException(f"{file.path} (member {name!r}): no such file")
    with ExitStack() as stack:
        storages: dict[str, Any] = {}
        for name, file in files.items():
            storages[name] = _storage(file, read_only=False)
            stack.callback(storages[name].close)
        with perdure.Collection(storages) as collection:
            yield collection


def _storage(file: perdure.DataFile, *, read_only: bool) -> perdure.FileStorage:
    # A folder that isn't there isn't made for somebody who only reads.
    blobs = file.blob_dir if file.blob_dir and (file.blob_dir.is_dir() or not read_only) else None
    return perdure.FileStorage(
        str(file.path), read_only=read_only, blob_dir=str(blobs) if blobs else None
    )
