"""Collections as commands are given them: a perdure.toml, or NAME=FILE for each member."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import click

import perdure
from perdure.config import data_files_of_toml, members_of_toml, open_collection

__all__ = ["data_files", "is_collection", "members", "oid_in", "opened", "writable"]


def oid_in(text: str) -> perdure.Oid:
    """Return the oid that is written in hexadecimal digits; UsageError for anything else."""
    try:
        return perdure.Oid(int(text.removeprefix("#"), 16).to_bytes(8, "big"))
    except (ValueError, OverflowError):
        raise click.UsageError(f"{text!r} is no oid such as 0x2a") from None


def is_collection(sources: Sequence[Path]) -> bool:
    """Tell whether arguments mean a collection, not one data file or folder."""
    return len(sources) != 1 or "=" in str(sources[0]) or _is_toml(sources[0])


def _is_toml(source: Path) -> bool:
    return source.suffix == ".toml"


def data_files(sources: Sequence[Path]) -> dict[str, perdure.DataFile]:
    """Return the members' data files, by name; a file without a name has its own, less suffix.

    Raises UsageError for a name that is given twice, ConfigurationError for a perdure.toml that
    doesn't fit.
    """
    if len(sources) == 1 and _is_toml(sources[0]):
        return data_files_of_toml(sources[0])
    found: dict[str, perdure.DataFile] = {}
    for source in sources:
        name, file = _named(source)
        if name in found:
            raise click.UsageError(f"two members are called {name!r}: give them as NAME=FILE")
        found[name] = file
    return found


def _named(source: Path) -> tuple[str, perdure.DataFile]:
    name, equals, place = str(source).partition("=")
    if not equals:
        return source.stem, perdure.DataFile(source)
    path, comma, blobs = place.partition(",")
    return name, perdure.DataFile(Path(path), Path(blobs) if comma else None)


@contextmanager
def members(sources: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Give what to read of each member, by name: paths, or storages opened read-only."""
    with _described(sources) as found:
        yield found


@contextmanager
def opened(sources: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Give the members' storages, opened read-only, by name."""
    with _described(sources) as found, ExitStack() as stack:
        yield {
            name: stack.enter_context(closing(_storage(each, read_only=True)))
            if isinstance(each, perdure.DataFile)
            else each
            for name, each in found.items()
        }


@contextmanager
def writable(sources: Sequence[Path]) -> Iterator[perdure.Collection]:
    """Give the collection, opened for writing; members that don't exist are refused."""
    if len(sources) == 1 and _is_toml(sources[0]):
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


@contextmanager
def _described(sources: Sequence[Path]) -> Iterator[dict[str, Any]]:
    if len(sources) == 1 and _is_toml(sources[0]):
        with members_of_toml(sources[0]) as found:
            yield found
    else:
        yield dict(data_files(sources))


def _storage(file: perdure.DataFile, *, read_only: bool) -> perdure.FileStorage:
    # A folder that isn't there isn't made for somebody who only reads.
    blobs = file.blob_dir if file.blob_dir and (file.blob_dir.is_dir() or not read_only) else None
    return perdure.FileStorage(
        str(file.path), read_only=read_only, blob_dir=str(blobs) if blobs else None
    )
