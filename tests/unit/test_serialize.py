"""What the object path promises, for the native and the standard implementation alike."""

import gc
import io
import os
import pickle
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import persistent
import pytest
from persistent.wref import WeakRef
from tests.property import records
from tests.property.records import (
    NativeConnection,
    Plain,
    Records,
    StandardConnection,
    Thing,
    numbered,
    same,
)

from perdure.broken import Broken, BrokenModified, PersistentBroken, find_global
from perdure.errors import (
    ConnectionStateError,
    InvalidObjectReference,
    POSKeyError,
    StateLoadError,
    UnpicklableError,
)
from perdure.ids import Oid
from perdure.persistentclass import PersistentMetaClass
from perdure.serialize import ObjectReader, ObjectWriter, get_refs, referencesf
from perdure.serialize.pickling import RecordPickler
from perdure.serialize.writer import StandardObjectWriter

Connection = NativeConnection | StandardConnection


@pytest.fixture(params=[NativeConnection, StandardConnection])
def connection(request: pytest.FixtureRequest) -> Connection:
    """A connection of each kind, over an empty storage."""
    made: Connection = request.param(Records())
    return made


@pytest.fixture(params=[ObjectWriter, StandardObjectWriter])
def writer(request: pytest.FixtureRequest, connection: Connection) -> Any:
    """A writer of each kind for the connection."""
    return request.param(connection)


def put(connection: Connection, writer: Any, obj: Any) -> Oid:
    """Store *obj* and what it leads to; return its oid."""
    if obj._p_oid is None:
        connection._adopt(obj)
    waiting = [obj]
    while waiting:
        current = waiting.pop()
        connection._storage.data[current._p_oid] = writer.serialize(current)
        waiting += writer.take_new()
    oid: Oid = obj._p_oid
    return oid


def reopened(connection: Connection) -> Connection:
    """Another connection to the same objects."""
    return type(connection)(connection._storage)


class Slots(persistent.Persistent):
    __slots__ = ("left", "right")


class Getter(persistent.Persistent):
    """Makes and takes a state of its own."""

    def __getstate__(self) -> Any:
        return [self.value]

    def __setstate__(self, state: Any) -> None:
        (self.value,) = state


class NeedsArgument(persistent.Persistent):
    """Has come to need an argument since references to it were written."""

    def __new__(cls, *args: str) -> Any:
        if not args:
            raise TypeError("needs an argument")
        return super().__new__(cls)


def test_what_was_stored_is_loaded(connection: Connection, writer: Any) -> None:
    shared = [1]
    oid = put(connection, writer, Thing({"a": shared, "b": shared, "c": (None, True, 2**80, 1.5)}))
    thing = reopened(connection).get(oid)
    assert thing._p_changed is None
    assert thing.value == {"a": [1], "b": [1], "c": (None, True, 2**80, 1.5)}
    assert thing.value["a"] is thing.value["b"]
    assert thing._p_serial == records.TID
    assert thing._p_changed is False
    assert thing._p_estimated_size > 0


def test_an_object_is_loaded_once(connection: Connection, writer: Any) -> None:
    inner = Thing(1)
    oid = put(connection, writer, Thing([inner, inner]))
    again = reopened(connection)
    thing = again.get(oid)
    assert thing.value[0] is thing.value[1]
    assert again.get(inner._p_oid) is thing.value[0]
    assert again._load_count == 1 if isinstance(again, StandardConnection) else True


def test_objects_that_refer_to_one_another_are_loaded(connection: Connection, writer: Any) -> None:
    left, right = Thing(), Thing()
    left.value, right.value = right, left
    oid = put(connection, writer, left)
    thing = reopened(connection).get(oid)
    assert thing.value.value is thing


def test_volatile_attributes_are_not_stored(connection: Connection, writer: Any) -> None:
    thing = Thing(1)
    thing._v_cache = threading.Lock()
    oid = put(connection, writer, thing)
    assert vars(reopened(connection).get(oid)) == {}
    loaded = reopened(connection).get(oid)
    loaded._p_activate()
    assert vars(loaded) == {"value": 1}


def test_attribute_names_are_shared(connection: Connection, writer: Any) -> None:
    thing = Thing()
    thing.an_attribute_of_its_own = 1
    loaded = reopened(connection).get(put(connection, writer, thing))
    loaded._p_activate()
    assert all(sys.intern(key) is key for key in vars(loaded))


def test_slots_are_stored(connection: Connection, writer: Any) -> None:
    slots = Slots()
    slots.left, slots.right = 1, Thing(2)
    loaded = reopened(connection).get(put(connection, writer, slots))
    assert (loaded.left, loaded.right.value) == (1, 2)


