"""Collections whose members stand under layers: collecting, moving, repairing, packing."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.behaviour.models import Node
from tests.behaviour.test_collection_references import lose
from tests.layers import LAYERED_MEMBERS

import perdure
from perdure import errors
from perdure.ids import Oid

KINDS = list(LAYERED_MEMBERS)


@contextmanager
def opened(where: Path, one: str, two: str = "plain") -> Iterator[perdure.Collection]:
    """Open a collection of two members, each under its layers."""
    members = {
        name: where / f"{name}.fs" if kind == "plain" else LAYERED_MEMBERS[kind](where, name)
        for name, kind in (("one", one), ("two", two))
    }
    with perdure.Collection(members) as collection:
        yield collection


def exists(collection: perdure.Collection, name: str, oid: Oid) -> bool:
    try:
        collection[name].storage.getTid(oid)
    except KeyError:
        return False
    return True


def node(conn: Any, member: str, /, **attributes: Any) -> Any:
    made = Node(**attributes)
    conn[member].add(made)
    return made


def chain(collection: perdure.Collection) -> list[Oid]:
    """Make root of one > first (two) > second (one) > third (two), and a circle that is garbage."""
    with collection.transaction() as conn:
        third = node(conn, "two", name="third", text="x" * 500)
        second = node(conn, "one", name="second", next=third, text="y" * 500)
        first = conn.root.first = node(conn, "two", name="first", next=second)
        one, two = node(conn, "one", text="z" * 500), node(conn, "two")
        one.next, two.next = two, one
        return [each._p_oid for each in (first, second, third, one, two)]


def names(collection: perdure.Collection) -> list[str]:
    with collection.transaction() as conn:
        first = conn.root.first
        found = [first, first.next, first.next.next]
        assert [each._p_jar.db().database_name for each in found] == ["two", "one", "two"]
        return [each.name for each in found]


@pytest.mark.parametrize("one", KINDS)
@pytest.mark.parametrize("two", ["plain", "encrypting-over-zlib"])
def test_garbage_of_layered_members_is_collected_and_the_rest_stays(
    tmp_path: Path, one: str, two: str
) -> None:
    with opened(tmp_path, one, two) as collection:
        *kept, lost_one, lost_two = chain(collection)
        report = collection.gc()
        cls = f"{Node.__module__}.Node"
        assert report.garbage == {"one": {cls: 1}, "two": {cls: 1}}
        assert report.reachable == {"one": 2, "two": 3}
        collection.pack(time.time() + 1)
    with opened(tmp_path, one, two) as collection:
        assert not exists(collection, "one", lost_one)
        assert not exists(collection, "two", lost_two)
        assert names(collection) == ["first", "second", "third"]
        assert all(report.ok for report in collection.check().values())
        assert len(kept) == 3


@pytest.mark.parametrize("one", KINDS)
def test_what_only_a_layered_member_refers_to_stays_at_the_pack_of_another(
    tmp_path: Path, one: str
) -> None:
    with opened(tmp_path, one) as collection:
        *_kept, lost_one, lost_two = chain(collection)
        collection["two"].pack(time.time() + 1, gc=True)
        # The circle leads through the other member, whose garbage is still there.
        assert exists(collection, "two", lost_two) != exists(collection, "one", lost_one)
        collection["one"].pack(time.time() + 1, gc=True)
        assert not exists(collection, "one", lost_one)
        assert names(collection) == ["first", "second", "third"]
    with opened(tmp_path, one) as collection:
        assert names(collection) == ["first", "second", "third"]


@pytest.mark.parametrize("one", KINDS)
def test_a_layered_member_that_refers_to_others_is_not_packed_alone(
    tmp_path: Path, one: str
) -> None:
    with opened(tmp_path, one) as collection:
        chain(collection)
    with perdure.DB(LAYERED_MEMBERS[one](tmp_path, "one")) as alone:
        with pytest.raises(errors.MissingMemberError, match="'two', which isn't at hand"):
            alone.pack(time.time() + 1)
        alone.pack(time.time() + 1, gc=False)
    with opened(tmp_path, one) as collection:
        assert names(collection) == ["first", "second", "third"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("into", [True, False])
def test_an_object_moved_into_or_out_of_a_layered_member_is_read_after_reopening(
    tmp_path: Path, kind: str, *, into: bool
) -> None:
    source, target = ("two", "one") if into else ("one", "two")
    with opened(tmp_path, kind) as collection:
        with collection.transaction() as conn:
            moving = node(conn, source, name="moved", text="x" * 500)
            moving.own = node(conn, source, name="own", back=moving)
            conn.root.here, conn["two"].root.there = moving, Node(items=[moving])
        with collection.transaction() as conn:
            moved = collection.move(conn.root.here, target, reachable=True)
        assert len(moved.places) == 2
        assert not any(exists(collection, *place) for place in moved.places)
    with opened(tmp_path, kind) as collection, collection.transaction() as conn:
        found = conn.root.here
        assert found is conn["two"].root.there.items[0] is found.own.back
        assert found._p_jar.db().database_name == target
        assert (found.name, found.text, found.own.name) == ("moved", "x" * 500, "own")
        assert not collection.references().dangling()


@pytest.mark.parametrize("kind", ["blobs", "zstd-over-encrypting-with-blobs"])
def test_a_blob_moved_into_a_layered_member_has_its_data(tmp_path: Path, kind: str) -> None:
    bare = perdure.FileStorage(str(tmp_path / "bare.fs"), blob_dir=str(tmp_path / "bare.blobs"))
    with perdure.Collection({"one": LAYERED_MEMBERS[kind](tmp_path, "one"), "bare": bare}) as both:
        for source, target in (("one", "bare"), ("bare", "one")):
            with both.transaction() as conn:
                blob = perdure.Blob(b"data of " + source.encode())
                conn[source].add(blob)
                conn.root()[source] = blob
            with both.transaction() as conn:
                both.move(conn.root()[source], target)
        both.pack(time.time() + 1)
    bare = perdure.FileStorage(str(tmp_path / "bare.fs"), blob_dir=str(tmp_path / "bare.blobs"))
    members = {"one": LAYERED_MEMBERS[kind](tmp_path, "one"), "bare": bare}
    with perdure.Collection(members) as both, both.transaction() as conn:
        for source, target in (("one", "bare"), ("bare", "one")):
            blob = conn.root()[source]
            assert blob._p_jar.db().database_name == target
            with blob.open() as file:
                assert file.read() == b"data of " + source.encode()


@pytest.mark.parametrize("one", KINDS)
@pytest.mark.parametrize("lost_in", ["one", "two"])
def test_a_lost_object_of_a_layered_collection_is_replaced(
    tmp_path: Path, one: str, lost_in: str
) -> None:
    with opened(tmp_path, one) as collection:
        with collection.transaction() as conn:
            lost = node(conn, lost_in, name="lost")
            conn.root.keeps = Node(lost=lost, text="x" * 500)
            conn["two"].root.keeps = Node(lost=lost)
            place = lost._p_oid
        lose(collection[lost_in], place)
        done = collection.repair()
        assert [(each.member, each.oid) for each in done.placed] == [(lost_in, place)]
    with opened(tmp_path, one) as collection:
        with collection.transaction() as conn:
            assert type(conn.root.keeps.lost) is perdure.LostObject
            assert conn.root.keeps.lost is conn["two"].root.keeps.lost
            assert conn.root.keeps.text == "x" * 500
        assert all(report.ok for report in collection.check().values())


OLD, NEW = bytes(32), bytes(31) + b"1"


def encrypted(where: Path, *keys: bytes) -> perdure.Collection:
    """Open a collection whose first member is encrypted with the first key."""
    pytest.importorskip("cryptography")
    from perdure.storage.encrypting import EncryptingStorage

    file = perdure.FileStorage(str(where / "one.fs"), pack_keep_old=False)
    one = EncryptingStorage(file, list(keys))
    return perdure.Collection({"one": one, "two": where / "two.fs"})


def test_nothing_is_collected_while_a_record_can_not_be_decrypted(tmp_path: Path) -> None:
    with encrypted(tmp_path, OLD) as collection, collection.transaction() as conn:
        kept = conn.root.kept = node(conn, "one")
        there, garbage = node(conn, "two"), node(conn, "two")
        kept.there = there
    there, garbage = there._p_oid, garbage._p_oid
    with encrypted(tmp_path, NEW, OLD) as collection, collection.transaction() as conn:
        conn.root.also = "the root has the new key, what it refers to the old one"
    with encrypted(tmp_path, NEW) as collection:
        last = collection.lastTransaction()
        with pytest.raises(errors.EncryptionError):
            collection.gc()
        with pytest.raises(errors.EncryptionError):
            collection["two"].pack(time.time() + 1, gc=True)
        assert collection.lastTransaction() == last
        assert exists(collection, "two", there)
        assert exists(collection, "two", garbage)
    with encrypted(tmp_path, NEW, OLD) as collection:
        assert collection.gc().total == 1
        assert exists(collection, "two", there)


def test_guarantees_tell_of_each_member_whether_new_references_are_checked(tmp_path: Path) -> None:
    from perdure.storage.demo import DemoStorage

    members = {
        "plain": perdure.DB(str(tmp_path / "plain.fs")),
        "bulk": perdure.DB(str(tmp_path / "bulk.fs"), check_references=False),
        "layered": perdure.DB(LAYERED_MEMBERS["encrypting-over-zlib"](tmp_path, "layered")),
        "overlay": perdure.DB(DemoStorage(base=perdure.FileStorage(str(tmp_path / "base.fs")))),
    }
    with perdure.Collection(members) as collection:
        told = collection.guarantees().members
        assert {name: each.references_checked for name, each in told.items()} == {
            "plain": True,
            "bulk": False,
            "layered": True,
            "overlay": False,
        }
