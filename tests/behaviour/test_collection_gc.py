"""Garbage collection over collections."""

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.behaviour.models import Account
from tests.layers import LAYERED_MEMBERS

import perdure
from perdure import errors
from perdure.db import garbage
from perdure.ids import Oid


@pytest.fixture(params=["file", "memory", *LAYERED_MEMBERS])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    members: dict[str, Any] = dict.fromkeys(("one", "two"))
    if request.param != "memory":
        members = {name: tmp_path / name for name in members}
    if request.param in LAYERED_MEMBERS:
        members["one"] = LAYERED_MEMBERS[request.param](tmp_path, "one")
    with perdure.Collection(members) as made:
        yield made


def _exists(collection: perdure.Collection, name: str, oid: Oid) -> bool:
    try:
        collection[name].storage.getTid(oid)
    except KeyError:
        return False
    return True


def _node(conn: Any, name: str) -> Any:
    node = Account(1.0)
    conn[name].add(node)
    return node


def _circle(collection: perdure.Collection) -> tuple[Oid, Oid]:
    """Make two objects in two members that refer to each other, and drop them from the root."""
    with collection.transaction() as conn:
        first, second = _node(conn, "one"), _node(conn, "two")
        first.other, second.other = second, first
        conn.root.first = first
        oids = first._p_oid, second._p_oid
    with collection.transaction() as conn:
        del conn.root.first
    return oids


def test_a_circle_through_two_members_is_collected(collection: perdure.Collection) -> None:
    first, second = _circle(collection)
    report = collection.gc()
    cls = f"{Account.__module__}.Account"
    assert report.garbage == {"one": {cls: 1}, "two": {cls: 1}}
    assert report.total == 2
    assert "2 unreachable objects deleted" in str(report)
    assert not _exists(collection, "one", first)
    assert not _exists(collection, "two", second)
    assert collection["one"].lastTransaction() == collection["two"].lastTransaction()
    assert collection.gc().total == 0
    collection.pack(time.time() + 1)
    assert [len(db.storage) for db in collection.values()] == [1, 1]


def test_what_only_another_member_references_is_never_collected(
    collection: perdure.Collection,
) -> None:
    with collection.transaction() as conn:
        there = _node(conn, "two")
        there.back = _node(conn, "one")
        conn.root.there = there
    assert collection.gc().total == 0
    collection.pack(time.time() + 1)
    with collection.transaction() as conn:
        conn.cacheMinimize()
        assert conn.root.there.back.balance == 1.0


def test_a_dry_run_deletes_nothing(collection: perdure.Collection) -> None:
    first, second = _circle(collection)
    report = collection.gc(dry_run=True)
    assert report.total == 2
    assert report.dry_run
    assert "would be deleted" in str(report)
    assert _exists(collection, "one", first)
    assert _exists(collection, "two", second)


def test_what_was_reachable_some_days_ago_stays_undoable(collection: perdure.Collection) -> None:
    first, second = _circle(collection)
    assert collection.gc(days=1).total == 0
    with pytest.raises(ValueError, match="not -1"):
        collection.gc(days=-1)
    assert _exists(collection, "one", first)
    assert _exists(collection, "two", second)


def test_a_weak_reference_keeps_nothing(collection: perdure.Collection) -> None:
    from persistent.wref import WeakRef

    with collection.transaction() as conn:
        conn.root.weak = WeakRef(_node(conn, "one"))
    assert collection.gc().total == 1
    with collection.transaction() as conn:
        conn.cacheMinimize()
        assert conn.root.weak() is None


