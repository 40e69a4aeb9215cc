"""Undo that would leave references that lead nowhere."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from persistent.wref import WeakRef
from tests.behaviour.models import Node
from tests.behaviour.test_collection_references import lose
from tests.layers import LAYERED_MEMBERS

import perdure
from perdure.errors import DanglingReferenceError, MultipleUndoErrors, UndoError
from perdure.ids import ROOT_OID, oid_repr
from perdure.storage.undo import UndoStep

NODE = f"{Node.__module__}.Node"


@pytest.fixture(params=["file", "memory", *LAYERED_MEMBERS])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.Collection]:
    members: dict[str, Any] = dict.fromkeys(("one", "two"))
    if request.param != "memory":
        members = {name: tmp_path / name for name in members}
    if request.param in LAYERED_MEMBERS:
        members["one"] = LAYERED_MEMBERS[request.param](tmp_path, "one")
    with perdure.Collection(members) as made:
        yield made


def last_id(collection: perdure.Collection) -> bytes:
    found: bytes = collection.undoLog(0, -1)[0]["id"]
    return found


def undo(collection: perdure.Collection, *ids: bytes) -> None:
    manager = transaction.TransactionManager()
    current = manager.begin()
    try:
        for each in ids:
            collection.undo(each, current)
        manager.commit()
    finally:
        manager.abort()


def undo_in(database: perdure.DB, *ids: bytes) -> None:
    manager = transaction.TransactionManager()
    database.undoMultiple(list(ids), manager.begin())
    try:
        manager.commit()
    finally:
        manager.abort()


def is_whole(collection: perdure.Collection) -> bool:
    return all(report.ok for report in collection.check().values())


def given_up(collection: perdure.Collection, place: str) -> tuple[bytes, bytes, bytes]:
    """Make an object of *place*, drop the reference to it from `one`, and delete it.

    Returns its oid, and the ids of the dropping and of the deletion.
    """
    with collection.transaction() as conn:
        conn[place].root.kept = 1
        node = Node()
        conn[place].add(node)
        conn["one"].root.node = node
        conn["one"].root.weak = WeakRef(node)
        oid = node._p_oid
    with collection.transaction("drop") as conn:
        del conn["one"].root.node
    dropped = last_id(collection)
    assert collection.gc().total == 1
    return oid, dropped, last_id(collection)


@pytest.mark.parametrize("place", ["one", "two"])
def test_a_reference_to_what_was_deleted_since_does_not_come_back(
    collection: perdure.Collection, place: str
) -> None:
    oid, dropped, deleted = given_up(collection, place)
    before = collection.lastTransaction()
    with pytest.raises(UndoError) as caught:
        undo(collection, dropped)
    assert caught.value.oid == bytes(8)
    assert f"refer again to {NODE} {oid_repr(oid)} in {place!r}, which was deleted" in str(
        caught.value
    )
    assert collection.lastTransaction() == before
    # Nothing is held: and in the right order, both can be undone.
    undo(collection, deleted)
    undo(collection, dropped)
    with collection.transaction() as conn:
        assert type(conn["one"].root.node) is Node
    assert is_whole(collection)


def test_the_transaction_that_deleted_it_is_named(collection: perdure.Collection) -> None:
    _oid, dropped, _deleted = given_up(collection, "one")
    deletion = collection.lastTransaction()
    with pytest.raises(UndoError, match=f"by {oid_repr(deletion)} .*: undo that first"):
        undo(collection, dropped)


def test_both_can_be_undone_at_once(collection: perdure.Collection) -> None:
    _oid, dropped, deleted = given_up(collection, "one")
    undo_in(collection["one"], deleted, dropped)
    with collection.transaction() as conn:
        assert type(conn["one"].root.node) is Node
    assert is_whole(collection)


@pytest.mark.parametrize("place", ["one", "two"])
def test_it_is_known_of_a_deletion_before_the_opening(tmp_path: Path, place: str) -> None:
    members: dict[str, Any] = {name: tmp_path / name for name in ("one", "two")}
    with perdure.Collection(members) as collection:
        _oid, dropped, _deleted = given_up(collection, place)
    with (
        perdure.Collection(members) as collection,
        pytest.raises(UndoError, match="refer again"),
    ):
        undo(collection, dropped)


@pytest.mark.parametrize("source", ["one", "two"])
def test_a_reference_to_what_was_moved_since_does_not_come_back(
    collection: perdure.Collection, source: str
) -> None:
    with collection.transaction() as conn:
        node = Node()
        conn[source].add(node)
        conn["one"].root.holder = Node(node=node)
        conn["two"].root.node = node
    with collection["one"].transaction() as conn:
        conn.root.holder.node = None
    dropped = last_id(collection)
    with collection.transaction() as conn:
        moving = conn["two"].root.node
    collection.move(moving, {"one": "two", "two": "one"}[source])
    with pytest.raises(UndoError, match="deleted or moved"):
        undo(collection, dropped)
    assert is_whole(collection)


def test_what_is_weak_leads_where_it_likes(collection: perdure.Collection) -> None:
    given_up(collection, "one")
    with collection.transaction() as conn:
        del conn["one"].root.weak
    undo(collection, last_id(collection))
    assert is_whole(collection)


def created(collection: perdure.Collection) -> bytes:
    """Make an object of `one` that is in no list yet; return its transaction's id."""
    with collection.transaction() as conn:
        conn["one"].root.list = Node(node=None)
        conn["two"].root.list = Node(node=None)
    with collection.transaction("create") as conn:
        node = Node()
        conn["one"].add(node)
        conn["one"].root.entry = node
    return last_id(collection)