def test_a_class_makes_and_takes_its_own_state(connection: Connection, writer: Any) -> None:
    getter = Getter()
    getter.value = 5
    oid = put(connection, writer, getter)
    assert b"]q" in connection._storage.data[oid]
    assert reopened(connection).get(oid).value == 5


def test_arguments_for_new_come_from_the_record(connection: Connection, writer: Any) -> None:
    keyed = records.Keyed("k")
    keyed.extra = 1
    owner = Thing(keyed)
    loaded = reopened(connection).get(put(connection, writer, owner))
    assert loaded.value.key == "k"
    assert loaded.value.extra == 1
    assert get_refs(connection._storage.data[owner._p_oid]) == [(keyed._p_oid, None)]


def test_a_class_that_came_to_need_arguments_is_asked_by_its_record(
    connection: Connection, writer: Any
) -> None:
    needy = NeedsArgument("x")
    owner = put(connection, writer, Thing(needy))
    data = connection._storage.data
    described = pickle.dumps((NeedsArgument, ("y",)), 3)
    data[needy._p_oid] = described + pickle.dumps({"a": 1}, 3)
    assert reopened(connection).get(owner).value.a == 1


def test_weak_references_find_their_target_again(connection: Connection, writer: Any) -> None:
    target = Thing(1)
    owner = Thing([target, WeakRef(target)])
    owner.value.append(WeakRef(Thing("only weakly")))
    oid = put(connection, writer, owner)
    loaded = reopened(connection).get(oid)
    assert isinstance(loaded.value[1], WeakRef)
    assert loaded.value[1]() is loaded.value[0]
    assert loaded.value[2]().value == "only weakly"
    # A weak reference is no ordinary one.
    assert referencesf(connection._storage.data[oid]) == [target._p_oid]


def test_a_weak_reference_to_what_is_gone_is_empty(connection: Connection, writer: Any) -> None:
    target = Thing(1)
    oid = put(connection, writer, Thing(WeakRef(target)))
    del connection._storage.data[target._p_oid]
    assert reopened(connection).get(oid).value() is None


def test_old_references_are_read(connection: Connection) -> None:
    target, weak = numbered(7), numbered(8)
    for reference in (target, (target, Thing), (target, ("tests.property.records", "Thing"))):
        connection._storage.data[numbered(1)] = record_with(reference)
        connection._storage.data[target] = pickle.dumps(Thing, 3) + pickle.dumps({"value": 2}, 3)
        assert reopened(connection).get(numbered(1)).value.value == 2
    connection._storage.data[numbered(1)] = record_with([weak])
    loaded = reopened(connection).get(numbered(1))
    assert isinstance(loaded.value, WeakRef)
    assert loaded.value.oid == weak


def test_a_reference_that_is_written_once_and_used_twice_is_read(connection: Connection) -> None:
    marker = object()
    pair = [marker, marker]
    connection._storage.data[numbered(1)] = record_with((numbered(7), Thing), pair, marker)
    connection._storage.data[numbered(7)] = pickle.dumps(Thing, 3) + pickle.dumps({"value": 2}, 3)
    first, again = reopened(connection).get(numbered(1)).value
    assert first is again
    assert first.value == 2


_MARKER = object()


def record_with(reference: Any, value: Any = _MARKER, marker: object = _MARKER) -> bytes:
    """A record of *value*, in which a reference stands for *marker*."""
    file = io.BytesIO()
    pickler = RecordPickler(file, lambda obj: reference if obj is marker else None)
    pickler.dump(Thing)
    pickler.dump({"value": value})
    return file.getvalue()


def test_strings_of_python_2_are_text_if_ascii_else_bytes(connection: Connection) -> None:
    begin = b"\x80\x02ctests.property.records\nThing\nq\x00.\x80\x02}q\x01U\x05valueq\x02"
    connection._storage.data[numbered(1)] = (
        begin + b"]q\x03(U\x03abcq\x04U\x02\xff\xfeq\x05T\x01\0\0\0xes."
    )
    assert reopened(connection).get(numbered(1)).value == ["abc", b"\xff\xfe", "x"]


def test_binary_of_zodbpickle_is_bytes(connection: Connection) -> None:
    begin = b"\x80\x03ctests.property.records\nThing\nq\x00.\x80\x03}q\x01X\x05\0\0\0valueq\x02"
    made = b"czodbpickle\nbinary\nq\x03C\x02abq\x04\x85q\x05Rq\x06s."
    connection._storage.data[numbered(1)] = begin + made
    value = reopened(connection).get(numbered(1)).value
    assert (type(value), value) == (bytes, b"ab")


