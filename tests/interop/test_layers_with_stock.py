"""perdure's layers between stock ZODB's database and stock ZODB's file storage."""

from pathlib import Path
from typing import Any

import pytest
import transaction
import zc.zlibstorage
import ZODB
import ZODB.FileStorage
import ZODB.interfaces
from persistent.mapping import PersistentMapping
from ZODB.utils import p64

from perdure.ids import Oid
from perdure.storage.before import BeforeStorage
from perdure.storage.zlib import ServerZlibStorage, ZlibStorage

TEXT = "perdure " * 100


def commit_text(storage: Any, key: str) -> None:
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        connection.root()[key] = PersistentMapping({"text": TEXT})
    db.close()


def read_texts(storage: Any) -> dict[str, str]:
    db = ZODB.DB(storage)
    with db.transaction() as connection:
        texts = {key: value["text"] for key, value in connection.root().items()}
    db.close()
    return texts


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "data.fs")


def test_compressed_records_are_smaller_and_read_the_same(path: str) -> None:
    commit_text(ZlibStorage(ZODB.FileStorage.FileStorage(path)), "a")
    base = ZODB.FileStorage.FileStorage(path)
    assert base.load(p64(1))[0].startswith(b".z")
    assert len(base.load(p64(1))[0]) < 200
    base.close()
    assert read_texts(ZlibStorage(ZODB.FileStorage.FileStorage(path))) == {"a": TEXT}


def test_records_of_zc_zlibstorage_are_read_and_the_reverse(path: str) -> None:
    def theirs() -> Any:
        return zc.zlibstorage.ZlibStorage(ZODB.FileStorage.FileStorage(path))

    def ours() -> ZlibStorage:
        return ZlibStorage(ZODB.FileStorage.FileStorage(path))

    commit_text(theirs(), "theirs")
    assert read_texts(ours()) == {"theirs": TEXT}
    commit_text(ours(), "ours")
    assert read_texts(theirs()) == {"theirs": TEXT, "ours": TEXT}


def test_records_that_were_never_compressed_are_read(path: str) -> None:
    commit_text(ZODB.FileStorage.FileStorage(path), "plain")
    assert read_texts(ZlibStorage(ZODB.FileStorage.FileStorage(path))) == {"plain": TEXT}


def test_without_compressing_both_kinds_are_read_and_plain_ones_written(path: str) -> None:
    commit_text(ZlibStorage(ZODB.FileStorage.FileStorage(path)), "compressed")
    commit_text(ZlibStorage(ZODB.FileStorage.FileStorage(path), compress=False), "plain")
    storage = ZlibStorage(ZODB.FileStorage.FileStorage(path))
    kept = [record.data for txn in storage.base.iterator() for record in txn]
    assert sum(TEXT.encode() in data for data in kept) == 1
    assert sum(data.startswith(b".z") for data in kept) >= 1
    assert read_texts(storage) == {"compressed": TEXT, "plain": TEXT}


def test_packing_follows_references_in_compressed_records(path: str) -> None:
    db = ZODB.DB(ZlibStorage(ZODB.FileStorage.FileStorage(path)))
    with db.transaction() as connection:
        connection.root()["kept"] = PersistentMapping({"inner": PersistentMapping(text=TEXT)})
        connection.root()["dropped"] = PersistentMapping(text=TEXT)
    with db.transaction() as connection:
        del connection.root()["dropped"]
    db.pack()
    assert len(db.storage) == 3
    with db.transaction() as connection:
        assert connection.root()["kept"]["inner"]["text"] == TEXT
    db.close()


def test_iterating_shows_records_uncompressed(path: str) -> None:
    commit_text(ZlibStorage(ZODB.FileStorage.FileStorage(path)), "a")
    storage = ZlibStorage(ZODB.FileStorage.FileStorage(path))
    transactions = storage.iterator()
    assert [TEXT.encode() in record.data for txn in transactions for record in txn].count(True) == 1
    transactions.close()
    assert storage.record_iternext()[2][:2] != b".z"
    storage.close()


def test_the_layer_provides_what_its_base_provides(path: str) -> None:
    storage = ZlibStorage(ZODB.FileStorage.FileStorage(path))
    for interface in (
        ZODB.interfaces.IStorage,
        ZODB.interfaces.IStorageUndoable,
        ZODB.interfaces.IStorageIteration,
        ZODB.interfaces.IStorageWrapper,
    ):
        assert interface.providedBy(storage)
    assert not ZODB.interfaces.IBlobStorage.providedBy(storage)
    storage.close()


def test_the_servers_layer_passes_records_through_and_still_packs(path: str) -> None:
    commit_text(ZlibStorage(ZODB.FileStorage.FileStorage(path)), "a")
    server = ServerZlibStorage(ZODB.FileStorage.FileStorage(path))
    assert server.load(Oid(p64(1)))[0].startswith(b".z")
    client = ZODB.DB(ZlibStorage(server))
    client.pack()
    assert len(server) == 2
    client.close()
    assert read_texts(ZlibStorage(ZODB.FileStorage.FileStorage(path))) == {"a": TEXT}


def test_a_view_of_the_past_does_not_change(path: str) -> None:
    base = ZODB.FileStorage.FileStorage(path)
    writer = ZODB.DB(base)
    with writer.transaction() as connection:
        connection.root()["a"] = 1
    view = ZODB.DB(BeforeStorage(base))
    manager = transaction.TransactionManager()
    past = view.open(manager)
    assert past.root()["a"] == 1
    with writer.transaction() as connection:
        connection.root()["a"] = 2
    manager.begin()
    past.cacheMinimize()
    assert past.root()["a"] == 1
    assert past.isReadOnly()
    past.close()
    view.close()
