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
import ZConfig
from tests.campaign import CAMPAIGN, SEED, report
from tests.storing import commit

import perdure
from perdure.config import ConfigurationError, databaseFromString, databaseFromTOML
from perdure.errors import POSError

DATA = Path(__file__).parents[1] / "data"
TIMES = 300 * CAMPAIGN
PERSISTENT = b"\x80\x02cpersistent.mapping\nPersistentMapping\n."


TOML = [
    b'[database]\nstorage = { type = "memory" }\ncache_size = 100\n',
    b"""[databases.main]
routes = ["app.models"]
[databases.main.storage]
type = "zlib"
record_bytes_max = 1_000
base = { type = "memory", name = "x" }

[databases.other.storage]
type = "demo"
base = { type = "memory" }
changes = { type = "memory" }
""",
]
TEXTS = [
    b"<zodb main>\n cache-size 100\n pool-timeout 1h\n <mappingstorage>\n </mappingstorage>\n</zodb>",
    b"""%define size 10MB
<zodb>
  large-record-size $size
  <demostorage>
    <mappingstorage base>
    </mappingstorage>
    <mappingstorage changes>
    </mappingstorage>
  </demostorage>
</zodb>
""",
]


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


def _configure_by_toml(data: bytes) -> None:
    path = Path("perdure.toml")
    path.write_bytes(data)
    with contextlib.suppress(ConfigurationError):
        databaseFromTOML(path).close()


def _configure_by_text(data: bytes) -> None:
    with contextlib.suppress(ConfigurationError, ZConfig.ConfigurationError):
        databaseFromString(data.decode("latin-1")).close()


def _restore(data: bytes) -> None:
    """The bytes are the manifest of a backup."""
    folder = Path("backup")
    if not folder.exists():
        with perdure.DB("Data.fs") as database, database.transaction() as connection:
            connection.root.value = 1
        perdure.backup("Data.fs", folder)
    (folder / "manifest.json").write_bytes(data)
    with contextlib.suppress(POSError):
        perdure.verify_backup(folder)
    with contextlib.suppress(POSError):
        perdure.restore(folder, "restored.fs")
    for file in Path().glob("restored.fs*"):
        file.unlink()


def _manifests() -> list[bytes]:
    with perdure.DB("seed.fs") as database, database.transaction() as connection:
        connection.root.value = 1
    perdure.backup("seed.fs", "seed")
    return [Path("seed", "manifest.json").read_bytes()]


@pytest.mark.parametrize(
    ("parser", "parse", "seeds"),
    [
        ("export file", _import, lambda: [(DATA / "books.zexp").read_bytes()]),
        ("unpickler", _load, _records),
        ("perdure.toml", _configure_by_toml, lambda: TOML),
        ("configuration text", _configure_by_text, lambda: TEXTS),
        ("backup manifest", _restore, _manifests),
    ],
)
def test_damaged_input_is_an_error_of_this_package(
    parser: str,
    parse: Callable[[bytes], None],
    seeds: Callable[[], list[bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    dice = random.Random(SEED)
    known = seeds()
    for number in range(TIMES):
        data = mutated(dice.choice(known), dice)
        try:
            parse(data)
        except BaseException as error:
            raise AssertionError(f"seed {SEED}, number {number}: {data!r}") from error
    report("mutations", parser=parser, executions=TIMES)