@pytest.mark.parametrize("place", ["one", "two"])
def test_what_has_come_to_be_referred_to_is_not_taken_away(
    collection: perdure.Collection, place: str
) -> None:
    creation = created(collection)
    with collection.transaction() as conn:
        conn[place].root.list.node = conn["one"].root.entry
        oid, by = conn["one"].root.entry._p_oid, conn[place].root.list._p_oid
    before = collection.lastTransaction()
    with pytest.raises(UndoError) as caught:
        undo(collection, creation)
    assert caught.value.oid == oid
    assert f"{NODE} {oid_repr(by)} in {place!r} has come to refer to it" in str(caught.value)
    assert collection.lastTransaction() == before
    with collection.transaction() as conn:
        conn[place].root.list.node = None
    undo(collection, creation)
    with collection.transaction() as conn:
        assert "entry" not in conn["one"].root()
    assert is_whole(collection)


def test_a_weak_reference_does_not_keep_it(collection: perdure.Collection) -> None:
    creation = created(collection)
    with collection.transaction() as conn:
        conn["two"].root.list.node = WeakRef(conn["one"].root.entry)
    undo(collection, creation)


def test_a_transaction_in_several_members_is_undone_with_its_references(
    collection: perdure.Collection,
) -> None:
    with collection.transaction("both") as conn:
        node = Node()
        conn["one"].add(node)
        conn["two"].root.node = node
        conn["one"].root.back = node.back = back = Node()
        conn["two"].add(back)
    undo(collection, last_id(collection))
    undo(collection, last_id(collection))
    with collection.transaction() as conn:
        assert type(conn["two"].root.node) is Node
    undo(collection, last_id(collection))
    with collection.transaction() as conn:
        assert "node" not in conn["two"].root()
    assert is_whole(collection)


def test_only_one_member_of_it_is_not_undone_where_the_other_needs_it(
    collection: perdure.Collection,
) -> None:
    with collection.transaction("both") as conn:
        node = Node()
        conn["one"].add(node)
        conn["two"].root.node = node
    entry = last_id(collection)
    with pytest.raises(UndoError, match="'two' has come to refer to it"):
        undo_in(collection["one"], entry)
    undo_in(collection["two"], entry)
    undo_in(collection["one"], entry)
    assert is_whole(collection)


def test_the_references_may_be_dropped_in_the_same_transaction(
    collection: perdure.Collection,
) -> None:
    creation = created(collection)
    with collection.transaction() as conn:
        conn["two"].root.list.node = conn["one"].root.entry
    with collection["two"].transaction() as conn:
        conn.root.list.node = None
        collection["one"].undo(creation, conn.transaction_manager.get())
    assert is_whole(collection)


def test_chosen_objects_are_looked_at_too(collection: perdure.Collection) -> None:
    creation = created(collection)
    with collection.transaction() as conn:
        oid = conn["one"].root.entry._p_oid
    manager = transaction.TransactionManager()
    collection["one"].undo(creation, manager.begin(), oids=[oid])
    with pytest.raises(UndoError, match="0x00 in 'one' has come to refer to it"):
        manager.commit()
    manager.abort()


def effects(steps: list[UndoStep] | None) -> list[str]:
    return [step.effect for step in steps or ()]


def test_a_dry_run_says_so(collection: perdure.Collection) -> None:
    _oid, dropped, _deleted = given_up(collection, "two")
    plan = collection.undo(dropped, dry_run=True)
    assert plan is not None
    assert effects(plan["one"]) == ["impossible"]
    assert "refer again" in (plan["one"][0].reason or "")
    creation = created(collection)
    with collection.transaction() as conn:
        conn["two"].root.list.node = conn["one"].root.entry
        oid = conn["one"].root.entry._p_oid
    steps = {step.oid: step for step in collection["one"].undo(creation, dry_run=True) or ()}
    assert steps[oid].class_name == NODE
    assert [steps[oid].effect, steps[ROOT_OID].effect] == ["impossible", "restored"]
    assert "'two' has come to refer to it" in (steps[oid].reason or "")
    # Nothing is locked after it.
    with collection.transaction() as conn:
        conn["one"].root.n = conn["two"].root.n = 1


