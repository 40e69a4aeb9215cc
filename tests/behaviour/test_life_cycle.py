"""Persistent objects: their states, special attributes, and how they come and go."""

import gc
import weakref
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree, TreeSet
from persistent import Persistent
from persistent.list import PersistentList
from persistent.wref import WeakRef
from tests.behaviour.models import Account, Node

import perdure
from perdure import errors, interfaces
from perdure.utils import z64


def commit(conn: perdure.Connection) -> None:
    conn.transaction_manager.commit()


class Book(Persistent):
    """A book, as the guide's examples have it."""

    publisher = "unknown"

    def __init__(self, title: str) -> None:
        self.title = title
        self.authors: list[str] = []
        self.editors: tuple[str, ...] = ()
        self.readers = PersistentList()
        self.subjects = TreeSet()

    def add_author(self, author: str) -> None:
        self.authors.append(author)
        self._p_changed = True

    def add_editor(self, editor: str) -> None:
        self.editors += (editor,)

    @property
    def name(self) -> str:
        return self.title

    @name.setter
    def name(self, value: str) -> None:
        if value:
            self.title = value


def states(obj: Any) -> tuple[bool | None, bool, bool]:
    """`_p_changed`, whether there is an oid, whether there is a serial."""
    return obj._p_changed, bool(obj._p_oid), obj._p_serial != z64


def test_an_object_goes_through_its_states(conn: perdure.Connection) -> None:
    book = Book("persistence")
    assert states(book) == (False, False, False), "unsaved"
    conn.add(book)
    assert states(book) == (False, True, False), "added"
    commit(conn)
    assert states(book) == (False, True, True), "saved"
    book.title = "persistence explained"
    assert states(book) == (True, True, True), "changed"
    conn.transaction_manager.abort()
    assert states(book)[:2] == (None, True), "a ghost"
    assert book.title == "persistence"
    assert states(book) == (False, True, True), "saved again"
    setattr(book, "_p_changed", None)  # noqa: B010 - mypy takes it for a bool
    assert states(book)[:2] == (None, True), "a ghost by request"
    assert book.title == "persistence"


def test_looking_at_special_attributes_loads_nothing(conn: perdure.Connection) -> None:
    conn.root.book = Book("x")
    commit(conn)
    book = conn.root.book
    book._p_deactivate()
    assert book._p_jar is conn
    assert conn.get(book._p_oid) is book
    assert book.__dict__ == {}
    assert book._p_changed is None


def test_invalidating_drops_changes(conn: perdure.Connection) -> None:
    conn.root.book = Book("x")
    commit(conn)
    book = conn.root.book
    book.title = "y"
    book._p_deactivate()
    assert book.title == "y", "a changed object can't be deactivated"
    book._p_invalidate()
    assert book.title == "x"


