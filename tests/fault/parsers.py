"""The parsers of Python's side, to be given bytes that nobody wrote: see `PARSERS`.

`test_mutations.py` gives them damaged seeds, `fuzz/python.py` what coverage leads to. Those of
the engine stand in `crates/sim/src/hostile.rs`. Files are made in the current directory.
"""

import contextlib
import io
import shutil
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

import transaction
import ZConfig
from tests.storing import commit, oid

import perdure
from perdure.blob import BlobStorage
from perdure.config import ConfigurationError, _toml, databaseFromString, databaseFromTOML
from perdure.config._schemas import getDbSchema, load_file
from perdure.config.collecting import open_collection
from perdure.errors import POSError
from perdure.ids import MAX_TID
from perdure.storage.encrypting import EncryptingStorage
from perdure.storage.zlib import ZlibStorage
from perdure.storage.zstd import ZstdStorage

DATA = Path(__file__).parents[1] / "data"
PERSISTENT = b"\x80\x02cpersistent.mapping\nPersistentMapping\n."
OID = perdure.Oid(bytes(7) + b"\x07")
# A database in memory keeps all revisions: it is made anew after so many.
REVISIONS_MAX = 1000
USED_ONE_IN = 16
"""Of how many inputs one is used if it is right: that takes as long as parsing dozens."""

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

    def __init__(self, storage: Any = None, others: tuple[str, ...] = ()) -> None:
        allowed: dict[str, Any] = {"class_policy": ["sample_classes"]}
        members: dict[str, perdure.DB] = {}
        for name in others:
            perdure.DB(None, database_name=name, databases=members, **allowed)
        self.database = perdure.DB(storage, database_name="a", databases=members, **allowed)
        self.connection = self.database.open()
        self.revisions = 0

    def close(self) -> None:
        transaction.abort()
        self.connection.close()
        for member in self.database.databases.values():
            member.close()


class _Parser(ABC):
    """What several inputs are given to, one after another."""

    def __init__(self) -> None:
        self._kept: _Database | None = None

    @abstractmethod
    def __call__(self, data: bytes) -> None:
        """Parse the bytes; whatever is wrong with them is an error of this package, and ignored."""

    def _made(self) -> _Database:
        return _Database()

    def _database(self) -> _Database:
        if self._kept is None or self._kept.revisions > REVISIONS_MAX:
            self.close()
            self._kept = self._made()
        self._kept.revisions += 1
        return self._kept

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def _is_used(data: bytes) -> bool:
    return zlib.crc32(data) % USED_ONE_IN == 0


class ExportFile(_Parser):
    """The bytes are an export file."""

    def _made(self) -> _Database:
        return _Database(_with_blobs("blobs.d"), ("b",))

    def __call__(self, data: bytes) -> None:
        connection = self._database().connection
        with contextlib.suppress(POSError):
            # As a file on disk: it takes the memory that it is asked for before it reads.
            connection.importFile(io.BufferedReader(io.BytesIO(data)))
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
            _toml.read(path)
            if _is_used(data):
                databaseFromTOML(path).close()


class ConfigurationText(_Parser):
    """The bytes are a configuration of ZConfig."""

    def __call__(self, data: bytes) -> None:
        text = data.decode("latin-1")
        with contextlib.suppress(ConfigurationError, ZConfig.ConfigurationError):
            load_file(getDbSchema(), io.StringIO(text))
            if _is_used(data):
                databaseFromString(text).close()


class Manifest(_Parser):
    """The bytes are the manifest of a backup."""

    def __call__(self, data: bytes) -> None:
        folder = Path("backup")
        if not folder.exists():
            _backup(folder)
        (folder / "manifest.json").write_bytes(data)
        with contextlib.suppress(POSError):
            perdure.verify_backup(folder)
            if _is_used(data):
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


class Moments(_Parser):
    """The bytes are the list of moments in a collection's backup."""

    def __call__(self, data: bytes) -> None:
        folder = Path("collection")
        if not folder.exists():
            _backup_collection(folder)
        (folder / "collection.json").write_bytes(data)
        with contextlib.suppress(POSError):
            perdure.verify_collection_backup(folder)
            if _is_used(data):
                perdure.restore_collection(folder, "restored")
        shutil.rmtree("restored", ignore_errors=True)