def test_what_led_nowhere_before_is_let_pass(collection: perdure.Collection) -> None:
    with collection.transaction() as conn:
        node = Node()
        conn["two"].add(node)
        conn["one"].root.holder = Node(node=node)
        oid = node._p_oid
    lose(collection["two"], oid)
    with collection.transaction() as conn:
        conn["one"].root.holder.node = None
    undo(collection, last_id(collection))
    with collection.transaction() as conn:
        assert conn["one"].root.holder.node._p_oid == oid


def test_what_leads_nowhere_already_is_let_pass(collection: perdure.Collection) -> None:
    with collection.transaction() as conn:
        node = Node()
        conn["two"].add(node)
        conn["one"].root.holder = Node(node=node)
        oid = node._p_oid
    with collection.transaction() as conn:
        conn["one"].root.holder.n = 1
    changed = last_id(collection)
    lose(collection["two"], oid)
    undo(collection, changed)
    with collection.transaction() as conn:
        assert not hasattr(conn["one"].root.holder, "n")


def test_it_can_be_switched_off(collection: perdure.Collection) -> None:
    _oid, dropped, _deleted = given_up(collection, "two")
    collection["one"].check_references = False
    undo(collection, dropped)
    assert not is_whole(collection)


def test_several_objects_are_all_named(collection: perdure.Collection) -> None:
    with collection.transaction() as conn:
        for name in ("first", "second"):
            conn["one"].root()[name] = Node(node=Node())
    with collection.transaction() as conn:
        for name in ("first", "second"):
            conn["one"].root()[name].node = None
    dropped = last_id(collection)
    assert collection.gc().total == 2
    with pytest.raises(MultipleUndoErrors) as caught:
        undo(collection, dropped)
    assert len(caught.value.errors) == 2


def test_a_creation_that_was_undone_and_made_again_is_taken_away_again(
    collection: perdure.Collection,
) -> None:
    undo(collection, created(collection))
    undo(collection, last_id(collection))
    made_again = last_id(collection)
    with collection.transaction() as conn:
        oid = conn["one"].root.entry._p_oid
    steps = {step.oid: step for step in collection["one"].undo(made_again, dry_run=True) or ()}
    assert steps[oid].effect == "removed"
    with collection.transaction() as conn:
        conn["two"].root.list.node = conn["one"].root.entry
    with pytest.raises(UndoError, match="has come to refer"):
        undo(collection, made_again)
    undo(collection, last_id(collection))
    undo(collection, made_again)
    assert is_whole(collection)


class Between:
    """A resource that does something when all have stored, before the first votes."""

    def __init__(self, act: Callable[[], object], *, after_votes: bool = False) -> None:
        self._act, self._after_votes = act, after_votes

    def sortKey(self) -> str:
        return "\U0010ffff"

    def commit(self, _transaction: Any) -> None:
        if not self._after_votes:
            self._act()

    def tpc_vote(self, _transaction: Any) -> None:
        if self._after_votes:
            self._act()

    def tpc_begin(self, _transaction: Any) -> None:
        pass

    abort = tpc_finish = tpc_abort = tpc_begin


def test_a_reference_that_comes_before_the_vote_is_seen(collection: perdure.Collection) -> None:
    creation = created(collection)

    def refer() -> None:
        with collection.transaction() as conn:
            conn["two"].root.list.node = conn["one"].root.entry

    manager = transaction.TransactionManager()
    collection.undo(creation, manager.begin())
    manager.get().join(Between(refer))
    with pytest.raises(UndoError, match="has come to refer"):
        manager.commit()
    manager.abort()
    assert is_whole(collection)


def test_a_deletion_that_comes_before_the_vote_is_seen(collection: perdure.Collection) -> None:
    with collection.transaction() as conn:
        conn["one"].root.node = Node()
    with collection.transaction() as conn:
        del conn["one"].root.node
    dropped = last_id(collection)
    manager = transaction.TransactionManager()
    collection.undo(dropped, manager.begin())
    manager.get().join(Between(collection.gc))
    with pytest.raises(UndoError, match="refer again"):
        manager.commit()
    manager.abort()
    assert is_whole(collection)


def test_nobody_comes_to_refer_to_it_after_the_vote(collection: perdure.Collection) -> None:
    creation = created(collection)
    failures: list[BaseException] = []
    begun = threading.Event()

    def refer() -> None:
        try:
            with collection.transaction() as conn:
                conn["two"].root.list.node = conn["one"].root.entry
                begun.set()
        except DanglingReferenceError as failure:
            failures.append(failure)

    other = threading.Thread(target=refer)

    def start() -> None:
        other.start()
        assert begun.wait(10)
        other.join(0.2)
        assert other.is_alive()

    manager = transaction.TransactionManager()
    collection.undo(creation, manager.begin())
    manager.get().join(Between(start, after_votes=True))
    manager.commit()
    other.join(10)
    assert not other.is_alive()
    assert len(failures) == 1
    assert is_whole(collection)
