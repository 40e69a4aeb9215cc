"""Objects whose class is gone: they can be looked at, kept and brought back."""

import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest
import transaction
from persistent import Persistent
from tests.behaviour.models import Node

import perdure
from perdure.broken import Broken, BrokenModified, PersistentBroken

MODULE = "an_application_that_may_be_gone"


@pytest.fixture
def module() -> Iterator[Any]:
    """A module with a persistent and a plain class, which tests take away."""
    made: Any = ModuleType(MODULE)
    sys.modules[MODULE] = made
    made.Thing = type("Thing", (Persistent,), {"__module__": MODULE})
    made.Part = type("Part", (), {"__module__": MODULE})
    yield made
    sys.modules.pop(MODULE, None)


def stored(db: perdure.DB, module: Any) -> None:
    """Store an object of the module's class, with a plain one in it and one behind it."""
    with db.transaction() as conn:
        thing = conn.root.thing = module.Thing()
        thing.part = module.Part()
        thing.part.size = 1
        thing.next = conn.root.next = Node(x=1)


def fresh(db: perdure.DB) -> perdure.Connection:
    """A connection that knows no classes yet."""
    perdure.resetCaches()
    return db.open(transaction.TransactionManager())


def test_an_object_without_class_can_be_looked_at(db: perdure.DB, module: Any) -> None:
    stored(db, module)
    del sys.modules[MODULE]
    conn = fresh(db)
    thing = conn.root.thing
    assert isinstance(thing, PersistentBroken)
    assert type(thing).__name__ == "Thing"
    assert type(thing).__module__ == MODULE
    state = thing.__Broken_state__
    assert state["next"] is conn.root.next
    assert isinstance(state["part"], Broken)
    assert state["part"].__Broken_state__ == {"size": 1}
    assert MODULE in repr(thing)
    conn.close()


def test_an_object_without_class_cannot_be_changed(db: perdure.DB, module: Any) -> None:
    stored(db, module)
    del sys.modules[MODULE]
    conn = fresh(db)
    with pytest.raises(BrokenModified, match=rf"{MODULE}\.Thing.*'size'"):
        conn.root.thing.size = 2
    conn.transaction_manager.commit()
    conn.close()


def test_an_object_without_class_is_kept_as_it_was(db: perdure.DB, module: Any) -> None:
    stored(db, module)
    taken_away = sys.modules.pop(MODULE)
    conn = fresh(db)
    thing = conn.root.thing
    thing._p_changed = True
    conn.root.also = thing
    conn.transaction_manager.commit()
    conn.sync()
    _, serial = conn._storage.load(thing._p_oid)
    assert serial == db.lastTransaction(), "it was written again"
    conn.close()
    sys.modules[MODULE] = taken_away
    conn = fresh(db)
    assert type(conn.root.thing) is module.Thing
    assert conn.root.thing is conn.root.also
    assert type(conn.root.thing.part) is module.Part
    assert conn.root.thing.part.size == 1
    assert conn.root.thing.next.x == 1
    conn.close()


def test_the_objects_around_one_without_class_stay_usable(db: perdure.DB, module: Any) -> None:
    stored(db, module)
    del sys.modules[MODULE]
    with db.transaction() as conn:
        conn.root.next.x = 2
        del conn.root.thing
    with db.transaction() as conn:
        assert conn.root.next.x == 2
        assert not hasattr(conn.root, "thing")
