"""A database whose every transaction changes all of it, so that a half one can't be overlooked."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import transaction

import perdure
from perdure.blob import is_blob_record
from perdure.storage.encrypting import EncryptingStorage
from perdure.storage.zlib import ZlibStorage

__all__ = [
    "CELLS",
    "back_up",
    "backup_problems",
    "check_blobs",
    "check_whole",
    "create",
    "lose",
    "opened",
    "read",
    "read_of",
    "restore",
    "write",
    "write_of",
]

CELLS = 5
LAYERS: dict[str, Callable[[Any], Any]] = {
    "sealed": lambda base: EncryptingStorage(base, bytes(32)),
    "zipped": ZlibStorage,
}
"""Names of databases that have a layer over their file."""


def opened(
    directory: Path,
    names: tuple[str, ...],
    *,
    blobs: bool = False,
    routes: Mapping[Any, str] | None = None,
) -> "contextlib.AbstractContextManager[Any]":
    """Give a `with` block a connection to the first of the databases, which are tied together."""
    return _opened(directory, names, blobs, routes)


@contextlib.contextmanager
def _opened(
    directory: Path, names: tuple[str, ...], blobs: bool, routes: Mapping[Any, str] | None
) -> Iterator[Any]:
    databases: dict[str, Any] = {}
    try:
        for name in names:
            blob_dir = str(directory / f"{name}.blobs") if blobs else None
            storage = perdure.FileStorage(str(directory / f"{name}.fs"), blob_dir=blob_dir)
            layer = LAYERS.get(name, lambda base: base)
            perdure.DB(layer(storage), database_name=name, databases=databases)
        if routes is not None:
            perdure.Collection(databases, routes=routes)
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


def lose(directory: Path, names: tuple[str, ...]) -> None:
    """Lose an object of every database that the root object of the one before it refers to."""
    with opened(directory, names) as connection:
        jars = [connection.get_connection(name) for name in names]
        lost = [perdure.PersistentMapping() for _jar in jars]
        for jar, obj in zip(jars, lost, strict=True):
            jar.add(obj)
        transaction.commit()
        # Nothing refers to them yet.
        assert perdure.Collection(connection.db().databases).gc().total >= len(lost)
        transaction.begin()
        for jar, obj in zip(jars, [*lost[1:], lost[0]], strict=True):
            jar.db().check_references = False
            jar.root()["lost"] = obj
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


def write_of(connection: Any, names: tuple[str, ...], thread: int, value: int) -> None:
    """Put *value* into every cell that a thread has in every database."""
    transaction.get().note(f"value {value} of {thread}")
    for name in names:
        root = connection.get_connection(name).root()
        for cell in root.setdefault(f"thread {thread}", _cells()):
            cell["value"] = value
            cell["more"] = [value] * (1 + value % 50)


def _cells() -> list[Any]:
    return [perdure.PersistentMapping() for _ in range(CELLS)]


def read_of(connection: Any, names: tuple[str, ...], thread: int) -> int | None:
    """Return the value that all cells of a thread hold, None where it has none; they agree."""
    roots = [connection.get_connection(name).root() for name in names]
    found = {
        (cell["value"], len(cell["more"]))
        for root in roots
        for cell in root.get(f"thread {thread}", [{"value": None, "more": [None]}])
    }
    assert len(found) == 1, f"half a transaction: thread {thread} of {names} holds {found}"
    value: int | None = found.pop()[0]
    return value


def check_whole(connection: Any, names: tuple[str, ...]) -> None:
    """Check the files of all databases with their checksums, and what leads from one to another."""
    if len(names) > 1:
        for found in perdure.Collection(connection.db().databases).check().values():
            assert found.ok, str(found)
    for name in names:
        report = perdure.check(connection.get_connection(name).db())
        assert report.ok, str(report)


def _content(value: int, number: int) -> bytes:
    return b"%d in %d\n" % (value, number) * 300


def check_blobs(connection: Any, names: tuple[str, ...]) -> None:
    """Each revision of a blob has its file, and there are no other files."""
    for name in names:
        storage = connection.get_connection(name).db().storage
        wanted = {
            Path(storage.loadBlob(record.oid, record.tid))
            for each in storage.iterator()
            for record in each
            if is_blob_record(record.data)
        }
        assert wanted
        assert set(Path(storage.blob_dir).rglob("*.blob")) == wanted


def back_up(
    directory: Path, names: tuple[str, ...], *, blobs: bool = False, full: bool = False
) -> None:
    """Add what is new in the databases to the backup in `backup`."""
    folder = directory / "backup"
    if len(names) > 1:
        perdure.backup_collection(_files(directory, names), folder, full=full)
        return
    (name,) = names
    blob_dir = directory / f"{name}.blobs" if blobs else None
    perdure.backup(directory / f"{name}.fs", folder, blob_dir=blob_dir, full=full)


def backup_problems(directory: Path, names: tuple[str, ...]) -> list[str]:
    """Return what is wrong with the backup."""
    folder = directory / "backup"
    if len(names) > 1:
        return perdure.verify_collection_backup(folder)
    return perdure.verify_backup(folder)


def restore(directory: Path, names: tuple[str, ...], target: str, *, blobs: bool = False) -> Path:
    """Make the databases of the backup anew, in the directory *target*, which is returned."""
    new = directory / target
    if len(names) > 1:
        perdure.restore_collection(directory / "backup", new)
        return new
    new.mkdir(exist_ok=True)
    (name,) = names
    blob_dir = new / f"{name}.blobs" if blobs else None
    perdure.restore(directory / "backup", new / f"{name}.fs", blob_dir=blob_dir)
    return new


def _files(directory: Path, names: tuple[str, ...]) -> dict[str, Path]:
    return {name: directory / f"{name}.fs" for name in names}
