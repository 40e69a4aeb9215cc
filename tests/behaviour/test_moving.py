"""Moving objects to another member."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from persistent.wref import WeakRef
from tests.behaviour.models import Account, Node
from tests.layers import LAYERED_MEMBERS

import perdure
from perdure import errors
from perdure.maintenance import ObjectPlace


@pytest.fixture(params=["memory", "file", *LAYERED_MEMBERS])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.Collection]:
    def storage(name: str) -> Any:
        if request.param == "memory":
            return perdure.MappingStorage(name)
        if request.param in LAYERED_MEMBERS and name != "three":
            return LAYERED_MEMBERS[request.param](tmp_path, name)
        return perdure.FileStorage(str(tmp_path / f"{name}.fs"), blob_dir=str(tmp_path / name))

    with perdure.Collection({name: storage(name) for name in ("one", "two", "three")}) as made:
        yield made


@pytest.fixture
def conn(collection: perdure.Collection) -> Iterator[Any]:
    """A connection to objects in all members that refer to an account in the first."""
    manager = transaction.TransactionManager()
    conn: Any = collection.open(manager)
    account: Any = Account(5.0, "tea")
    account.parts = PersistentMapping(shared=Node(name="shared"), own=Node(name="own"))
    account.parts["own"].back = account
    root = conn.root()
    root["account"], root["shared"] = account, account.parts["shared"]
    root["list"] = Node(items=[{"key": (account,)}], weak=[WeakRef(account)])
    manager.commit()
    conn["two"].root.account = account
    conn["three"].root.tree = OOBTree({number: Node(number=number) for number in range(200)})
    conn["three"].root.tree[7] = account
    conn["three"].root.weak = WeakRef(account)
    manager.commit()
    yield conn
    manager.abort()
    conn.close()


def places(root: Any) -> list[Any]:
    """All ways to the account."""
    conn = root._p_jar
    return [
        root["account"],
        root["list"].items[0]["key"][0],
        root["list"].weak[0](),
        conn["two"].root.account,
        conn["three"].root.tree[7],
        conn["three"].root.weak(),
        root["account"].parts["own"].back,
    ]


def member_of(obj: Any) -> str:
    return str(obj._p_jar.db().database_name)


def state(collection: perdure.Collection) -> list[Any]:
    """All current records."""
    return [
        [(each.oid, each.data) for written in member.storage.iterator() for each in written]
        for member in collection.values()
    ]


@pytest.mark.parametrize("target", ["two", "three"])
@pytest.mark.parametrize("reachable", [False, True])
def test_everything_that_referred_to_a_moved_object_refers_to_it_there(
    collection: perdure.Collection, conn: Any, target: str, *, reachable: bool
) -> None:
    account = conn.root.account
    oid, own = account._p_oid, account.parts["own"]
    moved = collection.move(account, target, reachable=reachable)
    # The connections that are open see it with their next transaction.
    assert account.name == "tea"
    conn.transaction_manager.begin()
    with pytest.raises(errors.POSKeyError):
        account.name  # noqa: B018 - it is loaded
    other: Any = collection.open(transaction.TransactionManager())
    found: list[Any] = []
    for root in (conn.root(), other.root()):
        found = places(root)
        assert all(each is found[0] for each in found)
        assert found[0] is not account
        assert (found[0].name, member_of(found[0])) == ("tea", target)
        parts = found[0].parts
        assert member_of(parts["shared"]) == "one"
        assert member_of(parts) == member_of(parts["own"]) == (target if reachable else "one")
        assert parts["own"].name == "own"
    assert len(moved.places) == (3 if reachable else 1)
    assert moved.places[ObjectPlace("one", oid)] == (target, found[0]._p_oid)
    assert len({member.lastTransaction() for member in collection.values()}) == 1
    assert all(report.ok for report in collection.check().values())
    if reachable:
        with pytest.raises(errors.POSKeyError):
            conn.get(own._p_oid)._p_activate()
    other.close()


def test_a_moved_object_can_be_moved_back_and_undone(collection: Any, conn: Any) -> None:
    collection.move(conn.root.account, "two", reachable=True)
    conn.transaction_manager.begin()
    collection.move(conn.root.account, "one", reachable=True)
    conn.transaction_manager.begin()
    assert {member_of(each) for each in places(conn.root())} == {"one"}
    collection.undo(collection.undoLog()[0]["id"])
    transaction.commit()
    conn.transaction_manager.begin()
    assert {member_of(each) for each in places(conn.root())} == {"two"}
    collection.gc()
    collection.pack()
    conn.cacheMinimize()
    assert {each.name for each in places(conn.root())} == {"tea"}


def test_a_blob_moves_with_its_data(tmp_path: Path) -> None:
    storages = {
        name: perdure.FileStorage(str(tmp_path / f"{name}.fs"), blob_dir=str(tmp_path / name))
        for name in ("one", "two")
    }
    with perdure.Collection(storages) as collection:
        with collection.transaction() as conn:
            blob = conn.root.blob = perdure.Blob(b"data")
        with collection.transaction() as conn:
            collection.move(conn.root.blob, "two")
        with collection.transaction() as conn:
            assert member_of(conn.root.blob) == "two"
            with conn.root.blob.open() as file:
                assert file.read() == b"data"
    assert blob is not None
    assert not list(tmp_path.rglob("moving*"))


@pytest.mark.parametrize("change", ["object", "referrer", "new reference", "elsewhere", "deletion"])
def test_a_move_that_meets_another_change_changes_nothing(
    collection: perdure.Collection, conn: Any, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    from perdure.db import moving

    look = moving._LastLook.commit
    before: list[Any] = []

    def change_meanwhile(self: Any, current: Any) -> None:
        with collection.transaction() as other:
            root = other.root()
            if change == "object":
                root["account"].balance = 9.0
            elif change == "referrer":
                root["list"].more = 1
            elif change == "new reference":
                # BTrees merge changes of different keys.
                other["three"].root.tree[1000] = root["account"]
            elif change == "elsewhere":
                root["shared"].account = root["account"]
            else:
                root.clear()
                other["two"].root().clear()
                other["three"].root().clear()
        if change == "deletion":
            collection.gc()
        before.extend(state(collection))
        look(self, current)

    monkeypatch.setattr(moving._LastLook, "commit", change_meanwhile)
    with pytest.raises(errors.ConflictError):
        collection.move(conn.root.account, "two", reachable=True)
    assert state(collection) == before
    monkeypatch.undo()
    conn.transaction_manager.begin()
    if change != "deletion":
        collection.move(conn.root.account, "two", reachable=True)
        conn.transaction_manager.begin()
        assert {member_of(each) for each in places(conn.root())} == {"two"}
        if change == "new reference":
            assert conn["three"].root.tree[1000] is conn.root.account


def test_who_has_the_old_object_can_not_bring_a_reference_to_it_back(
    collection: perdure.Collection, conn: Any
) -> None:
    account = conn.root.account
    assert account.name == "tea"
    collection.move(account, "two")
    conn.root.again = account
    with pytest.raises((errors.DanglingReferenceError, errors.ConflictError)):
        conn.transaction_manager.commit()
    conn.transaction_manager.abort()
    conn.root.again = conn.root.account
    conn.transaction_manager.commit()
    assert member_of(conn.root.again) == "two"


def test_what_can_not_be_moved_is_refused(collection: perdure.Collection, conn: Any) -> None:
    before = state(collection)
    account = conn.root.account
    with pytest.raises(KeyError, match="no member 'x' among"):
        collection.move(account, "x")
    with pytest.raises(ValueError, match="stored nowhere"):
        collection.move(Account(), "two")
    with pytest.raises(ValueError, match="root object of 'one'"):
        collection.move(conn.root(), "two")
    stranger = perdure.DB(None)
    with stranger.transaction() as other, pytest.raises(ValueError, match="is no member"):
        collection.move(other.root(), "two")
    stranger.close()
    assert not collection.move(account, "one").places
    account.balance = 7.0
    for _ in range(2):
        with pytest.raises(ValueError, match="not committed"):
            collection.move(account, "two")
        conn.transaction_manager.savepoint()
    conn.transaction_manager.abort()
    collection["one"].xrefs = False
    with pytest.raises(errors.InvalidObjectReference, match="xrefs=False"):
        collection.move(account, "two")
    assert state(collection) == before


def test_moving_goes_on_while_others_commit(collection: perdure.Collection, conn: Any) -> None:
    stop = threading.Event()
    commits: list[int] = []

    def write() -> None:
        while not stop.is_set():
            with collection.transaction() as other:
                other.root.count = len(commits)
                commits.append(1)

    with collection.transaction() as other:
        for number in range(10):
            other["two"].root()[f"part{number}"] = Node(number=number)
    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(10):
            conn.transaction_manager.begin()
            collection.move(conn["two"].root()[f"part{number}"], "three")
    finally:
        stop.set()
        writer.join(30)
    assert commits
    conn.transaction_manager.begin()
    assert all(member_of(conn["two"].root()[f"part{n}"]) == "three" for n in range(10))
