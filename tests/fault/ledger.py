"""A database whose every transaction changes all of it, so that a half one can't be overlooked."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import transaction

import perdure

__all__ = ["CELLS", "check_whole", "create", "opened", "read", "write"]

CELLS = 5


def opened(
    directory: Path, names: tuple[str, ...], *, blobs: bool = False
) -> "contextlib.AbstractContextManager[Any]":
    """Give a `with` block a connection to the first of the databases, which are tied together."""
    return _opened(directory, names, blobs)


@contextlib.contextmanager
def _opened(directory: Path, names: tuple[str, ...], blobs: bool) -> Iterator[Any]:
    databases: dict[str, Any] = {}
    try:
        for name in names:
            blob_dir = str(directory / f"{name}.blobs") if blobs else None
            storage = perdure.FileStorage(str(directory / f"{name}.fs"), blob_dir=blob_dir)
            perdure.DB(storage, database_name=name, databases=databases)
        connection = databases[names[0]].open()
        try:
            yield connection
        finally:
            transaction.abort()
            connection.close()
    finally:
        for database in databases.values():
            database.close()


def create(directory: Path, names: tuple[str, ...], *, blobs: bool = False) -> None:
    """Make the databases, with the value 0 and something that garbage collection will remove."""
    with opened(directory, names, blobs=blobs) as connection:
        write(connection, names, 0, blobs=blobs)
        transaction.commit()


def write(connection: Any, names: tuple[str, ...], value: int, *, blobs: bool = False) -> None:
    """Put *value* into every cell of every database; what was there becomes garbage."""
    transaction.get().note(f"value {value}")
    for name in names:
        root = connection.get_connection(name).root()
        for number in range(CELLS):
            cell = root.get(number)
            if cell is None:
                cell = root[number] = perdure.PersistentMapping()
            cell["value"] = value
            cell["more"] = perdure.PersistentList([value] * (1 + number * value % 50))
            if blobs:
                cell.setdefault("blob", perdure.Blob())
                with cell["blob"].open("w") as file:
                    file.write(_content(value, number))


def read(connection: Any, names: tuple[str, ...], *, blobs: bool = False) -> int | None:
    """Return the value that all cells hold, or None in new databases; they agree."""
    found: set[int | None] = set()
    for name in names:
        root = connection.get_connection(name).root()
        if not root:
            found.add(None)
        for number in range(CELLS if root else 0):
            cell = root[number]
            value: int = cell["value"]
            assert list(cell["more"]) == [value] * (1 + number * value % 50)
            if blobs:
                with cell["blob"].open("r") as file:
                    assert file.read() == _content(value, number)
            found.add(value)
    assert len(found) == 1, f"half a transaction: {names} hold {found}"
    return found.pop()


def check_whole(connection: Any, names: tuple[str, ...]) -> None:
    """Check the files of all databases, with their checksums."""
    for name in names:
        report = perdure.check(connection.get_connection(name).db())
        assert report.ok, str(report)


def _content(value: int, number: int) -> bytes:
    return b"%d in %d\n" % (value, number) * 300
