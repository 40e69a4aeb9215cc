"""Where a loaded object's attributes are does not show."""

import abc
import gc
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import transaction
from persistent import Persistent

import perdure
from perdure.connection.metadata import TransactionMetaData
from perdure.errors import StateLoadError


class Loose(Persistent):
    """Has whatever attributes it is given."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Small(Persistent):
    """Has the same few attributes in all its objects."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.parts = [number]


class Narrow(Persistent):
    """The same, in a class of which only ghosts are made at first."""


class Late(Persistent):
    """Comes to have a property later on."""


class Abstract(Persistent, abc.ABC):
    """Has a method that is missing."""

    @abc.abstractmethod
    def missing(self) -> None: ...


class Ending(Persistent):
    """Notes the end of each of its objects."""

    ended = 0

    def __del__(self) -> None:
        type(self).ended += 1


class Slotted(Persistent):
    """Has slots beside its attributes."""

    __slots__ = ("__dict__", "side")


@pytest.fixture
def db() -> Iterator[perdure.DB]:
    """A database in memory."""
    database = perdure.DB(None)
    yield database
    database.close()


def stored(db: perdure.DB, **objects: Any) -> perdure.Connection:
    """Return a connection with an empty cache that sees the objects stored."""
    with db.transaction() as writer:
        writer.root().update(objects)
    connection = db.open(transaction.TransactionManager())
    connection.cacheMinimize()
    return connection


def loaded(connection: perdure.Connection, name: str) -> Any:
    """Return an object with its state."""
    obj = connection.root()[name]
    obj._p_activate()
    return obj


@pytest.mark.parametrize("count", [0, 1, 5, 7, 29, 30, 31, 64, 65, 999, 1000, 1001, 2500])
def test_all_attributes_are_there_in_order(db: perdure.DB, count: int) -> None:
    attributes = {f"name_{number}": number * 1000 for number in range(count)}
    connection = stored(db, it=Loose(**attributes))
    it = loaded(connection, "it")
    assert all(getattr(it, name) == value for name, value in attributes.items())
    assert list(vars(it).items()) == list(attributes.items())


def test_an_object_can_be_changed_and_left_and_loaded_again(db: perdure.DB) -> None:
    connection = stored(db, it=Loose(a=1, b=[2], c="three"))
    it = loaded(connection, "it")
    it.a = 10
    del it.b
    it.d = {"four": 4}
    assert it._p_changed
    connection.transaction_manager.commit()
    for leave in (it._p_deactivate, it._p_invalidate, connection.cacheMinimize):
        leave()
        assert it._p_changed is None
        assert (it.a, it.c, it.d) == (10, "three", {"four": 4})
        assert list(vars(it)) == ["a", "c", "d"]
    other = loaded(db.open(transaction.TransactionManager()), "it")
    assert vars(other) == {"a": 10, "c": "three", "d": {"four": 4}}


