"""A database of which single bytes and bits are changed: found by the check, no crash on reading.

`make flip` changes every byte of a file of a megabyte, or as many as PERDURE_FLIP says; a usual run
a few bytes of a small one.
"""

import contextlib
import os
import random
from pathlib import Path

import pytest
from persistent.mapping import PersistentMapping
from tests.campaign import SEED, report

import perdure
from perdure.errors import NotADatabase, POSError

MANY = os.environ.get("PERDURE_FLIP", "")
BYTES = (1 << 20) if MANY else 20_000
FEW = 100
PARTS = 16 if MANY else 1
"""So that several processes can share the work."""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a closed database of a megabyte, or of a few kilobytes."""
    directory = tmp_path_factory.mktemp("flip")
    database = perdure.DB(str(directory / "Data.fs"))
    dice = random.Random(1)
    with database.transaction() as connection:
        for number in range(20):
            connection.root()[number] = PersistentMapping()
    while database.storage.getSize() < BYTES:
        with database.transaction() as connection:
            for _ in range(3):
                cell = connection.root()[dice.randrange(20)]
                cell["data"] = dice.randbytes(dice.randrange(3000 if MANY else 200))
    database.close()
    return directory


def _changes(size: int, part: int) -> list[tuple[int, int]]:
    """Return positions with the bits to flip there: all bytes or some, of one part of the file."""
    dice = random.Random(f"{SEED} {part}")
    place = range(size * part // PARTS, size * (part + 1) // PARTS)
    count = len(place) if MANY == "all" else int(MANY or FEW) // PARTS
    positions = place if count >= len(place) else sorted(dice.sample(place, count))
    return [(position, dice.randrange(1, 256)) for position in positions]


def _flipped(path: Path, position: int, mask: int) -> None:
    with path.open("r+b") as file:
        file.seek(position)
        (byte,) = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ mask]))


def _read(path: Path) -> None:
    """Load every object, unverified: no crash, whatever damaged states make of their classes."""
    with contextlib.suppress(Exception), contextlib.closing(_opened(path)) as database:
        connection = database.open()
        for cell in list(connection.root().values()):
            with contextlib.suppress(Exception):
                cell.get("data")
        connection.close()


def _are_right(path: Path, data: dict[int, dict[str, bytes]]) -> bool:
    """Tell whether all that verified reading gives is *data*; a POSError is a right answer, too."""
    with (
        contextlib.suppress(POSError),
        contextlib.closing(_opened(path, verify_reads=True)) as database,
    ):
        connection = database.open()
        root = connection.root()
        for number, right in data.items():
            with contextlib.suppress(POSError):
                if dict(root[number]) != right:
                    return False
        connection.close()
    return True


def _opened(path: Path, *, verify_reads: bool = False) -> perdure.DB:
    return perdure.DB(perdure.FileStorage(str(path), read_only=True, verify_reads=verify_reads))


def _data_in(path: Path) -> dict[int, dict[str, bytes]]:
    with contextlib.closing(_opened(path)) as database, database.transaction() as connection:
        return {number: dict(cell) for number, cell in connection.root().items()}


def _found(path: Path, position: int, mask: int) -> bool:
    _flipped(path, position, mask)
    try:
        _read(path)
        return not perdure.check(path).ok
    except NotADatabase:
        return True
    finally:
        _flipped(path, position, mask)


@pytest.mark.parametrize("part", range(PARTS))
def test_every_byte_that_is_changed_is_found_by_the_check(database: Path, part: int) -> None:
    path = database / "Data.fs"
    assert perdure.check(path).ok
    changes = _changes(path.stat().st_size, part)
    missed = [change for change in changes if not _found(path, *change)]
    assert missed == []
    report("bytes", size=path.stat().st_size, tried=len(changes), found=len(changes))


@pytest.mark.parametrize("part", range(PARTS))
def test_verified_reading_never_gives_anything_wrong(database: Path, part: int) -> None:
    path = database / "Data.fs"
    data = _data_in(path)
    assert _are_right(path, data)
    wrong = []
    changes = _changes(path.stat().st_size, part)
    for position, mask in changes:
        _flipped(path, position, mask)
        if not _are_right(path, data):
            wrong.append((position, mask))
        _flipped(path, position, mask)
    assert wrong == []
    report("bytes, verified", size=path.stat().st_size, tried=len(changes), right=len(changes))


def test_every_bit_of_a_header_that_is_flipped_is_found_by_the_check(database: Path) -> None:
    path = database / "Data.fs"
    with contextlib.closing(perdure.FileStorage(str(path), read_only=True)) as storage:
        newest = [record._tpos for record in list(storage.iterator())[-2:]]
    dice = random.Random(SEED)
    headers = [
        *((position, 1 << bit) for position in range(4) for bit in range(8)),
        *(
            (at + offset, 1 << bit)
            for at in newest
            for offset in range(23 + 42)
            for bit in range(8)
        ),
    ]
    few = dice.sample(headers, min(len(headers), int(FEW if MANY in {"", "all"} else MANY)))
    # A position that no file can reach is damage, too, and no error of the system.
    greatest = [(at + 23 + offset, 0x80) for at in newest for offset in (16, 24, 34)]
    tried = headers if MANY == "all" else [*few, *greatest]
    missed = [change for change in tried if not _found(path, *change)]
    assert missed == []
    report("bits of headers", tried=len(tried), found=len(tried))
