"""Opening the demonstration's two databases as one collection."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import perdure

MARKER = "perdure-demo.txt"
MEMBERS = ("packages", "maintainers")


class DemoError(Exception):
    """The demonstration can't do what it was asked for; the message says why."""


class Demo(NamedTuple):
    """The two databases of the demonstration, members of one collection."""

    packages: Any
    """The `perdure.DB` that holds the packages and the indexes."""
    maintainers: Any
    """The `perdure.DB` that holds the maintainers."""


def data_file(directory: Path, member: str) -> Path:
    """Return where the data file of *member* is."""
    return directory / f"{member}.fs"


@contextmanager
def open_demo(directory: str | Path, *, create: bool = False) -> Iterator[Demo]:
    """Open what `perdure demo` left in *directory*, and close it at the end of the block.

    With *create*, what the data files hold is dropped. Raises `DemoError` where there is no
    demonstration database, `perdure.errors.StorageError` where another process has it open.
    """
    directory = Path(directory)
    files = [] if create else [data_file(directory, member) for member in MEMBERS]
    if not all(file.exists() for file in (directory / MARKER, *files)):
        raise DemoError(f"{directory} holds no demonstration: run `perdure demo {directory}` first")
    databases: dict[str, Any] = {}
    opened: list[Any] = []
    try:
        for member in MEMBERS:
            storage = perdure.FileStorage(str(data_file(directory, member)), create=create)
            opened.append(storage)
            opened[-1] = perdure.DB(storage, database_name=member, databases=databases)
        yield Demo(*opened)
    finally:
        for database in reversed(opened):
            database.close()
