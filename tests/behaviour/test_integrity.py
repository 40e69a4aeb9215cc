"""New references within a member that would lead nowhere."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree, OOTreeSet
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef
from tests.behaviour.models import Account, Node
from tests.layers import LAYERED_MEMBERS

import perdure
from perdure import errors
from perdure.connection import TransactionMetaData
from perdure.db.garbage import _LastLook


@pytest.fixture(params=["memory", "file", *LAYERED_MEMBERS])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.Collection]:
    paths = {name: tmp_path / f"{name}.fs" for name in ("one", "two")}
    members: dict[str, Any] = paths if request.param == "file" else dict.fromkeys(paths)
    if request.param in LAYERED_MEMBERS:
        members["one"] = LAYERED_MEMBERS[request.param](tmp_path, "one")
        members["two"] = tmp_path / "two.fs"
    with perdure.Collection(members) as made:
        yield made


@pytest.fixture
def conn(collection: perdure.Collection) -> Iterator[Any]:
    """A connection that has an object which isn't referred to any more, and a holder."""
    manager = transaction.TransactionManager()
    conn: Any = collection.open(manager)
    conn.root.holder = Node()
    conn.root.lost = Account(1.0)
    manager.commit()
    conn.lost = conn.root.lost
    del conn.root.lost
    manager.commit()
    yield conn
    manager.abort()
    conn.close()


def collect(conn: Any) -> None:
    """Delete, elsewhere, what isn't referred to."""
    assert perdure.Collection(conn.db().databases).gc().total == 1


def refused(conn: Any) -> errors.DanglingReferenceError:
    with pytest.raises(errors.DanglingReferenceError) as raised:
        conn.transaction_manager.commit()
    conn.transaction_manager.abort()
    return raised.value


@pytest.mark.parametrize("state", ["loaded", "ghost", "invalidated"])
@pytest.mark.parametrize("savepoint", [False, True])
def test_a_new_reference_to_what_was_deleted_is_refused(
    conn: Any, state: str, *, savepoint: bool
) -> None:
    lost, holder, manager = conn.lost, conn.root.holder, conn.transaction_manager
    if state == "ghost":
        conn.cacheMinimize()
    else:
        assert lost.balance == 1
    collect(conn)
    if state == "invalidated":
        manager.begin()
        assert lost._p_changed is None
    holder.parts = {"a": [lost]}
    if savepoint:
        manager.savepoint()
    error = refused(conn)
    assert (error.referer, error.missing, error.database) == (holder._p_oid, lost._p_oid, "one")
    assert error.path == ".parts['a'][0]"
    assert "models.Node" in str(error)
    assert not hasattr(holder, "parts")
    holder.parts = {"b": []}
    manager.commit()


@pytest.mark.parametrize("entries", [1, 500])
def test_the_path_leads_through_the_keys_of_a_tree(conn: Any, entries: int) -> None:
    tree = conn.root.tree = OOBTree({f"tea {number:03}": [number] for number in range(entries)})
    names = conn.root.names = OOTreeSet([("green", None)])
    conn.transaction_manager.commit()
    collect(conn)
    tree["tea 000"].append(conn.lost)
    tree["tea 000"] = tree["tea 000"]
    error = refused(conn)
    assert (error.path, error.missing) == ("['tea 000'][1]", conn.lost._p_oid)
    names.update([("black", conn.lost)])
    assert refused(conn).path == "<member>[1]"


def test_a_new_object_can_not_refer_to_what_was_deleted(conn: Any) -> None:
    collect(conn)
    new = conn.root.new = Node(part=Node(lost=conn.lost))
    inner = new.part
    error = refused(conn)
    assert error.missing == conn.lost._p_oid
    assert error.path == ".lost"
    assert new._p_oid is inner._p_oid is None


def test_a_refused_reference_leaves_no_member_changed(collection: Any, conn: Any) -> None:
    collect(conn)
    before = collection.lastTransaction()
    conn["two"].root.number = 1
    conn.root.lost = conn.lost
    refused(conn)
    assert collection.lastTransaction() == before
    assert "number" not in conn["two"].root()


def test_what_was_referred_to_before_is_let_pass(conn: Any) -> None:
    holder, manager, database = conn.root.holder, conn.transaction_manager, conn.db()
    collect(conn)
    database.check_references = False
    holder.lost = conn.lost
    manager.commit()
    database.check_references = True
    holder.number = 1
    manager.commit()
    holder.again = [conn.lost]
    manager.commit()
    conn.root.other = conn.lost
    assert refused(conn).missing == conn.lost._p_oid