@pytest.fixture
def lost_module() -> Iterator[ModuleType]:
    """A module whose classes can be taken away."""
    module = ModuleType("lost_and_found")
    source = "class Inner:\n    pass\nclass Outer(persistent.Persistent):\n    pass\n"
    module.persistent = persistent  # type: ignore[attr-defined]
    exec(source, module.__dict__)
    sys.modules[module.__name__] = module
    yield module
    sys.modules.pop(module.__name__, None)


def test_objects_of_missing_classes_are_kept_whole(
    connection: Connection, writer: Any, lost_module: ModuleType
) -> None:
    outer = lost_module.Outer()
    outer.inner = lost_module.Inner()
    outer.inner.a = 1
    oid = put(connection, writer, Thing(outer))
    del sys.modules["lost_and_found"]
    again = reopened(connection)
    broken = again.get(oid).value
    assert isinstance(broken, PersistentBroken)
    broken._p_activate()
    state = broken.__Broken_state__
    assert isinstance(state["inner"], Broken)
    with pytest.raises(BrokenModified, match="lost_and_found"):
        broken.a = 2
    # Stored again, it comes back to life with its class.
    again_writer = type(writer)(again)
    again._storage.data[outer._p_oid] = again_writer.serialize(broken)
    again._storage.data[oid] = again_writer.serialize(again.get(oid))
    sys.modules["lost_and_found"] = lost_module
    revived = reopened(connection).get(oid).value
    assert type(revived) is lost_module.Outer
    assert type(revived.inner) is lost_module.Inner
    assert revived.inner.a == 1


def test_a_class_that_was_replaced_is_noticed(
    connection: Connection, writer: Any, lost_module: ModuleType
) -> None:
    oid = put(connection, writer, lost_module.Outer())
    again = reopened(connection)
    assert type(again.get(oid)) is lost_module.Outer
    again._cache.full_sweep()
    gc.collect()
    newer = type("Outer", (persistent.Persistent,), {"__module__": "lost_and_found"})
    lost_module.Outer = newer  # type: ignore[attr-defined]
    assert type(again.get(oid)) is newer


class Meta(PersistentMetaClass):
    """Makes persistent classes."""


def test_persistent_classes_are_loaded_with_their_attributes(
    connection: Connection, writer: Any
) -> None:
    stored_class = Meta("Stored", (object,), {"__module__": "", "answer": 42})
    oid = put(connection, writer, Thing(stored_class))
    loaded = reopened(connection).get(oid).value
    assert loaded is not stored_class
    assert (loaded.__name__, loaded.answer) == ("Stored", 42)


def test_a_closed_connection_loads_nothing(connection: Connection, writer: Any) -> None:
    oid = put(connection, writer, Thing(1))
    again = reopened(connection)
    thing = again.get(oid)
    again.opened = None
    with pytest.raises(ConnectionStateError, match="Thing"):
        thing._p_activate()
    with pytest.raises(ConnectionStateError):
        again.get(oid)


def test_an_object_that_is_gone_is_a_key_error(connection: Connection) -> None:
    with pytest.raises(POSKeyError):
        connection.get(numbered(99))


def test_a_record_that_cant_be_read_names_the_object(connection: Connection, writer: Any) -> None:
    thing = Thing(Plain(a=1))
    oid = put(connection, writer, thing)
    data = connection._storage.data
    data[oid] = data[oid].replace(b"}q", b"\xffq")
    again = reopened(connection)
    with pytest.raises(StateLoadError) as caught:
        again.get(oid)._p_activate()
    assert "Thing" in str(caught.value)
    assert isinstance(caught.value.__cause__, Exception)


def test_an_error_in_setstate_is_the_cause(connection: Connection, writer: Any) -> None:
    getter = Getter()
    getter.value = 1
    oid = put(connection, writer, getter)
    data = connection._storage.data
    data[oid] = pickle.dumps(Getter, 3) + pickle.dumps([1, 2], 3)
    with pytest.raises(StateLoadError) as caught:
        reopened(connection).get(oid)._p_activate()
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.oid == oid


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), ".value"),
        ({"a": [1, threading.Lock()]}, ".value['a'][1]"),
        (Plain(deep=({"x": lambda: 1},)), ".value.deep[0]['x']"),
        ([1, {2: (iter(()) for _ in "a")}], ".value[1][2]"),
    ],
)
def test_an_unpicklable_attribute_is_named(
    connection: Connection, writer: Any, value: Any, path: str
) -> None:
    thing = Thing(value)
    connection._adopt(thing)
    with pytest.raises(UnpicklableError) as caught:
        writer.serialize(thing)
    assert caught.value.path == path
    assert caught.value.oid == thing._p_oid
    assert caught.value.class_name == "tests.property.records.Thing"
    assert path in str(caught.value)
    assert isinstance(caught.value, TypeError)
    assert caught.value.__cause__ is not None


