"""Collections as commands are given them: a perdure.toml, or NAME=FILE for each member."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import click

import perdure
from perdure.config import data_files_of_toml, members_of_toml

__all__ = ["data_files", "is_collection", "members", "opened"]


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
    if len(sources) == 1 and _is_toml(sources[0]):
        with members_of_toml(sources[0]) as found:
            yield found
    else:
        yield {name: file.path for name, file in data_files(sources).items()}


@contextmanager
def opened(sources: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Give the members' storages, opened read-only, by name."""
    with members(sources) as found, ExitStack() as stack:
        yield {
            name: stack.enter_context(closing(perdure.FileStorage(str(each), read_only=True)))
            if isinstance(each, Path)
            else each
            for name, each in found.items()
        }