def test_a_weak_reference_may_lead_nowhere(conn: Any) -> None:
    collect(conn)
    conn.root.weak = WeakRef(conn.lost)
    conn.transaction_manager.commit()


def test_a_class_that_the_standard_pickle_writes_is_checked_too(conn: Any) -> None:
    collect(conn)
    # Single surrogates aren't written natively.
    conn.root.holder.part = ["\ud800", conn.lost]
    assert refused(conn).path == ".part[1]"


def test_an_undone_creation_can_not_be_referred_to(collection: Any, conn: Any) -> None:
    manager = conn.transaction_manager
    node = conn.root.node = Node()
    manager.commit()
    collection.undo(collection.undoLog()[0]["id"])
    transaction.commit()
    conn.root.holder.node = node
    assert refused(conn).missing == node._p_oid


def test_an_object_that_a_pack_dropped_can_not_be_referred_to() -> None:
    with perdure.DB(None) as database:
        manager = transaction.TransactionManager()
        conn: Any = database.open(manager)
        lost = conn.root.lost = Account()
        manager.commit()
        del conn.root.lost
        manager.commit()
        database.pack()
        assert lost._p_changed is False
        conn.root.again = lost
        assert refused(conn).missing == lost._p_oid
        conn.close()


def test_objects_of_the_same_transaction_and_large_containers_are_let_pass(conn: Any) -> None:
    from BTrees.OOBTree import OOBTree

    manager = conn.transaction_manager
    tree = conn.root.tree = OOBTree()
    for number in range(300):
        tree[number] = PersistentMapping(number=Account(number))
        if number % 50 == 0:
            manager.savepoint()
            conn.cacheMinimize()
    manager.commit()
    conn.cacheMinimize()
    tree[1000] = tree[7]["number"]
    manager.commit()
    conn.cacheMinimize()
    assert tree[1000].balance == 7


class _Slow(Account):
    """Lets something else happen while it is serialised."""

    def __getstate__(self) -> Any:
        self._v_meanwhile()
        return super().__getstate__()


@pytest.mark.parametrize("member", ["one", "two"])
def test_what_is_deleted_while_a_reference_is_being_committed_is_refused(
    conn: Any, member: str
) -> None:
    manager = conn.transaction_manager
    slow = conn[member].root.slow = _Slow()
    slow._v_meanwhile = int
    manager.commit()
    done: list[bool] = []

    def delete() -> None:
        if not done:
            done.append(True)
            collect(conn)

    slow.lost = conn.lost
    slow._v_meanwhile = delete
    # After the reference was looked at, before the vote.
    conn[member].root.last = late = _Slow()
    late._v_meanwhile = delete
    slow._v_meanwhile = int
    error = refused(conn)
    assert done
    assert (error.missing, error.path) == (conn.lost._p_oid, ".lost")


def test_what_a_commit_that_is_not_visible_yet_refers_to_is_no_garbage(
    collection: perdure.Collection, conn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The commit is held between its finish and its visibility; the collection waits for it."""
    held, go = threading.Event(), threading.Event()
    storage, meta = conn.db().storage, TransactionMetaData()
    data, serial = storage.load(conn.root.holder._p_oid)
    changed = data.replace(
        b"}q\x01.", b"}q\x01X\x04\x00\x00\x00lostC\x08" + conn.lost._p_oid + b"Qs."
    )
    assert changed != data
    storage.tpc_begin(meta)
    storage.store(conn.root.holder._p_oid, serial, changed, "", meta)
    storage.tpc_vote(meta)

    def hold(_tid: Any) -> None:
        held.set()
        assert go.wait(30)

    finisher = threading.Thread(target=storage.tpc_finish, args=(meta, hold))
    finisher.start()
    assert held.wait(30)
    look = _LastLook.tpc_vote

    def let_go_while_looking(self: Any, current: Any) -> None:
        threading.Timer(0.1, go.set).start()
        look(self, current)

    monkeypatch.setattr(_LastLook, "tpc_vote", let_go_while_looking)
    assert collection.gc().total == 0
    finisher.join(30)
    conn.transaction_manager.begin()
    conn.cacheMinimize()
    assert conn.root.holder.lost.balance == 1
