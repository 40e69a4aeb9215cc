"""`Collection.validate`: what contradicts routes and `xrefs=False`."""

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from persistent.wref import WeakRef
from tests.behaviour.models import Account, Node

import perdure
from perdure import errors
from perdure.db.validating import CollectionWarning

MODELS = "tests.behaviour.models"


def kinds(collection: perdure.Collection) -> list[tuple[str, str, int]]:
    return [(each.kind, each.member, each.count) for each in collection.validate(warn=False)]


@pytest.fixture
def members(tmp_path: Path) -> dict[str, Any]:
    """Files of members that refer to one another, made without routes."""
    paths = {name: tmp_path / f"{name}.fs" for name in ("main", "catalog")}
    with perdure.Collection(paths) as collection, collection.transaction() as conn:
        account = Account()
        conn["catalog"].add(account)
        conn.root.nodes = [Node(account=account), Node(account=Account())]
    return paths


def opened(members: dict[str, Any], *closed: str, **options: Any) -> perdure.Collection:
    made = {name: perdure.DB(path, xrefs=name not in closed) for name, path in members.items()}
    return perdure.Collection(made, **options)


def test_a_collection_that_contradicts_nothing_has_no_findings(members: dict[str, Any]) -> None:
    with opened(members) as collection:
        assert collection.validate() == []
    routes = {f"{MODELS}.Node": "main", "persistent.mapping": "main"}
    with opened(members, "catalog", routes=routes) as collection:
        # Objects of the one that may not refer to others don't.  Root objects stay anyway.
        assert kinds(collection) == [("closed off", "main", 0)]


def test_references_that_leave_a_closed_member_are_found(members: dict[str, Any]) -> None:
    with opened(members, "main") as collection:
        assert kinds(collection) == [("crossing", "main", 1)]
        expected = (
            rf"references lead from {MODELS}\.Node in 'main' \(xrefs=False\) to "
            rf"{MODELS}\.Account in 'catalog' \(1\)"
        )
        with pytest.warns(CollectionWarning, match=expected):
            collection.validate()


def test_weak_references_that_leave_a_closed_member_are_found(members: dict[str, Any]) -> None:
    with opened(members) as collection, collection.transaction() as conn:
        account = conn.root.nodes[0].account
        conn.root.nodes[0].account = WeakRef(account)
        conn.root.nodes[0].own = WeakRef(conn.root.nodes[1])
    with opened(members, "main") as collection:
        assert kinds(collection) == [("crossing", "main", 1)]


def test_references_that_a_route_would_lead_out_of_a_closed_member_are_found(
    members: dict[str, Any],
) -> None:
    with opened(members, "main", routes={f"{MODELS}.Account": "catalog"}) as collection:
        assert kinds(collection) == [
            ("closed off", "catalog", 0),
            ("misplaced", "main", 1),
            ("crossing", "main", 1),
            ("refused", "main", 1),
        ]
        # What it warns of happens.
        conn: Any = collection.open()
        conn.root.nodes[1].account = Account()
        with pytest.raises(errors.InvalidObjectReference):
            conn.transaction_manager.commit()
        conn.transaction_manager.abort()
        conn.close()


def test_moving_takes_misplaced_objects_where_they_belong(members: dict[str, Any]) -> None:
    with opened(members, routes={f"{MODELS}.Account": "catalog"}) as collection:
        assert kinds(collection) == [("misplaced", "main", 1)]
        with collection.transaction() as conn:
            collection.move(conn.root.nodes[1].account, "catalog")
        assert kinds(collection) == []


def test_routes_that_can_not_work_are_found(tmp_path: Path) -> None:
    path = str(tmp_path / "archive.fs")
    perdure.DB(path).close()
    members = {"main": None, "archive": perdure.FileStorage(path, read_only=True)}
    routes = {
        f"{MODELS}.Acount": "main",
        "tests.nowhere": "main",
        "no_such_module": "main",
        f"{MODELS}.Node": "archive",
        "tests.behaviour": "main",
    }
    with perdure.Collection(members, routes=routes) as collection:
        assert kinds(collection) == [
            ("no such class", "main", 0),
            ("no such class", "main", 0),
            ("no such class", "main", 0),
            ("read-only", "archive", 0),
        ]


def test_a_class_that_is_gone_is_judged_by_its_name(tmp_path: Path) -> None:
    module = types.ModuleType("gone_soon")
    cls = type("Thing", (Node,), {"__module__": "gone_soon"})
    module.__dict__["Thing"] = cls
    path = tmp_path / "main.fs"
    sys.modules["gone_soon"] = module
    try:
        with perdure.DB(path) as database, database.transaction() as conn:
            conn.root.thing = cls()
    finally:
        del sys.modules["gone_soon"]
    members = {"main": path, "other": tmp_path / "other.fs"}
    with perdure.Collection(members, routes={"gone_soon": "other"}) as collection:
        assert kinds(collection) == [("no such class", "other", 0), ("misplaced", "main", 1)]