def _backup_collection(folder: Path) -> None:
    with open_collection({"a": "a.fs", "b": "b.fs"}) as collection:
        with collection["a"].transaction() as connection:
            connection.root.value = 1
        collection.backup(folder)


def _moments() -> list[bytes]:
    _backup_collection(Path("seeds"))
    return [Path("seeds", "collection.json").read_bytes()]


class DamagedFile(_Parser):
    """The bytes are a data file that is looked at, and recovered from, as damaged as it is."""

    def __call__(self, data: bytes) -> None:
        path = Path("damaged.fs")
        path.write_bytes(data)
        with contextlib.suppress(POSError):
            perdure.check(path)
        with contextlib.suppress(POSError), contextlib.closing(perdure.MappingStorage()) as target:
            perdure.recover(path, target)


def _data_files() -> list[bytes]:
    names = ["blobs.fs", "multi_a.fs", "undo.fs", "packed.fs"]
    return [(DATA / name).read_bytes() for name in names]


def _with_blobs(folder: str) -> Any:
    return BlobStorage(folder, perdure.MappingStorage())


def _exports() -> list[bytes]:
    """Return small export files, and one with objects of two members and a blob."""
    with open_collection({"a": _with_blobs("seed.d"), "b": "b.fs"}) as collection:
        with collection["a"].transaction() as connection:
            connection.root.list = perdure.PersistentList(["one", perdure.PersistentMapping()])
            connection.root.blob = perdure.Blob(b"data")
            other = connection.get_connection("b")
            other.add(mapping := perdure.PersistentMapping(other=1))
            other.root.mapping = connection.root.mapping = mapping
        with collection["a"].transaction() as connection:
            root = connection.root()
            small = connection.exportFile(root["list"]._p_oid)
            whole = connection.exportFile(root._p_oid, follow=["b"])
            return [_content(file) for file in (small, whole)]


def _content(file: IO[bytes]) -> bytes:
    with file:
        file.seek(0)
        return file.read()


class LayeredRecord(_Parser):
    """The bytes are a record of the file below a layer that compresses or encrypts."""

    def __init__(self) -> None:
        super().__init__()
        self._base = perdure.MappingStorage()
        self._revisions = 0

    def __call__(self, data: bytes) -> None:
        self._revisions += 1
        if self._revisions > REVISIONS_MAX:
            self.close()
            self.__init__()  # type: ignore[misc]
        commit(self._base, {1: data or b"."})
        for layer in _layers(self._base):
            with contextlib.suppress(POSError):
                layer.loadBefore(oid(1), MAX_TID)

    def close(self) -> None:
        self._base.close()


def _layers(base: Any) -> list[Any]:
    return [
        ZlibStorage(base, record_bytes_max=1 << 20),
        ZstdStorage(base, record_bytes_max=1 << 20),
        EncryptingStorage(base, bytes(32)),
    ]


def _layered_records() -> list[bytes]:
    found = []
    base: Any
    with contextlib.closing(perdure.MappingStorage()) as base:
        for number, layer in enumerate(_layers(base)):
            commit(layer, {number: PERSISTENT + b"\x80\x02N." * 20})
            found.append(base.loadBefore(oid(number), MAX_TID)[0])
    return found


def _records() -> list[bytes]:
    with contextlib.closing(perdure.FileStorage(str(DATA / "basic.fs"), read_only=True)) as storage:
        return [record.data for txn in storage.iterator() for record in txn if record.data]


class Target(NamedTuple):
    """A parser, and what a writer of such files writes."""

    parser: Callable[[], _Parser]
    seeds: Callable[[], list[bytes]]


PARSERS = {
    "export_file": Target(ExportFile, _exports),
    "unpickler": Target(Unpickler, _records),
    "toml": Target(Toml, lambda: TOML),
    "configuration_text": Target(ConfigurationText, lambda: TEXTS),
    "manifest": Target(Manifest, _manifests),
    "moments": Target(Moments, _moments),
    "damaged_file": Target(DamagedFile, _data_files),
    "layered_record": Target(LayeredRecord, _layered_records),
}
