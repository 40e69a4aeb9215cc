"""Every record of the sample databases becomes the object that stock ZODB makes of it."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.property.records import (
    NativeConnection,
    Records,
    StandardConnection,
    same,
)

from perdure.ids import Oid
from perdure.serialize import ObjectWriter, get_refs, referencesf
from perdure.serialize.writer import StandardObjectWriter
from perdure.storage import FileStorage

SAMPLES = Path(__file__).parents[1] / "data"
FILES = ["basic.fs", "undo.fs", "packed.fs", "blobs.fs", "multi_a.fs", "multi_b.fs"]


@pytest.fixture(autouse=True)
def sample_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The classes of the samples can be imported."""
    monkeypatch.syspath_prepend(str(SAMPLES))
    importlib.invalidate_caches()
    sys.modules.pop("sample_classes", None)


class Collection:
    """What reading asks the connection of a multi-database for."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    def connection_to(self, name: str) -> Any:
        """Every member is this one: only what the references say is looked at."""
        return self.connection


def records_in(name: str) -> list[tuple[Oid, bytes]]:
    """All records of a sample, of all revisions."""
    storage = FileStorage(SAMPLES / name, read_only=True)
    found = [(each.oid, each.data) for txn in storage.iterator() for each in txn if each.data]
    storage.close()
    return found


@pytest.fixture(params=FILES)
def record(request: pytest.FixtureRequest) -> list[tuple[Oid, bytes]]:
    """All records of a sample, of all revisions."""
    return records_in(request.param)


@pytest.fixture
def current(record: list[tuple[Oid, bytes]]) -> dict[bytes, bytes]:
    """Something for every oid that the records refer to, in whichever member."""
    return dict(records_in("multi_a.fs") + records_in("multi_b.fs") + record)


def loaded(kind: Any, oid: Oid, data: bytes, current: dict[bytes, bytes]) -> Any:
    """The object that a connection of this kind makes of a record."""
    records = Records()
    records.data = {**current, oid: data}
    connection = kind(records)
    connection.get_connection = Collection(connection).connection_to
    connection._blob_loaded = lambda *_: None
    obj = connection.get(oid)
    obj._p_activate()
    return obj


def test_native_and_standard_make_the_same_of_every_record(
    record: list[tuple[Oid, bytes]], current: dict[bytes, bytes]
) -> None:
    for oid, data in record:
        native, standard = (
            loaded(kind, oid, data, current) for kind in (NativeConnection, StandardConnection)
        )
        assert type(native) is type(standard)
        assert same(native.__getstate__(), standard.__getstate__())
        for writer in (ObjectWriter, StandardObjectWriter):
            again = writer(native._p_jar).serialize(native)
            # References to the other member have become ordinary ones: it is the same here.
            assert set(referencesf(data)) <= set(referencesf(again))


def test_references_are_those_that_stock_zodb_finds(record: list[tuple[Oid, bytes]]) -> None:
    stock = pytest.importorskip("ZODB.serialize")
    for _, data in record:
        assert referencesf(data) == stock.referencesf(data)
        # Stock leaves the classes out.
        assert [oid for oid, _ in get_refs(data)] == [oid for oid, _ in stock.get_refs(data)]


def test_the_state_is_what_stock_zodb_reads(
    record: list[tuple[Oid, bytes]], current: dict[bytes, bytes]
) -> None:
    stock = pytest.importorskip("ZODB.serialize")
    broken = pytest.importorskip("ZODB.broken")
    for oid, data in record:
        native = loaded(NativeConnection, oid, data, current)
        connection = native._p_jar

        def find(_: Any, module: str, name: str) -> Any:
            return broken.find_global(module, name)

        state = stock.ObjectReader(connection, connection._cache, find).getState(data)
        mine = connection._reader.getState(data)
        assert same(mine, state)
