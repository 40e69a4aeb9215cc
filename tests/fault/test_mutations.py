"""Damaged input for the parsers that Python calls: an error of `perdure.errors`, nothing else.

`crates/sim` and `fuzz/` do the same for those of the engine. `make mutate` does it at length.
"""

import contextlib
import io
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import transaction
from tests.campaign import CAMPAIGN, SEED, report
from tests.storing import commit

import perdure
from perdure.errors import POSError

DATA = Path(__file__).parents[1] / "data"
TIMES = 300 * CAMPAIGN
PERSISTENT = b"\x80\x02cpersistent.mapping\nPersistentMapping\n."


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Change, cut, repeat or insert a few bytes."""
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(changed) + 1)
        size = dice.randrange(1, 9)
        piece = dice.choice([dice.randbytes(size), bytes(size), b"\xff" * size])
        kind = dice.randrange(4)
        if kind == 0:
            changed[at : at + size] = piece
        elif kind == 1:
            del changed[at : at + dice.randrange(1, 40)]
        elif kind == 2:
            start = dice.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + dice.randrange(1, 60)]
        else:
            changed[at:at] = piece
    return bytes(changed)


def _import(data: bytes) -> None:
    database = perdure.DB(None, class_policy=["sample_classes"])
    try:
        connection = database.open()
        with contextlib.suppress(POSError):
            connection.importFile(io.BytesIO(data))
        transaction.abort()
        connection.close()
    finally:
        database.close()


def _load(data: bytes) -> None:
    database = perdure.DB(None, class_policy=["sample_classes"])
    try:
        commit(database.storage, {7: data or PERSISTENT})
        connection = database.open()
        with contextlib.suppress(POSError):
            connection.get(perdure.Oid(bytes(7) + b"\x07"))._p_activate()
        connection.close()
    finally:
        database.close()


def _records() -> list[bytes]:
    with contextlib.closing(perdure.FileStorage(str(DATA / "basic.fs"), read_only=True)) as storage:
        return [record.data for txn in storage.iterator() for record in txn if record.data]


@pytest.mark.parametrize(
    ("parser", "parse", "seeds"),
    [
        ("export file", _import, lambda: [(DATA / "books.zexp").read_bytes()]),
        ("unpickler", _load, _records),
    ],
)
def test_damaged_input_is_an_error_of_this_package(
    parser: str, parse: Callable[[bytes], None], seeds: Callable[[], list[bytes]]
) -> None:
    dice = random.Random(SEED)
    known = seeds()
    for number in range(TIMES):
        data = mutated(dice.choice(known), dice)
        try:
            parse(data)
        except BaseException as error:
            raise AssertionError(f"seed {SEED}, number {number}: {data!r}") from error
    report("mutations", parser=parser, executions=TIMES)