def test_values_nested_too_deeply_are_named(connection: Connection, writer: Any) -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    thing = Thing({"deep": nested})
    connection._adopt(thing)
    with pytest.raises(UnpicklableError) as caught:
        writer.serialize(thing)
    assert (caught.value.path or "").startswith(".value['deep'][0][0]")


def test_deeply_nested_values_are_stored(connection: Connection, writer: Any) -> None:
    nested: Any = ()
    for _ in range(400):
        nested = [(nested,)] if isinstance(nested, tuple) else {"k": nested}
    loaded = reopened(connection).get(put(connection, writer, Thing(nested)))
    assert pickle.dumps(loaded.value) == pickle.dumps(nested)


PURE_PROGRAM = """
import perdure, persistent.mapping, transaction
with perdure.DB(None).transaction() as connection:
    connection.root.inner = persistent.mapping.PersistentMapping(a=1)
connection = connection.db().open()
connection.cacheMinimize()
print(connection.root.inner["a"])
"""


def test_without_the_c_implementation_of_persistent_the_standard_one_works() -> None:
    found = subprocess.run(
        [sys.executable, "-c", PURE_PROGRAM],
        env={**os.environ, "PURE_PYTHON": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.stdout, found.returncode) == ("1\n", 0), found.stderr


def test_an_error_in_getstate_surfaces(connection: Connection, writer: Any) -> None:
    class Failing(persistent.Persistent):
        def __getstate__(self) -> Any:
            raise ZeroDivisionError("the application's own")

    failing = Failing()
    connection._adopt(failing)
    with pytest.raises(ZeroDivisionError):
        writer.serialize(failing)


def test_objects_of_other_connections_are_refused(connection: Connection, writer: Any) -> None:
    other = type(connection)(Records())
    foreign = Thing(1)
    other._adopt(foreign)
    thing = Thing(foreign)
    connection._adopt(thing)
    with pytest.raises(InvalidObjectReference):
        writer.serialize(thing)


def test_new_objects_are_queued_in_the_order_they_are_met(
    connection: Connection, writer: Any
) -> None:
    first, second = Thing(1), Thing(2)
    thing = Thing([first, second, first])
    connection._adopt(thing)
    writer.serialize(thing)
    assert writer.take_new() == [first, second]
    assert writer.take_new() == []


def test_a_reader_without_connection_tells_the_class(connection: Connection, writer: Any) -> None:
    record = connection._storage.data[put(connection, writer, Thing(1))]
    reader = ObjectReader(None, None, lambda _, module, name: find_global(module, name))
    assert reader.getClassName(record) == "tests.property.records.Thing"


def test_common_values_dont_need_the_standard_pickle(monkeypatch: pytest.MonkeyPatch) -> None:
    import datetime as dt

    from BTrees.OOBTree import OOBTree

    connection = NativeConnection(Records())
    writer = ObjectWriter(connection)
    values: list[Any] = [1, "a", b"b", 2.0, None, (1,), {1: 2}, {3}, Thing(), Plain(a=1)]
    values += [dt.datetime(2020, 1, 1, tzinfo=dt.timezone.utc), OOBTree({1: Thing()}), 2**100]
    monkeypatch.setattr("perdure.serialize.standard_writer.dump_both", None)
    monkeypatch.setattr("perdure.serialize.reader.load_both", None)
    oid = put(connection, writer, Thing(values))
    loaded = reopened(connection).get(oid).value
    assert loaded[:4] == values[:4]
    assert len(loaded[-2]) == 1


def test_loading_leaks_nothing(connection: Connection, writer: Any) -> None:
    leaf = Thing("leaf")
    oid = put(connection, writer, Thing([leaf, Plain(a=1), {"k": (1, 2)}, WeakRef(leaf)]))
    again = reopened(connection)

    def load_many() -> int:
        for _ in range(200):
            thing = again.get(oid)
            thing.value[0]._p_activate()
            again._cache.minimize()
            del thing
        gc.collect()
        return len(gc.get_objects())

    load_many()
    before = load_many()
    assert load_many() - before < 20


def test_a_connection_that_nobody_holds_is_collected(connection: Connection, writer: Any) -> None:
    oid = put(connection, writer, Thing([Thing(1)]))
    again = reopened(connection)
    again.get(oid).value[0]._p_activate()
    alive = weakref.ref(again)
    del again
    gc.collect()
    assert alive() is None


def test_the_same_is_read_by_both(connection: Connection, writer: Any) -> None:
    value = {"x": [Plain(a=(1, 2)), {1, 2}, frozenset({3})]}
    oid = put(connection, writer, Thing(value))
    loaded = [kind(connection._storage).get(oid) for kind in (NativeConnection, StandardConnection)]
    assert same(loaded[0].value, loaded[1].value)
