"""Parts of connections that can be looked at alone."""

import pytest

from perdure.connection import RootConvenience, TransactionMetaData
from perdure.connection.savepoint import SavepointStorage
from perdure.ids import NO_TID, Oid
from perdure.persistentreference import PersistentReference, PersistentReferenceFactory
from perdure.storage.mapping import MappingStorage
from perdure.utils import p64

ONE, TWO = Oid(p64(1)), Oid(p64(2))


def test_texts_of_a_transaction_become_bytes() -> None:
    meta = TransactionMetaData("jörg", "añadir", {"key": 1})
    assert meta.user == "jörg".encode()
    assert meta.description == "añadir".encode()
    assert meta.extension == {"key": 1}
    assert TransactionMetaData(extension=meta.extension_bytes).extension == {"key": 1}


def test_an_empty_extension_is_no_bytes() -> None:
    assert TransactionMetaData().extension_bytes == b""
    assert TransactionMetaData(extension=b"").extension == {}


def test_notes_are_added_to_the_description() -> None:
    meta = TransactionMetaData(description=" first ")
    meta.note("second ")
    assert meta.description == b"first second"


def test_storages_keep_data_with_a_transaction() -> None:
    meta = TransactionMetaData()
    storage, other = object(), object()
    meta.set_data(storage, 17)
    assert meta.data(storage) == 17
    with pytest.raises(KeyError):
        meta.data(other)


def test_the_root_shows_names_that_are_no_strings() -> None:
    root = RootConvenience({1: "one", "b": "two"})
    assert repr(root) == "<root: 1 b>"
    assert dir(root) == ["b"]


def test_a_savepoint_storage_goes_back_to_any_mark() -> None:
    storage = SavepointStorage(MappingStorage())
    marks = [storage.mark()]
    for data in (b"a", b"bb", b"ccc"):
        storage.store(ONE, NO_TID, data)
        storage.created[Oid(data.rjust(8, b"\0"))] = True
        marks.append(storage.mark())
    storage.store(TWO, NO_TID, b"two")
    for mark, data in zip(marks[:0:-1], (b"ccc", b"bb", b"a"), strict=True):
        storage.reset(mark)
        assert storage.load(ONE) == (data, NO_TID)
        assert TWO not in storage
        assert len(storage.created) == mark.created
        assert storage.getSize() == mark.end
    storage.reset(marks[0])
    assert list(storage) == []
    storage.close()


@pytest.mark.parametrize(
    ("reference", "database", "weak"),
    [
        (ONE, None, False),
        ((ONE, dict), None, False),
        ([ONE], None, True),
        (["w", (ONE,)], None, True),
        (["w", (ONE, "other")], "other", True),
        (["n", ("other", ONE)], "other", False),
        (["m", ("other", ONE, dict)], "other", False),
    ],
)
def test_stand_ins_tell_what_they_refer_to(
    reference: object, database: str | None, weak: bool
) -> None:
    stand_in = PersistentReference(reference)
    assert (stand_in.oid, stand_in.database_name, stand_in.weak) == (ONE, database, weak)
    assert PersistentReferenceFactory().persistent_load(reference) == stand_in
    assert hash(PersistentReference(reference)) == hash(stand_in)


def test_stand_ins_are_equal_when_they_refer_to_the_same_object() -> None:
    assert PersistentReference(ONE) == PersistentReference((ONE, dict))
    assert PersistentReference(ONE) != PersistentReference(TWO)
    assert PersistentReference(ONE) != PersistentReference(["n", ("other", ONE)])
    assert PersistentReference(ONE) != PersistentReference(["w", (ONE,)])
    assert PersistentReference(ONE) < PersistentReference(TWO)
    assert PersistentReference(ONE) != "something else"
