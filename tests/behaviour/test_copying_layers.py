"""Copying transactions through the layers over storages."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import ZODB.FileStorage
from tests.storing import commit, oid, undo

import perdure
from perdure.blob import BlobStorage
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.zlib import ZlibStorage

TEXT = b"what many records have in common " * 20
FILM = b"a film" * 50_000

Layer = Callable[[Any], Any]


def zstd(base: Any) -> Any:
    pytest.importorskip("zstandard")
    from perdure.storage.zstd import ZstdStorage

    return ZstdStorage(base)


def encrypting(base: Any) -> Any:
    pytest.importorskip("cryptography")
    from perdure.storage.encrypting import EncryptingStorage

    return EncryptingStorage(base, bytes(32))


LAYERS: dict[str, Layer] = {
    "zlib": ZlibStorage,
    "zstd": zstd,
    "encrypting": encrypting,
    "zlib over encrypting": lambda base: ZlibStorage(encrypting(base)),
    "encrypting over zlib": lambda base: encrypting(ZlibStorage(base)),
}
BASES: dict[str, Callable[[Path], Any]] = {
    "file": lambda path: FileStorage(str(path / "target.fs")),
    "file with blobs": lambda path: FileStorage(
        str(path / "target.fs"), blob_dir=str(path / "target.blobs")
    ),
    "mapping": lambda _path: MappingStorage(),
    "blobs over mapping": lambda path: BlobStorage(str(path / "target.blobs"), MappingStorage()),
    "stock file": lambda path: ZODB.FileStorage.FileStorage(str(path / "target.fs")),
}
WAYS: dict[str, Callable[[Any, Any], object]] = {
    "copyTransactionsFrom": lambda source, target: target.copyTransactionsFrom(source),
    "perdure.copy": perdure.copy,
}


@pytest.fixture
def source(tmp_path: Path) -> Iterator[Any]:
    """A database with an undone change and a deleted object."""
    storage = FileStorage(str(tmp_path / "source.fs"), blob_dir=str(tmp_path / "source.blobs"))
    commit(storage, {1: TEXT + b"first", 2: TEXT})
    undo(storage, commit(storage, {1: TEXT + b"second"}))
    commit(storage, {}, delete=[2])
    yield storage
    storage.close()


def told(storage: Any) -> list[Any]:
    return [
        (txn.tid, sorted((record.oid, record.data) for record in txn)) for txn in storage.iterator()
    ]


def kept(layer: Any) -> list[bytes]:
    """Return the records as the lowest storage keeps them."""
    while hasattr(layer, "base"):
        layer = layer.base
    return [record.data for txn in layer.iterator() for record in txn if record.data]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("base", BASES)
@pytest.mark.parametrize("layer", LAYERS)
def test_what_is_copied_into_a_layer_is_kept_in_its_form(
    source: Any, tmp_path: Path, layer: str, base: str, way: str
) -> None:
    target = LAYERS[layer](BASES[base](tmp_path))
    WAYS[way](source, target)
    assert told(target) == told(source)
    assert target.load(oid(1)) == source.load(oid(1))
    assert kept(target)
    assert not any(TEXT in data for data in kept(target))
    commit(source, {1: TEXT + b"third"})
    if way == "perdure.copy":
        assert perdure.copy(source, target).transactions == 1
        assert told(target) == told(source)
    target.close()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("base", ["file with blobs", "blobs over mapping"])
@pytest.mark.parametrize("layer", LAYERS)
def test_blobs_are_copied_into_a_layer(
    source: Any, tmp_path: Path, layer: str, base: str, way: str
) -> None:
    filled = perdure.DB(source)
    with filled.transaction() as connection:
        connection.root.film = perdure.Blob(FILM)
    target = LAYERS[layer](BASES[base](tmp_path))
    WAYS[way](source, target)
    copied = perdure.DB(target)
    with copied.transaction() as connection, connection.root.film.open() as file:
        assert file.read() == FILM
    copied.close()
    filled.close()
