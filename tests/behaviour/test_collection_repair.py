"""Placeholders in the places of lost objects."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from persistent.wref import WeakRef
from tests.behaviour.models import Node
from tests.behaviour.test_collection_references import linked, lose
from tests.layers import LAYERED_MEMBERS

import perdure
from perdure.db import repairing
from perdure.errors import POSKeyError, ReadOnlyError
from perdure.ids import ROOT_OID, Oid, u64

NODE = f"{Node.__module__}.Node"


@pytest.fixture(params=["file", "memory", *LAYERED_MEMBERS])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.Collection]:
    members: dict[str, Any] = dict.fromkeys(("one", "two"))
    if request.param == "file":
        members = {name: tmp_path / f"{name}.fs" for name in members}
    elif request.param in LAYERED_MEMBERS:
        members = {name: LAYERED_MEMBERS[request.param](tmp_path, name) for name in members}
    with perdure.Collection(members) as made:
        yield made


def test_what_refers_to_a_lost_object_works_again(collection: perdure.Collection) -> None:
    _first, second, third = linked(collection)
    with collection.transaction() as conn:
        conn["two"].root.also = conn[third]
        conn["two"].get(second).kept = "this"
        conn.root.weak = WeakRef(conn[third])
    lose(collection["one"], third)
    done = collection.repair()
    assert [(each.member, each.oid) for each in done.placed] == [("one", third)]
    assert (done.left, done.rewritten, done.dry_run) == ((), {"two": 2}, False)
    with collection.transaction() as conn:
        node = conn["two"].get(second)
        assert node.kept == "this"
        lost = node.next
        assert type(lost) is perdure.LostObject
        assert lost is conn["two"].root.also is conn.root.weak()
        assert (lost.member, lost.oid, lost.class_names) == ("one", "0x02", (NODE,))
        assert ("two", "0x01", NODE) in lost.referrers
        assert NODE in repr(lost)
        with pytest.raises(AttributeError, match="has no 'name': replace it"):
            _ = lost.name
        # And it can be replaced.
        node.next = Node(name="new")
    assert all(report.ok for report in collection.check().values())
    assert collection.repair() == repairing.Repaired((), (), {}, dry_run=False)


def test_it_is_one_transaction_which_can_be_undone(collection: perdure.Collection) -> None:
    _first, _second, third = linked(collection)
    lose(collection["one"], third)
    done = collection.repair()
    assert {database.lastTransaction() for database in collection.values()} == {done.tid}
    entry = collection.undoLog()[0]
    assert entry["description"] == "repair: placeholders for 1 lost objects"
    assert sorted(entry["members"]) == ["one", "two"]
    collection.undo(entry["id"])
    transaction.commit()
    (again,) = collection.references().dangling()
    assert again.oid == third


def test_a_dry_run_says_what_would_be_done(collection: perdure.Collection) -> None:
    _first, _second, third = linked(collection)
    lose(collection["one"], third)
    before = collection.lastTransaction()
    done = collection.repair(dry_run=True)
    assert [each.oid for each in done.placed] == [third]
    assert done.rewritten == {"two": 1}
    assert done.tid is None
    assert "1 placeholders would be put in place of lost objects" in str(done)
    assert f"({NODE}) does not exist; referred to by 0x01 in 'two'" in str(done)
    assert collection.lastTransaction() == before


def test_only_what_is_asked_for_is_replaced(collection: perdure.Collection) -> None:
    first, second, third = linked(collection)
    lose(collection["one"], first, third)
    with pytest.raises(ValueError, match=r"0x01 in 'two'.*not lost"):
        collection.repair([("two", second)])
    done = collection.repair([("one", third)])
    assert [each.oid for each in done.placed] == [third]
    assert [each.oid for each in collection.references().dangling()] == [first]


def test_the_path_in_a_tree_leads_to_the_placeholder(collection: perdure.Collection) -> None:
    """A bucket that is lost can't be read as one, and its tree says so."""
    with collection.transaction() as conn:
        conn.root.tree = tree = OOBTree()
        for number in range(100):
            tree[number] = Node(number=number)
    with collection.transaction() as conn:
        lost = conn.root.tree[50]._p_oid
    lose(collection["one"], lost)
    collection.repair()
    with collection.transaction() as conn:
        assert isinstance(conn.root.tree[50], perdure.LostObject)
        assert conn.root.tree[51].number == 51


def test_no_new_object_gets_the_oid_of_one_that_was_lost_with_the_end_of_a_file(
    tmp_path: Path,
) -> None:
    members = {name: tmp_path / f"{name}.fs" for name in ("one", "two")}
    with perdure.Collection(members) as collection:
        size = members["two"].stat().st_size
        with collection.transaction() as conn:
            nodes = [Node(number=number) for number in range(50)]
            for node in nodes:
                conn["two"].add(node)
            conn.root.node = nodes[-1]
    # An older copy of one member.
    content = members["two"].read_bytes()
    for path in tmp_path.glob("two.fs*"):
        path.unlink()
    members["two"].write_bytes(content[:size])
    with perdure.Collection(members) as collection:
        (lost,) = collection.references().dangling()
        collection.repair()
        with collection.transaction() as conn:
            conn["two"].root.new = Node()
        with collection.transaction() as conn:
            assert u64(conn["two"].root.new._p_oid) > u64(lost.oid)
            assert isinstance(conn.root.node, perdure.LostObject)


def test_what_belongs_to_no_member_is_left_and_reported(tmp_path: Path) -> None:
    members = {name: tmp_path / f"{name}.fs" for name in ("one", "two")}
    with perdure.Collection(members) as collection:
        linked(collection)
    with perdure.Collection({"one": members["one"]}) as alone:
        done = alone.repair()
        assert [(each.member, each.known_member) for each in done.left] == [("two", False)]
        assert (done.placed, done.tid) == ((), None)
        assert "left as it is" in str(done)


def test_what_changes_meanwhile_is_looked_at_again(
    collection: perdure.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    _first, second, third = linked(collection)
    lose(collection["one"], third)
    commit, seen = repairing._commit, []

    def interrupted(*arguments: Any) -> Any:
        seen.append(arguments)
        if len(seen) == 1:
            with collection.transaction() as conn:
                conn["two"].get(second).changed = "meanwhile"
        return commit(*arguments)

    monkeypatch.setattr(repairing, "_commit", interrupted)
    collection.repair()
    assert len(seen) == 2
    with collection.transaction() as conn:
        node = conn["two"].get(second)
        assert node.changed == "meanwhile"
        assert isinstance(node.next, perdure.LostObject)


def test_a_member_that_is_read_only_is_not_repaired(tmp_path: Path) -> None:
    members = {name: tmp_path / f"{name}.fs" for name in ("one", "two")}
    with perdure.Collection(members) as collection:
        _first, _second, third = linked(collection)
        lose(collection["one"], third)
    storages = {
        name: perdure.FileStorage(str(path), read_only=name == "two")
        for name, path in members.items()
    }
    with perdure.Collection(storages) as collection:
        with pytest.raises(ReadOnlyError, match="'two'"):
            collection.repair()
        with pytest.raises(POSKeyError):
            collection["one"].storage.load(third)


def test_a_root_object_is_not_replaced(collection: perdure.Collection) -> None:
    linked(collection)
    with collection.transaction() as conn:
        conn.root.other_root = conn["two"].get(ROOT_OID)
    lose(collection["two"], Oid(ROOT_OID))
    done = collection.repair()
    assert [(each.member, each.oid) for each in done.left] == [("two", ROOT_OID)]
