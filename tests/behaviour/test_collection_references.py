"""Who refers to whom over the members of a collection, and what is referred to and lost."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from persistent.wref import WeakRef
from tests.behaviour.models import Node
from tests.storing import oid

import perdure
from perdure.db.undo import TransactionalUndo
from perdure.ids import ROOT_OID, Oid
from perdure.maintenance import ObjectPlace
from perdure.maintenance.referrers import ReferenceIndex

NODE = f"{Node.__module__}.Node"


@pytest.fixture(params=["file", "memory"])
def collection(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[perdure.Collection]:
    in_file = request.param == "file"
    members = {name: tmp_path / f"{name}.fs" if in_file else None for name in ("one", "two")}
    with perdure.Collection(members) as made:
        yield made


class _Loss(TransactionalUndo):
    """Takes objects of one member away, whoever refers to them."""

    def __init__(self, database: Any, oids: list[Oid]) -> None:
        super().__init__(database, ())
        self._lost = oids

    def commit(self, current: Any) -> None:
        for each in self._lost:
            serial = self._database.storage.getTid(each)
            self._view.deleteObject(each, serial, self._meta)


def lose(database: Any, *oids: Oid) -> None:
    """Have objects vanish from a member, as a bug or a wrong pack would make them."""
    manager = transaction.TransactionManager()
    manager.begin().join(_Loss(database, list(oids)))
    manager.commit()


def linked(collection: perdure.Collection) -> tuple[Oid, Oid, Oid]:
    """Make root of one > first (one) > second (two) > third (one); return their oids."""
    with collection.transaction() as conn:
        first, second, third = Node(), Node(), Node()
        for name, node in (("one", first), ("two", second), ("one", third)):
            conn[name].add(node)
        conn.root.first, first.next, second.next = first, second, third
        return first._p_oid, second._p_oid, third._p_oid


def test_referrers_are_told_over_all_members(collection: perdure.Collection) -> None:
    first, second, third = linked(collection)
    references = collection.references()
    assert references.referrers("one", first) == [("one", ROOT_OID)]
    assert references.referrers("two", second) == [("one", first)]
    assert references.referrers("one", third) == [("two", second)]
    assert references.referred("two", second) == [ObjectPlace("one", third)]
    # The third one's oid is another object in the other member.
    assert references.referrers("two", third) == []
    steps = references.path("one", third)
    assert [(step.member, step.oid) for step in steps] == [
        ("one", ROOT_OID),
        ("one", first),
        ("two", second),
        ("one", third),
    ]
    assert str(steps[2]) == f"two:0x{int.from_bytes(second, 'big'):02x} Node"
    assert references.dangling() == []


def test_only_what_was_committed_since_is_read_again(
    collection: perdure.Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = linked(collection)
    collection.references()
    with collection.transaction() as conn:
        conn.root.again = conn[third]
        conn["two"].get(second).next = None

    def refuse(*_arguments: Any) -> None:
        raise AssertionError("everything is read")

    monkeypatch.setattr("perdure.maintenance.referrers.Base.of", refuse)
    references = collection.references()
    assert references.referrers("one", third) == [("one", ROOT_OID)]
    assert references.referrers("two", second) == [("one", first)]
    monkeypatch.undo()
    # A pack moves everything.
    collection.pack(time.time() + 1)
    assert collection.references().referrers("one", third) == [("one", ROOT_OID)]


def test_an_index_brought_up_to_date_is_that_made_anew(collection: perdure.Collection) -> None:
    """Each step of a history is followed, deletions, undo and weak references included."""
    first, second, third = linked(collection)
    collection.references()
    steps: list[Any] = [
        lambda conn: setattr(conn["two"].root, "weak", WeakRef(conn[first])),
        lambda conn: delattr(conn.root, "first"),
        lambda conn: setattr(conn["two"].root, "third", conn[third]),
        lambda conn: setattr(conn["two"].get(second), "next", Node()),
    ]
    for step in steps:
        with collection.transaction() as conn:
            step(conn)
        compare(collection, first, second, third)
    collection.undo(collection.undoLog()[0]["id"])
    transaction.commit()
    compare(collection, first, second, third)
    collection.gc()
    compare(collection, first, second, third)


def compare(collection: perdure.Collection, *oids: Oid) -> None:
    for name, database in collection.items():
        followed = ReferenceIndex.of(database.storage)
        own, others = database.storage._native.reference_pairs()
        for each in (ROOT_OID, *oids):
            for member, pairs in ((None, own), *others.items()):
                expected = [
                    Oid(pairs[at + 8 : at + 16])
                    for at in range(0, len(pairs), 16)
                    if pairs[at : at + 8] == each
                ]
                assert followed.referrers(each, member) == expected, (name, member)


def test_what_is_lost_is_named_with_class_referrers_and_way(
    collection: perdure.Collection,
) -> None:
    first, second, third = linked(collection)
    with collection.transaction() as conn:
        conn["two"].root.also = conn[third]
        conn["two"].root.weakly = WeakRef(conn[first])
    lose(collection["one"], third)
    (lost,) = collection.references().dangling()
    assert (lost.member, lost.oid, lost.class_names) == ("one", third, (NODE,))
    assert [each.place for each in lost.referrers] == [("two", ROOT_OID), ("two", second)]
    assert [step.oid for step in lost.path] == [ROOT_OID]
    assert "does not exist; referred to by 0x00 in 'two'" in str(lost)


def test_a_check_finds_what_is_lost_in_either_direction(collection: perdure.Collection) -> None:
    first, second, third = linked(collection)
    assert all(report.ok for report in collection.check().values())
    lose(collection["one"], third)
    lose(collection["two"], second)
    with collection.transaction() as conn:
        node = Node()
        conn["two"].add(node)
        conn["two"].root.node = node
        node.first = conn[first]
        lost = node._p_oid
        conn.root.node = node
    lose(collection["two"], lost)
    reports = collection.check()
    found = {
        (name, finding.oid, finding.target_database, finding.target)
        for name, report in reports.items()
        for finding in report.findings
    }
    assert found == {
        ("one", first, "two", second),
        ("one", ROOT_OID, "two", lost),
        ("two", ROOT_OID, None, lost),
    }
    finding = next(each for each in reports["one"].findings if each.oid == first)
    assert finding.class_name == NODE
    assert (finding.position is not None) == (finding.tid is not None)
    assert [step.oid for step in finding.path] == [ROOT_OID, first]
    assert f"({NODE}) in database 'two', which does not exist" in finding.problem


def test_the_way_to_a_finding_may_lead_through_another_member(
    collection: perdure.Collection,
) -> None:
    first, second, third = linked(collection)
    with collection.transaction() as conn:
        conn[third].lost = Node()
    with collection.transaction() as conn:
        lost = conn[third].lost._p_oid
    lose(collection["one"], lost)
    (finding,) = collection.check()["one"].findings
    assert (finding.oid, finding.target) == (third, lost)
    assert [(step.member, step.oid) for step in finding.path][1:] == [
        ("one", first),
        ("two", second),
        ("one", third),
    ]
    assert "> two:0x" in str(finding)


def test_a_reference_to_no_member_is_found_by_all_who_have_it(tmp_path: Path) -> None:
    members = {name: tmp_path / f"{name}.fs" for name in ("one", "two")}
    with perdure.Collection(members) as collection:
        first, second, _third = linked(collection)
        with collection.transaction() as conn:
            conn.root.also = conn["two"].get(second)
    reports = perdure.check_collection({"one": members["one"]})
    assert {each.oid for each in reports["one"].findings} == {first, ROOT_OID}
    assert all("isn't in the collection" in each.problem for each in reports["one"].findings)
    # Nothing is written beside a file that is only looked at.
    assert not (tmp_path / "one.fs.refs").exists()


def test_a_member_that_is_too_damaged_to_be_opened_is_reported_with_the_others(
    tmp_path: Path,
) -> None:
    members = {name: tmp_path / f"{name}.fs" for name in ("one", "two")}
    with perdure.Collection(members) as collection:
        linked(collection)
    content = bytearray(members["two"].read_bytes())
    content[4 + 8 : 4 + 16] = b"\xff" * 8
    members["two"].write_bytes(content)
    reports = perdure.check_collection(members)
    assert not reports["two"].ok
    assert reports["one"].ok


def test_an_unreadable_index_is_made_anew(tmp_path: Path) -> None:
    with perdure.Collection({"one": tmp_path / "one.fs", "two": None}) as collection:
        first, second, _third = linked(collection)
        collection.references()
        kept = tmp_path / "one.fs.refs"
        whole = kept.read_bytes()
        for content in (b"", whole[:30], whole[:-5], whole + b"x", b"\xff" * len(whole)):
            kept.write_bytes(content)
            assert collection.references().referrers("two", second) == [("one", first)]
            assert kept.read_bytes() == whole


def test_a_thousand_references_between_members_are_all_found(
    collection: perdure.Collection,
) -> None:
    with collection.transaction() as conn:
        there = Node()
        conn["two"].add(there)
        conn.root.nodes = nodes = perdure.PersistentList()
        for number in range(1000):
            nodes.append(Node(number=number, there=there))
    with collection.transaction() as conn:
        there = conn["two"].get(conn.root.nodes[0].there._p_oid)
        found = collection.references().referrers("two", there._p_oid)
        assert found == [("one", node._p_oid) for node in conn.root.nodes]
    assert oid(0) not in {place.oid for place in found}
