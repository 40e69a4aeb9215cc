"""What a storage tells of itself, by the methods that ZODB's reference documents."""

from typing import Any

import pytest
from tests.storing import commit, oid

import perdure
from perdure.ids import NO_TID
from perdure.storage.before import BeforeStorage


@pytest.fixture
def changed(storage: Any) -> Any:
    """The storage with three objects, of which the first was changed."""
    storage.first = commit(storage, {number: f"old {number}".encode() for number in (1, 2, 3)})
    storage.second = commit(storage, {1: b"new 1"})
    return storage


def test_its_objects_and_bytes_are_counted(changed: Any) -> None:
    assert len(changed) == 3
    before = changed.getSize()
    commit(changed, {4: b"one more"})
    assert len(changed) == 4
    assert changed.getSize() > before


def test_its_last_transaction_is_that_of_the_last_commit(changed: Any) -> None:
    assert changed.lastTransaction() == changed.second > changed.first > NO_TID


def test_each_revision_is_given_by_its_serial(changed: Any) -> None:
    assert changed.loadSerial(oid(1), changed.first) == b"old 1"
    assert changed.loadSerial(oid(1), changed.second) == b"new 1"
    assert changed.load(oid(1)) == (b"new 1", changed.second)
    assert changed.loadBefore(oid(1), changed.second) == (b"old 1", changed.first, changed.second)


def test_its_current_records_are_walked_over_one_by_one(changed: Any) -> None:
    found, following = {}, None
    while True:
        number, tid, data, following = changed.record_iternext(following)
        found[number] = (tid, data)
        assert len(found) <= 3
        if following is None:
            break
    assert found == {
        oid(1): (changed.second, b"new 1"),
        oid(2): (changed.first, b"old 2"),
        oid(3): (changed.first, b"old 3"),
    }


def test_new_oids_are_new(changed: Any) -> None:
    given = [changed.new_oid() for _ in range(300)]
    assert len(set(given)) == 300
    assert not set(given) & {oid(1), oid(2), oid(3)}
    assert all(isinstance(each, bytes) and len(each) == 8 for each in given)


def test_its_sort_key_is_text_that_stays_the_same(changed: Any) -> None:
    key = changed.sortKey()
    assert isinstance(key, str)
    assert changed.getName() in key or key in changed.getName()
    commit(changed, {4: b"one more"})
    assert changed.sortKey() == key


def test_sort_keys_of_files_are_their_names_and_differ(tmp_path: Any) -> None:
    one, two = (perdure.FileStorage(str(tmp_path / f"{name}.fs")) for name in ("one", "two"))
    assert one.sortKey() == str(tmp_path / "one.fs")
    assert one.sortKey() < two.sortKey()
    one.close()
    two.close()


def test_a_closed_file_can_be_opened_by_the_next_one(tmp_path: Any) -> None:
    path = str(tmp_path / "Data.fs")
    first = perdure.FileStorage(path)
    with pytest.raises(perdure.errors.StorageLocked):
        perdure.FileStorage(path)
    first.close()
    second = perdure.FileStorage(path)
    second.close()


def test_a_file_storage_is_cleaned_up_with_all_beside_it(tmp_path: Any) -> None:
    storage = perdure.FileStorage(str(tmp_path / "Data.fs"))
    commit(storage, {1: b"data"})
    storage.close()
    storage.cleanup()
    assert not list(tmp_path.iterdir())


def test_a_storage_in_memory_is_sorted_by_its_name() -> None:
    storage = perdure.MappingStorage("shop")
    assert storage.sortKey() == storage.getName() == "shop"
    storage.close()


def test_a_view_of_the_past_tells_of_its_base() -> None:
    base = perdure.MappingStorage("shop")
    commit(base, dict.fromkeys((1, 2, 3), b"old"))
    past = BeforeStorage(base)
    assert (len(past), past.getSize(), past.sortKey()) == (3, base.getSize(), base.sortKey())
    assert past.isReadOnly()
    past.close()


def test_the_file_of_a_committed_blob_is_opened_at_its_revision(tmp_path: Any) -> None:
    storage = perdure.FileStorage(str(tmp_path / "Data.fs"), blob_dir=str(tmp_path / "blobs"))
    with perdure.DB(storage) as db:
        revisions = []
        for content in (b"first", b"second"):
            with db.transaction() as connection:
                connection.root.blob = getattr(connection.root, "blob", None) or perdure.Blob()
                with connection.root.blob.open("w") as file:
                    file.write(content)
            revisions.append(db.lastTransaction())
        with db.transaction() as connection:
            number = connection.root.blob._p_oid
        for serial, content in zip(revisions, (b"first", b"second"), strict=True):
            with storage.openCommittedBlobFile(number, serial) as committed:
                assert committed.read() == content
