"""Export and import over a collection: references are kept by name, or followed."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from persistent.wref import WeakRef
from tests.behaviour.models import Node

import perdure
from perdure.errors import DanglingReferenceError, ExportError, POSKeyError
from perdure.ids import Oid, p64


def made(folder: Path, *names: str, **options: Any) -> perdure.Collection:
    members = {
        name: perdure.FileStorage(str(folder / f"{name}.fs"), blob_dir=str(folder / f"{name}.d"))
        for name in names
    }
    return perdure.Collection(members, **options)


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[perdure.Collection]:
    """An order, which refers to a customer in another member, who refers back weakly."""
    (tmp_path / "shop").mkdir()
    with made(tmp_path / "shop", "orders", "customers") as collection:
        with collection.transaction() as conn:
            ada = Node(name="Ada", friend=Node(name="Bob"), photo=perdure.Blob(b"a face"))
            conn["customers"].add(ada)
            conn["customers"].root.ada = ada
            # The member's name is also something else: only the reference is to be changed.
            order = Node(customer=ada, place="customers", item=Node(what="tea"))
            conn.add(order)
            conn.root.order = order
            ada.last = WeakRef(order)
        yield collection


def exported(collection: perdure.Collection, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    with collection.transaction() as conn:
        conn.exportFile(conn.root.order._p_oid, file, **options)
    file.seek(0)
    return file


def count(collection: perdure.Collection) -> dict[str, int]:
    return {name: len(database.storage) for name, database in collection.items()}


def check_copy(order: Any) -> None:
    assert (order.place, order.item.what) == ("customers", "tea")
    ada = order.customer
    assert (ada.name, ada.friend.name) == ("Ada", "Bob")
    with ada.photo.open() as file:
        assert file.read() == b"a face"
    assert ada.last() is order


@pytest.mark.parametrize("follow", [True, "customers", ["customers"], ["customers", "orders"]])
def test_what_is_followed_comes_along_into_the_members_of_the_same_names(
    shop: perdure.Collection, tmp_path: Path, follow: Any
) -> None:
    file = exported(shop, follow=follow)
    with made(tmp_path, "orders", "customers") as other:
        with other.transaction() as conn:
            conn.root.copy = conn.importFile(file, "from the shop")
        assert count(other) == {"orders": 3, "customers": 4}
        assert other["orders"].lastTransaction() == other["customers"].lastTransaction()
        with other.transaction() as conn:
            conn.cacheMinimize()
            check_copy(conn.root.copy)
            assert conn.root.copy.customer._p_jar is conn["customers"]
        assert all(report.ok for report in other.check().values())


def test_an_export_of_several_members_tells_how_far_it_is(shop: perdure.Collection) -> None:
    with shop.transaction() as conn:
        conn.root.order.customer.notes = {number: Node() for number in range(1_200)}
    told: list[tuple[int, int]] = []
    exported(shop, follow=True, progress=lambda *done: told.append(done))
    # The order, its item, the customer, a friend and a photograph, and the notes.
    assert [done for done, _met in told] == [1, 1_001]
    assert told[-1][1] == 1_205


def test_importing_maps_the_names_of_members(shop: perdure.Collection, tmp_path: Path) -> None:
    file = exported(shop, follow=True)
    with made(tmp_path, "main", "people") as other:
        with other.transaction() as conn:
            conn.root.copy = conn.importFile(file, members={"customers": "people"})
        with other.transaction() as conn:
            check_copy(conn.root.copy)
            assert conn.root.copy.customer._p_jar is conn["people"]
        assert all(report.ok for report in other.check().values())


def test_members_may_become_one_or_change_places(shop: perdure.Collection, tmp_path: Path) -> None:
    file = exported(shop, follow=True)
    with perdure.DB(str(tmp_path / "all.fs"), blob_dir=str(tmp_path / "all.d")) as db:
        with db.transaction() as conn:
            conn.root.copy = conn.importFile(file, members={"customers": "unnamed"})
        with db.transaction() as conn:
            check_copy(conn.root.copy)
        assert perdure.check(db).references_to_others == []
    swapped = {"customers": "orders", "orders": "customers"}
    file.seek(0)
    with made(tmp_path, "orders", "customers") as other:
        with other.transaction() as conn:
            conn.root.copy = conn.importFile(file, members=swapped)
        with other.transaction() as conn:
            check_copy(conn.root.copy)
            assert conn.root.copy._p_jar is conn["customers"]
            assert conn.root.copy.customer._p_jar is conn


def test_what_is_not_followed_is_kept_by_the_members_name(shop: perdure.Collection) -> None:
    file = exported(shop)
    assert file.read(4) == b"ZEXP"
    file.seek(0)
    before = count(shop)
    with shop.transaction() as conn:
        copy = conn.importFile(file)
        conn.root.copy = copy
        assert copy.customer is conn.root.order.customer
    assert count(shop) == {**before, "orders": before["orders"] + 2}


def test_a_kept_reference_is_mapped_to_another_member(
    shop: perdure.Collection, tmp_path: Path
) -> None:
    file = exported(shop)
    with shop.transaction() as conn:
        oid = conn.root.order.customer._p_oid
    with made(tmp_path, "orders", "clients") as other:
        with other.transaction() as conn:
            # The same object, under the same oid, as a copy of the member has it.
            ada = Node(name="Ada")
            conn["clients"]._add(ada, oid)
            conn["clients"].root.ada = ada
        with other.transaction() as conn:
            conn.root.copy = conn.importFile(file, members={"customers": "clients"})
        with other.transaction() as conn:
            assert conn.root.copy.customer is conn["clients"].root.ada
            assert conn.root.copy.place == "customers"


@pytest.mark.parametrize("follow", [False, True])
def test_a_member_that_is_missing_is_an_error_before_anything_is_stored(
    shop: perdure.Collection, tmp_path: Path, follow: bool
) -> None:
    file = exported(shop, follow=follow)
    with made(tmp_path, "orders", "clients") as other:
        before = count(other)
        manager = transaction.TransactionManager()
        conn = other.open(manager)
        conn.root.kept = 1
        with pytest.raises(
            ExportError, match=r"'customers', which isn't among.*members={"
        ) as error:
            conn.importFile(file)
        assert "'clients', 'orders'" in str(error.value)
        manager.commit()
        assert count(other) == before
        assert conn.root.kept == 1
        conn.close()


def test_a_followed_member_that_nothing_came_from_needs_none(
    shop: perdure.Collection, tmp_path: Path
) -> None:
    with shop.transaction() as conn:
        conn.root.order = Node(what="alone")
    with made(tmp_path, "main") as other, other.transaction() as conn:
        assert conn.importFile(exported(shop, follow=True)).what == "alone"


@pytest.mark.parametrize("follow", [False, True])
def test_a_member_that_another_one_is_mapped_to_has_to_be_there(
    shop: perdure.Collection, tmp_path: Path, follow: bool
) -> None:
    file = exported(shop, follow=follow)
    with made(tmp_path, "orders", "clients") as other:
        before = count(other)
        conn = other.open(transaction.TransactionManager())
        with pytest.raises(ExportError) as error:
            conn.importFile(file, members={"customers": "client"})
        assert str(error.value) == (
            "members={'customers': 'client'} names no member: 'client' isn't among "
            "'clients', 'orders'"
        )
        conn.close()
        assert count(other) == before


def test_a_kept_reference_to_what_is_not_there_is_refused(
    shop: perdure.Collection, tmp_path: Path
) -> None:
    file = exported(shop)
    with made(tmp_path, "orders", "customers") as other, other.transaction() as conn:
        with pytest.raises(DanglingReferenceError) as error:
            conn.importFile(file)
        assert error.value.database == "customers"
        assert error.value.class_name == f"{Node.__module__}.Node"
        assert not conn._savepoint_storage
    file.seek(0)
    (tmp_path / "loose").mkdir()
    databases: dict[str, Any] = {}
    loose = perdure.DB(None, database_name="orders", databases=databases, check_references=False)
    with loose, perdure.DB(None, database_name="customers", databases=databases):
        with loose.transaction() as conn:
            conn.root.copy = conn.importFile(file)
        assert not perdure.check_collection(loose.databases)["orders"].ok


def test_a_database_without_references_to_others_takes_none(
    shop: perdure.Collection, tmp_path: Path
) -> None:
    file = exported(shop, follow=True)
    databases: dict[str, Any] = {}
    orders = perdure.DB(None, database_name="orders", databases=databases, xrefs=False)
    with orders, perdure.DB(None, database_name="customers", databases=databases):
        with orders.transaction() as conn, pytest.raises(ExportError, match="xrefs"):
            conn.importFile(file)
        assert len(orders.storage) == 1


def test_an_import_over_members_is_taken_back_by_a_savepoint(
    shop: perdure.Collection, tmp_path: Path
) -> None:
    file = exported(shop, follow=True)
    before = count(shop)
    manager = transaction.TransactionManager()
    conn = shop.open(manager)
    conn.root.kept = 1
    savepoint = manager.savepoint()
    copy = conn.importFile(file)
    oids = copy._p_oid, copy.customer._p_oid
    savepoint.rollback()
    manager.commit()
    assert count(shop) == before
    for member, oid in zip((conn, conn["customers"]), oids, strict=True):
        with pytest.raises(POSKeyError):
            member.get(oid)
    conn.close()


@pytest.mark.parametrize("end", [3, 6, 20, 60, 90, 200, -1, -30])
def test_a_file_that_is_cut_off_is_refused_and_nothing_is_stored(
    shop: perdure.Collection, end: int
) -> None:
    content = exported(shop, follow=True).getvalue()
    before = count(shop)
    with shop.transaction() as conn, pytest.raises(ExportError):
        conn.importFile(io.BytesIO(content[:end]))
    assert count(shop) == before


def test_a_number_of_no_member_and_a_later_format_are_refused(shop: perdure.Collection) -> None:
    content = exported(shop, follow=True).getvalue()
    start = 8 + int.from_bytes(content[4:8], "big")
    garbled = content[:start] + b"\0\0\0\x09" + content[start + 4 :]
    later = content.replace(b'"format": 1', b'"format": 2')
    with shop.transaction() as conn:
        for each, problem in ((garbled, "garbled"), (later, "later perdure")):
            with pytest.raises(ExportError, match=problem):
                conn.importFile(io.BytesIO(each))


def test_an_unknown_member_to_follow_is_an_error(shop: perdure.Collection, tmp_path: Path) -> None:
    with shop.transaction() as conn:
        with pytest.raises(KeyError, match="nobody"):
            conn.exportFile(conn.root.order._p_oid, str(tmp_path / "x"), follow=["nobody"])
        assert not (tmp_path / "x").exists()
        with pytest.raises(POSKeyError):
            conn.exportFile(Oid(p64(999)), io.BytesIO(), follow=True)
