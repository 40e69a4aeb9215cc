"""Records compressed with Zstandard."""

import time
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.IOBTree import IOBTree
from persistent.mapping import PersistentMapping
from tests.storing import commit, oid

import perdure
from perdure.config import storageFromString
from perdure.errors import DictionaryMissing, UnreadableRecord
from perdure.storage import FileStorage, MappingStorage
from perdure.storage.demo import DemoStorage
from perdure.storage.zlib import ZlibStorage

zstandard = pytest.importorskip("zstandard")

from perdure.storage.zstd import ZstdStorage, add_dictionary, read_dictionaries  # noqa: E402

TEXT = "perdure " * 100


def record(number: int) -> bytes:
    return f'{{"number": {number}, "customer": "{number * 7919}", "state": "paid"}}'.encode()


@pytest.fixture(scope="module")
def dictionaries() -> list[bytes]:
    """Two generations."""
    trained = []
    for first in (0, 5000):
        storage = MappingStorage()
        commit(storage, {number: record(number + first) for number in range(2000)})
        trained.append(ZstdStorage.train(storage, dictionary_bytes_max=4096))
    return trained


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "data.fs")


def kept(storage: Any, number: int) -> bytes:
    data: bytes = storage.base.load(oid(number))[0]
    return data


def test_a_dictionary_of_the_database_makes_small_records_smaller(
    dictionaries: list[bytes],
) -> None:
    plain, trained = ZstdStorage(MappingStorage()), ZstdStorage(MappingStorage(), dictionaries)
    for storage in (plain, trained):
        commit(storage, {1: record(77)})
        assert storage.load(oid(1))[0] == record(77)
    assert len(kept(trained, 1)) < 0.7 * len(kept(plain, 1))


def test_records_of_earlier_dictionaries_and_layers_are_read(dictionaries: list[bytes]) -> None:
    base = MappingStorage()
    commit(base, {1: record(1)})
    commit(ZlibStorage(base), {2: TEXT.encode()})
    commit(ZstdStorage(base), {3: TEXT.encode()})
    commit(ZstdStorage(base, dictionaries[:1]), {4: record(4)})
    newest_first = dictionaries[::-1]
    storage = ZstdStorage(base, newest_first)
    commit(storage, {5: record(5)})
    found = [storage.load(oid(number))[0] for number in range(1, 6)]
    assert found == [record(1), TEXT.encode(), TEXT.encode(), record(4), record(5)]


def test_a_missing_dictionary_is_named(dictionaries: list[bytes]) -> None:
    base = MappingStorage()
    commit(ZstdStorage(base, dictionaries), {1: record(1)})
    with pytest.raises(DictionaryMissing, match="which is missing") as caught:
        ZstdStorage(base, dictionaries[1:]).load(oid(1))
    assert caught.value.key == int.from_bytes(dictionaries[0][4:8], "little")
    assert caught.value.oid == oid(1)
    assert str(caught.value.key) in str(caught.value)


def test_dictionaries_are_kept_beside_the_database(
    dictionaries: list[bytes], tmp_path: Path
) -> None:
    directory = tmp_path / "data.fs.zstd"
    for dictionary in dictionaries:
        add_dictionary(directory, dictionary)
    assert read_dictionaries(directory) == dictionaries[::-1]
    storage = ZstdStorage(MappingStorage(), directory)
    commit(storage, {1: record(1)})
    assert storage.load(oid(1))[0] == record(1)


def test_a_dictionary_is_kept_once_and_other_files_are_let_be(
    dictionaries: list[bytes], tmp_path: Path
) -> None:
    first = add_dictionary(tmp_path, dictionaries[0])
    (tmp_path / "notes.zdict").write_bytes(b"mine")
    assert add_dictionary(tmp_path, dictionaries[0]) == first
    second = add_dictionary(tmp_path, dictionaries[1])
    assert read_dictionaries(tmp_path) == [dictionaries[1], dictionaries[0]]
    assert sorted(second.name for second in (first, second)) == [first.name, second.name]


@pytest.mark.parametrize("damage", [lambda data: data[:-3], lambda data: data[:-9] + data[-8:]])
@pytest.mark.parametrize("layer", [ZstdStorage, ZlibStorage])
def test_a_damaged_record_is_an_error_that_names_it(layer: Any, damage: Any) -> None:
    base = MappingStorage()
    commit(layer(base), {1: TEXT.encode()})
    commit(base, {1: damage(base.load(oid(1))[0])})
    with pytest.raises(UnreadableRecord, match="0x01"):
        ZstdStorage(base).load(oid(1))
    if layer is ZlibStorage:
        with pytest.raises(UnreadableRecord, match="0x01"):
            ZlibStorage(base).load(oid(1))


