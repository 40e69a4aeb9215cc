"""Weak references between the members of a collection, and out of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import transaction
from persistent.wref import WeakRef
from tests.behaviour.models import Node

import perdure
from perdure.errors import InvalidObjectReference


@pytest.fixture
def collection() -> Iterator[perdure.Collection]:
    with perdure.Collection({"one": None, "two": None}) as made:
        yield made


@pytest.fixture
def conn(collection: perdure.Collection, tm: transaction.TransactionManager) -> Iterator[Any]:
    conn = collection.open(tm)
    yield conn
    tm.abort()
    conn.close()


def test_weak_references_out_of_the_collection_are_refused(conn: Any, tm: Any) -> None:
    # A member of the other collection has this name, too: it would lead to something else here.
    with perdure.Collection({"two": None}) as elsewhere, elsewhere.transaction() as other:
        stranger = other.root.stranger = Node()
        other.transaction_manager.commit()
        conn.root.node = Node(weak=WeakRef(stranger))
        with pytest.raises(InvalidObjectReference, match=r"Node 0x01 is in 'two'.* with 'one'"):
            tm.commit()
        tm.abort()
        assert "node" not in conn.root()


def test_without_xrefs_weak_references_to_others_are_refused_too(tm: Any) -> None:
    members = {"open": None, "closed": perdure.DB(None, xrefs=False)}
    with perdure.Collection(members) as collection:
        conn = collection.open(tm)
        target = conn.root.target = Node()
        own = conn["closed"].root.own = Node()
        tm.commit()
        conn["closed"].root.weak = WeakRef(own)
        tm.commit()
        conn["closed"].root.other = WeakRef(target)
        with pytest.raises(InvalidObjectReference, match=r"xrefs=False.*Node 0x01 is in 'open'"):
            tm.commit()
        tm.abort()
        conn.close()


def test_what_refers_weakly_to_a_member_that_is_not_there_can_be_changed(
    tmp_path: Path, tm: Any
) -> None:
    files = {name: tmp_path / f"{name}.fs" for name in ("one", "two")}
    with perdure.Collection(files) as collection, collection.transaction() as conn:
        target = conn["two"].root.target = Node(name="target")
        conn["two"].add(target)
        conn.root.node = Node(weak=WeakRef(target))
    with perdure.DB(files["one"], database_name="one") as alone, alone.transaction() as conn:
        assert conn.root.node.weak() is None
        conn.root.node.changed = True
    with perdure.Collection(files) as collection, collection.transaction() as conn:
        assert conn.root.node.changed
        assert conn.root.node.weak().name == "target"


def test_a_weak_reference_made_before_an_abort_leads_to_the_object_afterwards(
    conn: Any, tm: Any
) -> None:
    node = Node(name="node")
    weak = WeakRef(node)
    conn.root.weak = weak
    tm.savepoint()
    tm.abort()
    conn.root.others = [Node(), Node()]
    conn["two"].add(node)
    conn["two"].root.node = node
    conn.root.weak = weak
    tm.commit()
    again = conn.db().open(transaction.TransactionManager())
    assert again.root.weak().name == "node"
    again.close()
