"""What a storage tells of itself, by the methods that ZODB's reference documents."""

from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.storing import commit, oid

import perdure
from perdure.errors import POSKeyError
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


def _with_folder(folder: Path) -> Any:
    return perdure.FileStorage(str(folder / "Data.fs"), blob_dir=str(folder / "blobs"))


def _in_memory(folder: Path) -> Any:
    return perdure.blob.BlobStorage(str(folder / "blobs"), perdure.MappingStorage())


def _over_a_file(folder: Path) -> Any:
    return perdure.blob.BlobStorage(
        str(folder / "blobs"), perdure.FileStorage(str(folder / "Data.fs"))
    )


@pytest.mark.parametrize("make", [_with_folder, _in_memory, _over_a_file])
def test_the_file_of_a_committed_blob_is_that_of_its_revision(tmp_path: Path, make: Any) -> None:
    storage = make(tmp_path)
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
            assert Path(storage.loadBlob(number, serial)).read_bytes() == content
        for absent in ((number, NO_TID), (oid(77), revisions[0])):
            with pytest.raises(POSKeyError):
                storage.loadBlob(*absent)
            with pytest.raises(POSKeyError):
                storage.openCommittedBlobFile(*absent)


def test_a_storage_is_given_the_database_above_it_to_call(tmp_path: Path) -> None:
    above: list[Any] = []

    class Listening(perdure.FileStorage):
        def registerDB(self, db: Any) -> None:
            super().registerDB(db)
            above.append(db)

    with perdure.DB(Listening(str(tmp_path / "Data.fs"))) as db:
        with db.transaction() as connection:
            connection.root.child = perdure.PersistentMapping()
            connection.root.child["name"] = "the child"
        with db.transaction() as connection:
            number, serial = connection.root.child._p_oid, connection.root.child._p_serial
        [wrapper] = above
        record = db.storage.load(oid(0))[0]
        assert wrapper.references(record) == [number]
        assert wrapper.untransform_record_data(wrapper.transform_record_data(record)) == record
        reader = db.open(transaction.TransactionManager())
        assert reader.root.child["name"] == "the child"
        wrapper.invalidate(serial, [number])
        reader.newTransaction(None)
        assert reader.root.child._p_changed is None
        reader.close()


def test_a_new_transaction_of_a_connection_sees_what_others_committed(tmp_path: Path) -> None:
    with perdure.DB(str(tmp_path / "Data.fs")) as db:
        manager = transaction.TransactionManager()
        reader = db.open(manager)
        reader.root.number = 1
        manager.commit()
        assert reader.root.number == 1
        with db.transaction() as connection:
            connection.root.number = 2
        assert reader.root.number == 1
        reader.newTransaction(manager.begin())
        assert reader.root.number == 2
        manager.abort()
        reader.close()