def test_objects_of_a_class_of_which_many_ghosts_were_made_first_are_loaded(
    db: perdure.DB,
) -> None:
    many: list[Any] = [Narrow() for _ in range(100)]
    for number, each in enumerate(many):
        vars(each).update(number=number, text=f"text {number}", other=many[number // 2])
    connection = stored(db, many=many)
    found = connection.root()["many"]
    for number, each in enumerate(found):
        each._p_activate()
        assert list(vars(each)) == ["number", "text", "other"]
        assert (each.number, each.text) == (number, f"text {number}")
        assert each.other is found[number // 2]


def test_a_property_that_the_class_has_come_to_have_is_not_called(db: perdure.DB) -> None:
    first, second = Late(), Late()
    each: Any
    for each in (first, second):
        vars(each).update(size=5, name="it")
    connection = stored(db, first=first, second=second)
    assert loaded(connection, "first").size == 5
    called: list[Any] = []
    setattr(Late, "size", property(lambda it: -1, lambda it, value: called.append(value)))  # noqa: B010
    try:
        it = loaded(connection, "second")
        assert it.size == -1
        assert vars(it) == {"size": 5, "name": "it"}
    finally:
        delattr(Late, "size")
    assert it.size == 5
    assert called == []


def test_what_a_ghost_was_given_does_not_outlive_its_loading(db: perdure.DB) -> None:
    connection = stored(db, it=Loose(a=1))
    it = connection.root()["it"]
    vars(it)["seen"] = True
    assert it._p_changed is None
    it._p_activate()
    assert vars(it) == {"a": 1}


def test_a_state_that_refers_to_itself_is_read_as_it_was_stored(db: perdure.DB) -> None:
    it = Loose(a=1)
    it.me = vars(it)
    found = loaded(stored(db, it=it), "it")
    assert found.me["a"] == 1
    assert found.me["me"] is found.me


def test_objects_of_an_abstract_class_are_loaded(db: perdure.DB) -> None:
    it: Any = Persistent.__new__(Abstract)
    vars(it).update(a=1)
    assert vars(loaded(stored(db, it=it), "it")) == {"a": 1}


def test_loading_an_object_ends_no_other(db: perdure.DB) -> None:
    it: Any = Ending()
    vars(it).update(a=1)
    connection = stored(db, it=it)
    before = Ending.ended
    assert vars(loaded(connection, "it")) == {"a": 1}
    assert Ending.ended == before


def test_slots_and_attributes_are_both_loaded(db: perdure.DB) -> None:
    it = Slotted()
    it.side, it.front = "slot", "attribute"
    found = loaded(stored(db, it=it), "it")
    assert (found.side, found.front) == ("slot", "attribute")
    assert vars(found) == {"front": "attribute"}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (b"}q\x01(]q\x02K\x01u.", "unhashable"),
        (b"}q\x01(X\x01\x00\x00\x00aK\x01", "damaged"),
        (b"}q\x01(X\x01\x00\x00\x00au.", "damaged"),
    ],
)
def test_a_damaged_state_is_an_error_that_names_the_object(
    db: perdure.DB, state: bytes, message: str
) -> None:
    connection = stored(db, it=Loose(a=1))
    it = connection.root()["it"]
    data, serial = db.storage.load(it._p_oid)
    description = data[: data.index(b".\x80") + 1]
    meta = TransactionMetaData()
    db.storage.tpc_begin(meta)
    db.storage.store(it._p_oid, serial, description + b"\x80\x03" + state, "", meta)
    db.storage.tpc_vote(meta)
    db.storage.tpc_finish(meta)
    connection.sync()
    with pytest.raises(StateLoadError, match="Loose") as caught:
        it._p_activate()
    assert message in str(caught.value) or message in str(caught.value.__cause__)


def test_attributes_that_were_written_in_batches_are_read(db: perdure.DB) -> None:
    connection = stored(db, it=Loose(a=1))
    it = connection.root()["it"]
    data, serial = db.storage.load(it._p_oid)
    description = data[: data.index(b".\x80") + 1]
    texts = b"X\x01\x00\x00\x00a", b"X\x01\x00\x00\x00b"
    for state in (
        b"}q\x01(" + texts[0] + b"K\x02u(" + texts[1] + b"K\x03u.",
        b"}q\x01(" + texts[0] + b"K\x02" + texts[1] + b"K\x03uq\x05.",
    ):
        meta = TransactionMetaData()
        db.storage.tpc_begin(meta)
        db.storage.store(it._p_oid, serial, description + b"\x80\x03" + state, "", meta)
        db.storage.tpc_vote(meta)
        serial = db.storage.tpc_finish(meta)
        connection.sync()
        assert vars(loaded(connection, "it")) == {"a": 2, "b": 3}


def test_attributes_are_seen_by_the_collector(db: perdure.DB) -> None:
    class Mark:
        """Is looked for."""

    connection = stored(db, it=Loose(a=1, b=2))
    it = loaded(connection, "it")
    mark = Mark()
    it._v_mark = mark
    assert any(each is it or each is vars(it) for each in gc.get_referrers(mark))


@pytest.mark.skipif(
    sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11),
    reason="where attributes are is known of CPython 3.11",
)
def test_loaded_objects_have_no_dictionaries_until_they_are_asked_for(db: perdure.DB) -> None:
    many = [Small(number) for number in range(100)]
    connection = stored(db, many=many)
    for each in connection.root()["many"]:
        each._p_activate()
        assert not any(type(part) is dict for part in gc.get_referents(each))
        held = vars(each)
        assert any(part is held for part in gc.get_referents(each))
