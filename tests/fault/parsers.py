"""The parsers of Python's side, to be given bytes that nobody wrote: see `PARSERS`.

`test_mutations.py` gives them damaged seeds, `fuzz/python.py` what coverage leads to. Those of
the engine stand in `crates/sim/src/hostile.rs`. Files are made in the current directory.
"""

import contextlib
import io
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import transaction
import ZConfig
from tests.storing import commit

import perdure
from perdure.config import ConfigurationError, databaseFromString, databaseFromTOML
from perdure.errors import POSError

DATA = Path(__file__).parents[1] / "data"
PERSISTENT = b"\x80\x02cpersistent.mapping\nPersistentMapping\n."
OID = perdure.Oid(bytes(7) + b"\x07")
# A database in memory keeps all revisions: it is made anew after so many.
REVISIONS_MAX = 1000

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


class _Database:
    """A database in memory, and a connection whose records may be of a few classes only."""

    def __init__(self) -> None:
        self.database = perdure.DB(None, class_policy=["sample_classes"])
        self.connection = self.database.open()
        self.revisions = 0

    def close(self) -> None:
        transaction.abort()
        self.connection.close()
        self.database.close()


class _Parser(ABC):
    """What several inputs are given to, one after another."""

    def __init__(self) -> None:
        self._kept: _Database | None = None

    @abstractmethod
    def __call__(self, data: bytes) -> None:
        """Parse the bytes; whatever is wrong with them is an error of this package, and ignored."""

    def _database(self) -> _Database:
        if self._kept is None or self._kept.revisions > REVISIONS_MAX:
            self.close()
            self._kept = _Database()
        self._kept.revisions += 1
        return self._kept

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


class ExportFile(_Parser):
    """The bytes are an export file."""

    def __call__(self, data: bytes) -> None:
        connection = self._database().connection
        with contextlib.suppress(POSError):
            connection.importFile(io.BytesIO(data))
        transaction.abort()


class Unpickler(_Parser):
    """The bytes are a record."""

    def __call__(self, data: bytes) -> None:
        kept = self._database()
        commit(kept.database.storage, {7: data or PERSISTENT})
        kept.connection.sync()
        with contextlib.suppress(POSError):
            kept.connection.get(OID)._p_activate()
        kept.connection.cacheMinimize()


class Toml(_Parser):
    """The bytes are a `perdure.toml`."""

    def __call__(self, data: bytes) -> None:
        path = Path("perdure.toml")
        path.write_bytes(data)
        with contextlib.suppress(ConfigurationError):
            databaseFromTOML(path).close()


class ConfigurationText(_Parser):
    """The bytes are a configuration of ZConfig."""

    def __call__(self, data: bytes) -> None:
        with contextlib.suppress(ConfigurationError, ZConfig.ConfigurationError):
            databaseFromString(data.decode("latin-1")).close()


class Manifest(_Parser):
    """The bytes are the manifest of a backup."""

    def __call__(self, data: bytes) -> None:
        folder = Path("backup")
        if not folder.exists():
            _backup(folder)
        (folder / "manifest.json").write_bytes(data)
        with contextlib.suppress(POSError):
            perdure.verify_backup(folder)
        with contextlib.suppress(POSError):
            perdure.restore(folder, "restored.fs")
        for file in Path().glob("restored.fs*"):
            file.unlink()


def _backup(folder: Path) -> None:
    with perdure.DB("Data.fs") as database, database.transaction() as connection:
        connection.root.value = 1
    perdure.backup("Data.fs", folder)


def _manifests() -> list[bytes]:
    _backup(Path("seed"))
    return [Path("seed", "manifest.json").read_bytes()]


def _records() -> list[bytes]:
    with contextlib.closing(perdure.FileStorage(str(DATA / "basic.fs"), read_only=True)) as storage:
        return [record.data for txn in storage.iterator() for record in txn if record.data]


class Target(NamedTuple):
    """A parser, and what a writer of such files writes."""

    parser: Callable[[], _Parser]
    seeds: Callable[[], list[bytes]]


PARSERS = {
    "export_file": Target(ExportFile, lambda: [(DATA / "books.zexp").read_bytes()]),
    "unpickler": Target(Unpickler, _records),
    "toml": Target(Toml, lambda: TOML),
    "configuration_text": Target(ConfigurationText, lambda: TEXTS),
    "manifest": Target(Manifest, _manifests),
}