def test_what_is_referred_to_meanwhile_stays(
    collection: perdure.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = _circle(collection)
    delete = garbage._delete
    revived: list[int] = []

    def revive_and_delete(*args: Any) -> Any:
        if not revived:
            revived.append(1)
            with collection.transaction() as conn:
                conn.root.again = conn.get(first)
        return delete(*args)

    monkeypatch.setattr(garbage, "_delete", revive_and_delete)
    assert collection.gc().total == 0
    assert _exists(collection, "one", first)
    assert _exists(collection, "two", second)


def test_many_objects_go_in_several_transactions(
    collection: perdure.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collection.transaction() as conn:
        for _ in range(25):
            _node(conn, "one").friend = _node(conn, "two")
        conn.root.kept = _node(conn, "two")
    monkeypatch.setattr(garbage, "_BATCH_OBJECTS_MAX", 10)
    assert collection.gc().total == 50
    assert [len(list(db.storage.iterator())) for db in collection.values()] == [5, 5]


def test_open_connections_see_their_snapshot_until_they_move_on(
    collection: perdure.Collection,
) -> None:
    first, _second = _circle(collection)
    manager = transaction.TransactionManager()
    conn = collection.open(manager)
    assert collection.gc().total == 2
    assert conn.get(first).other.balance == 1.0
    manager.begin()
    with pytest.raises(errors.POSKeyError):
        conn.get(first).balance  # noqa: B018 - loads it
    manager.abort()
    conn.close()


def test_nobody_commits_to_any_member_between_the_last_look_and_the_deletion(
    collection: perdure.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collection.transaction() as conn:
        _node(conn, "one")
    committed = threading.Event()

    def commit() -> None:
        manager = transaction.TransactionManager()
        conn = collection["two"].open(manager)
        conn.root()["late"] = 1
        manager.commit()
        committed.set()
        conn.close()

    thread = threading.Thread(target=commit)
    last_look = garbage._LastLook.tpc_vote

    def look_while_somebody_commits(self: Any, current: Any) -> None:
        last_look(self, current)
        thread.start()
        assert not committed.wait(0.2)

    monkeypatch.setattr(garbage._LastLook, "tpc_vote", look_while_somebody_commits)
    assert collection.gc().total == 1
    assert committed.wait(60)
    thread.join()


def test_progress_is_told_and_can_stop_it(
    collection: perdure.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collection.transaction() as conn:
        oids = [_node(conn, "one")._p_oid for _ in range(25)]
    monkeypatch.setattr(garbage, "_BATCH_OBJECTS_MAX", 10)
    told: list[tuple[str, int, int]] = []

    def stop(*progress: Any) -> None:
        told.append(progress)
        if progress[0] == "delete":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collection.gc(progress=stop)
    assert {phase for phase, *_amounts in told[:-1]} == {"scan", "mark"}
    assert told[-1] == ("delete", 10, 25)
    assert sum(_exists(collection, "one", oid) for oid in oids) == 15
    # Nothing is left in the way.
    assert collection.gc().total == 15


@pytest.mark.parametrize("referring", ["one", "two"])
def test_what_was_deleted_can_not_be_referred_to_again_by_who_holds_it(
    collection: perdure.Collection, referring: str
) -> None:
    first, _second = _circle(collection)
    manager = transaction.TransactionManager()
    conn = collection.open(manager)
    held = conn.get(first)
    assert held.balance == 1.0
    assert collection.gc().total == 2
    # In the transaction that began before: the object is in the cache, as it was.
    conn[referring].root()["again"] = held
    with pytest.raises(errors.DanglingReferenceError):
        manager.commit()
    manager.abort()
    # And in a new one, which forgets what it has cached.
    conn[referring].root()["again"] = held
    with pytest.raises(errors.DanglingReferenceError):
        manager.commit()
    manager.abort()
    conn.close()


def test_a_member_that_is_not_at_hand_is_an_error(tmp_path: Path) -> None:
    both = perdure.Collection({"one": tmp_path / "one", "two": None})
    with both, both.transaction() as conn:
        conn.root.there = _node(conn, "two")
    alone = perdure.Collection({"one": tmp_path / "one", "three": None})
    with alone, pytest.raises(errors.MissingMemberError, match="'two', which isn't at hand"):
        alone.gc()