def test_a_change_of_a_plain_value_needs_to_be_flagged(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    conn.root.book = Book("x")
    commit(conn)
    conn.root.book.authors.append("lost")
    commit(conn)
    conn.cacheMinimize()
    assert conn.root.book.authors == []
    conn.root.book.add_author("kept")
    commit(conn)
    with db.transaction() as other:
        assert other.root.book.authors == ["kept"]


def test_tuples_and_persistent_collections_need_no_flag(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    book = conn.root.book = Book("x")
    commit(conn)
    serial = book._p_serial
    book.readers.append("a reader")
    book.subjects.add("databases")
    commit(conn)
    assert book._p_serial == serial, "the book itself didn't change"
    book.add_editor("an editor")
    commit(conn)
    assert book._p_serial > serial
    with db.transaction() as other:
        book = other.root.book
        assert list(book.readers) == ["a reader"]
        assert list(book.subjects) == ["databases"]
        assert book.editors == ("an editor",)


def test_setting_a_property_counts_as_a_change(conn: perdure.Connection) -> None:
    book = conn.root.book = Book("x")
    commit(conn)
    book.name = ""
    assert book._p_changed is True
    conn.transaction_manager.abort()
    book.name = "y"
    commit(conn)
    assert book.name == book.title == "y"


def test_volatile_attributes_are_not_stored(db: perdure.DB, conn: perdure.Connection) -> None:
    book = conn.root.book = Book("x")
    commit(conn)
    book._v_cached = 1
    assert book._p_changed is False
    book.title = "y"
    commit(conn)
    assert book._v_cached == 1
    with db.transaction() as other:
        assert not hasattr(other.root.book, "_v_cached")
    book._p_deactivate()
    assert not hasattr(book, "_v_cached")


def test_attributes_added_to_a_class_later_have_its_defaults(conn: perdure.Connection) -> None:
    conn.root.book = Book("x")
    commit(conn)
    assert conn.root.book.publisher == "unknown"


class Slotted(Persistent):
    """A persistent object with slots."""

    __slots__ = ("left", "right")


class SlottedToo(Slotted):
    """One with slots and a dictionary."""


def test_slots_are_stored(db: perdure.DB, conn: perdure.Connection) -> None:
    plain = conn.root.plain = Slotted()
    plain.left = 1
    mixed = conn.root.mixed = SlottedToo()
    mixed.left, mixed.other = 2, 3
    commit(conn)
    with db.transaction() as other:
        assert other.root.plain.left == 1
        assert not hasattr(other.root.plain, "right")
        assert (other.root.mixed.left, other.root.mixed.other) == (2, 3)


class Celsius(Persistent):
    """Stores its state in another form."""

    def __init__(self, degrees: float) -> None:
        self.degrees = degrees

    def __getstate__(self) -> Any:
        return {"kelvin": self.degrees + 273}

    def __setstate__(self, state: Any) -> None:
        self.__dict__["degrees"] = state["kelvin"] - 273


def test_getstate_and_setstate_make_the_record(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.warm = Celsius(20)
    commit(conn)
    with db.transaction() as other:
        assert other.root.warm.degrees == 20
        assert other.oldstate(other.root.warm, other.root.warm._p_serial) == {"kelvin": 293}


class Plain:
    """Not persistent: part of the record of who refers to it."""

    def __init__(self, value: int) -> None:
        self.value = value


def test_plain_objects_are_copied_into_each_record(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    shared = Plain(1)
    conn.root.one, conn.root.two = Node(part=shared), Node(part=shared)
    commit(conn)
    with db.transaction() as other:
        one, two = other.root.one.part, other.root.two.part
        assert (one.value, two.value) == (1, 1)
        assert one is not two


def test_persistent_objects_keep_their_identity(db: perdure.DB, conn: perdure.Connection) -> None:
    shared = Node()
    conn.root.one, conn.root.two = Node(part=shared), Node(part=[shared, shared])
    commit(conn)
    with db.transaction() as other:
        assert other.root.two.part[0] is other.root.one.part
        assert other.root.two.part[1] is other.root.one.part


def test_accounts_in_a_btree(db: perdure.DB, conn: perdure.Connection) -> None:
    conn.root.accounts = OOBTree()
    for number in range(100):
        conn.root.accounts[f"account-{number:03}"] = Account(number)
    commit(conn)
    conn.root.accounts["account-007"].deposit(100)
    commit(conn)
    with db.transaction() as other:
        accounts = other.root.accounts
        assert len(accounts) == 100
        assert accounts["account-007"].balance == 107
        assert list(accounts.keys("account-097")) == ["account-097", "account-098", "account-099"]


def test_weak_references(db: perdure.DB, conn: perdure.Connection) -> None:
    target = conn.root.target = Node(name="target")
    conn.root.weak = Node(ref=WeakRef(target), gone=WeakRef(Node(name="only weakly")))
    commit(conn)
    assert conn.root.weak.ref() is target
    with db.transaction() as other:
        assert other.root.weak.ref() is other.root.target
        assert other.root.weak.gone().name == "only weakly", "until the next pack"
        assert WeakRef(other.root.target) == other.root.weak.ref


def test_a_weak_reference_to_what_is_gone_gives_none(conn: perdure.Connection) -> None:
    conn.root.weak = Node(ref=WeakRef(Node()))
    commit(conn)
    conn.root.weak.ref.oid = b"\0\0\0\0\0\xff\xff\xff"
    del conn.root.weak.ref._v_ob
    conn.root.weak._p_changed = True
    commit(conn)
    conn.cacheMinimize()
    assert conn.root.weak.ref() is None


def test_unreachable_ghosts_leave_memory(conn: perdure.Connection) -> None:
    conn.root.node = Node(child=Node())
    commit(conn)
    gone = weakref.ref(conn.root.node.child)
    conn.cacheMinimize()
    gc.collect()
    assert gone() is None
    assert conn.root.node.child is not None


def test_a_closed_connection_loads_nothing(db: perdure.DB) -> None:
    conn = db.open()
    conn.root.node = Node(x=1)
    transaction.commit()
    node = conn.root.node
    node._p_deactivate()
    conn.close()
    with pytest.raises(errors.ConnectionStateError, match="closed"):
        node.x  # noqa: B018
    with pytest.raises(errors.ConnectionStateError, match="closed"):
        conn.get(z64)
    with pytest.raises(errors.ConnectionStateError, match="closed"):
        conn.root()
    with pytest.raises(errors.ConnectionStateError, match="closed"):
        conn.add(Node())
    with pytest.raises(errors.ConnectionStateError, match="closed"):
        conn.isReadOnly()
    with pytest.raises(errors.ConnectionStateError, match="closed"):
        conn.sync()


def test_a_change_to_an_object_of_a_closed_connection_is_refused(db: perdure.DB) -> None:
    conn = db.open()
    conn.root.node = Node(x=1)
    transaction.commit()
    node = conn.root.node
    assert node.x == 1
    conn.close()
    with pytest.raises(errors.ConnectionStateError, match="closed"):
        node.x = 2


def test_get_gives_the_object_with_an_oid(conn: perdure.Connection) -> None:
    node = conn.root.node = Node()
    commit(conn)
    assert conn.get(node._p_oid) is node
    assert conn[node._p_oid] is node
    with pytest.raises(errors.POSKeyError) as caught:
        conn.get(b"\0\0\0\0\0\xff\xff\xff")
    assert isinstance(caught.value, KeyError)


def test_a_reference_to_what_is_gone_is_a_clear_error(conn: perdure.Connection) -> None:
    ghost = Node.__new__(Node)
    ghost._p_oid = b"\0\0\0\0\0\xff\xff\xff"
    ghost._p_jar = conn
    ghost._p_deactivate()
    assert ghost._p_changed is None
    with pytest.raises(errors.POSKeyError) as caught:
        ghost.x  # noqa: B018
    assert caught.value.oid == ghost._p_oid
    assert caught.value.class_name == "tests.behaviour.models.Node"
    assert caught.value.database == "unnamed"
    assert str(caught.value).startswith("0xffffff (")


def test_add_gives_an_oid_at_once(conn: perdure.Connection) -> None:
    node = Node(x=1)
    conn.add(node)
    assert node._p_jar is conn
    assert conn.get(node._p_oid) is node
    conn.add(node)
    conn.cacheMinimize()
    assert node.x == 1
    node.x = 2
    oid = node._p_oid
    commit(conn)
    conn.cacheMinimize()
    assert conn.get(oid).x == 2


def test_an_aborted_add_leaves_the_object_outside(conn: perdure.Connection) -> None:
    node = Node(x=1)
    conn.add(node)
    oid = node._p_oid
    conn.transaction_manager.abort()
    assert (node._p_jar, node._p_oid, node.x) == (None, None, 1)
    with pytest.raises(errors.POSKeyError):
        conn.get(oid)
    conn.add(node)
    commit(conn)
    assert node._p_serial != z64


def test_only_persistent_objects_can_be_added(conn: perdure.Connection) -> None:
    with pytest.raises(TypeError, match="Plain"):
        conn.add(Plain(1))


def test_the_jar_cannot_be_assigned(conn: perdure.Connection) -> None:
    node = Node()
    node._p_jar = conn
    with pytest.raises(ValueError, match="_p_jar"):
        node.x = 1
    del node._p_jar


def test_old_states_can_be_looked_at(conn: perdure.Connection) -> None:
    node = conn.root.node = Node(x=1)
    commit(conn)
    first = node._p_serial
    node.x = 2
    commit(conn)
    assert conn.oldstate(node, first) == {"x": 1}
    assert conn.oldstate(node, node._p_serial) == {"x": 2}
    with pytest.raises(errors.POSKeyError):
        conn.oldstate(node, z64)


def test_the_root_gives_its_items_as_attributes(conn: perdure.Connection) -> None:
    conn.root.x = 1
    conn.root()["y"] = 2
    assert conn.root()["x"] == 1
    assert conn.root.y == 2
    assert "x" in dir(conn.root)
    assert repr(conn.root) == "<root: x y>"
    del conn.root.x
    assert "x" not in conn.root()
    with pytest.raises(AttributeError, match="'x'"):
        conn.root.x  # noqa: B018
    with pytest.raises(AttributeError, match="'x'"):
        del conn.root.x
    for number in range(30):
        conn.root()[f"name{number:02}"] = number
    assert repr(conn.root).endswith(" ...>")
    assert len(repr(conn.root)) < 80


def test_transfers_are_counted(conn: perdure.Connection) -> None:
    conn.root()._p_activate()
    conn.getTransferCounts(clear=True)
    conn.root.node = Node()
    commit(conn)
    conn.cacheMinimize()
    conn.root.node._p_activate()
    assert conn.getTransferCounts() == (2, 2)
    assert conn.getTransferCounts(clear=True) == (2, 2)
    assert conn.getTransferCounts() == (0, 0)


def test_a_large_record_brings_a_warning(open_db: Any) -> None:
    db = open_db(large_record_size=2000)
    with db.transaction() as conn:
        conn.root.small = "x" * 1000
    with pytest.warns(UserWarning, match=r"Node.*large") as caught, db.transaction() as conn:
        conn.root.large = Node(text="x" * 2000)
    assert "large_record_size" in str(caught[0].message)


def test_prefetching_harms_nobody(conn: perdure.Connection) -> None:
    node = conn.root.node = Node()
    commit(conn)
    conn.cacheMinimize()
    conn.prefetch(node._p_oid, node, [node, node._p_oid])
    assert conn.root.node is node
    for nonsense in (1, "text", [node, None]):
        with pytest.raises(TypeError, match="can't prefetch"):
            conn.prefetch(nonsense)


def test_a_storage_that_can_prefetch_is_told_what_will_be_needed(
    db: perdure.DB, conn: perdure.Connection
) -> None:
    if not interfaces.IMVCCStorage.providedBy(db.storage):
        pytest.skip("for storages whose connections have instances of their own")
    node = conn.root.node = Node()
    commit(conn)
    root = conn.root()
    conn.cacheMinimize()
    told: list[bytes] = []
    conn._storage._prefetch = told.extend
    conn.prefetch(node, [root, (other for other in [node, Node()])], node._p_oid)
    assert told == [node._p_oid, z64]
    node._p_activate()
    conn.prefetch([[node]])
    assert told == [node._p_oid, z64]


def test_a_class_factory_finds_classes(open_db: Any) -> None:
    asked: list[tuple[str, str]] = []

    def factory(connection: Any, module: str, name: str) -> Any:
        asked.append((module, name))
        return (
            Replacement if name == "Book" else perdure.DB.classFactory(db, connection, module, name)
        )

    db = open_db()
    with db.transaction() as conn:
        conn.root.book = Book("x")
    db.classFactory = factory
    db.cacheMinimize()
    conn = db.open(transaction.TransactionManager())
    fresh = db.open(transaction.TransactionManager())
    assert type(fresh.root.book) is Replacement
    assert (__name__, "Book") in asked
    fresh.close()
    conn.close()


class Replacement(Persistent):
    """What a class factory gives instead of Book."""


def test_caches_are_reset_when_classes_were_reloaded(db: perdure.DB) -> None:
    conn = db.open()
    conn.root.node = Node()
    transaction.commit()
    node = conn.root.node
    conn.close()
    again = db.open()
    assert again is conn
    assert again.root.node is node
    again.close()
    perdure.resetCaches()
    again = db.open()
    assert again.root.node is not node
    again.close()