@pytest.mark.parametrize("layer", [ZstdStorage, ZlibStorage])
def test_a_record_does_not_grow_beyond_the_bound(layer: Any) -> None:
    base = MappingStorage()
    commit(layer(base), {1: bytes(100_000)})
    assert ZstdStorage(base, record_bytes_max=100_000).load(oid(1))[0] == bytes(100_000)
    readers = [ZstdStorage] if layer is ZstdStorage else [ZstdStorage, ZlibStorage]
    for reader in readers:
        with pytest.raises(UnreadableRecord, match="larger than 99999 bytes"):
            reader(base, record_bytes_max=99_999).load(oid(1))
        assert reader(base, record_bytes_max=100_000).load(oid(1))[0] == bytes(100_000)


def test_packing_follows_references_in_compressed_records(path: str) -> None:
    db = perdure.DB(ZstdStorage(FileStorage(path)))
    with db.transaction() as connection:
        connection.root.kept = PersistentMapping({"text": TEXT})
        connection.root.dropped = PersistentMapping({"text": TEXT})
    with db.transaction() as connection:
        del connection.root.dropped
    db.pack(time.time())
    assert len(db.storage) == 2
    with db.transaction() as connection:
        assert connection.root.kept["text"] == TEXT
    db.close()


def test_conflicts_are_resolved_through_the_layer(path: str) -> None:
    db = perdure.DB(ZstdStorage(FileStorage(path)))
    with db.transaction() as connection:
        connection.root.tree = IOBTree({0: TEXT, 5: TEXT})
    with db.transaction() as one, db.transaction() as other:
        one.root.tree[1] = TEXT
        other.root.tree[6] = TEXT
    with db.transaction() as connection:
        assert list(connection.root.tree) == [0, 1, 5, 6]
    db.close()


def test_undo_brings_a_compressed_record_back(path: str) -> None:
    db = perdure.DB(ZstdStorage(FileStorage(path)))
    for text in (TEXT, TEXT * 2):
        with db.transaction() as connection:
            connection.root.text = text
    db.undo(db.undoLog(0, 1)[0]["id"])
    transaction.commit()
    with db.transaction() as connection:
        assert connection.root.text == TEXT
    db.close()


def test_transactions_are_copied_in_the_form_of_each_side(
    path: str, dictionaries: list[bytes]
) -> None:
    source = ZlibStorage(MappingStorage())
    commit(source, {number: record(number) for number in range(5)})
    target = ZstdStorage(FileStorage(path), dictionaries)
    target.copyTransactionsFrom(source)
    found = [data.data for txn in target.iterator() for data in txn]
    assert found == [record(number) for number in range(5)]
    assert all(kept(target, number).startswith(b".s") for number in range(5))
    target.close()


@pytest.mark.parametrize(
    "stack",
    [
        lambda base: ZlibStorage(ZstdStorage(base)),
        lambda base: ZstdStorage(ZlibStorage(base)),
        lambda base: ZstdStorage(DemoStorage(base=base)),
        lambda base: DemoStorage(base=ZstdStorage(base)),
    ],
)
def test_layers_stack_in_any_order(stack: Any) -> None:
    storage = stack(MappingStorage())
    db = perdure.DB(storage)
    with db.transaction() as connection:
        connection.root.text = TEXT
    db.cacheMinimize()
    with db.transaction() as connection:
        assert connection.root.text == TEXT
    db.close()


def test_a_section_describes_the_layer(dictionaries: list[bytes], tmp_path: Path) -> None:
    add_dictionary(tmp_path / "dictionaries", dictionaries[0])
    storage = storageFromString(f"""
        <zstdstorage>
          dictionaries {tmp_path}/dictionaries
          level 9
          <filestorage>
            path {tmp_path}/data.fs
          </filestorage>
        </zstdstorage>
    """)
    commit(storage, {1: record(1)})
    assert storage.load(oid(1))[0] == record(1)
    with pytest.raises(DictionaryMissing):
        ZstdStorage(storage.base).load(oid(1))
    storage.close()


def test_too_few_records_make_no_dictionary() -> None:
    with pytest.raises(ValueError, match="too few records"):
        ZstdStorage.train(MappingStorage())
