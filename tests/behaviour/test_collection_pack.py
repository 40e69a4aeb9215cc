"""Packing a member of a collection: what only another member refers to stays."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import pytest
from tests.behaviour.conftest import OpenDatabase
from tests.behaviour.models import Account

import perdure
from perdure import errors
from perdure.storage import MappingStorage


class TakesNoAdvice(MappingStorage):
    """Can't be told how to pack, like many storages of others."""

    def pack(self, t: float, referencesf: Callable[..., Any]) -> None:  # type: ignore[override]
        raise AssertionError("packed all the same")


def _referring(databases: dict[str, Any]) -> tuple[perdure.DB, perdure.DB]:
    """Have `one` refer to an account in `two` that nothing in `two` refers to."""
    one, two = databases["one"], databases["two"]
    with one.transaction() as conn:
        account = Account(1.0)
        conn.get_connection("two").add(account)
        conn.root.account = account
    with one.transaction() as conn:
        conn.root.account.deposit(1.0)
    return one, two


def test_pack_keeps_what_another_member_references(open_db: OpenDatabase) -> None:
    databases: dict[str, Any] = {}
    open_db("One", database_name="one", databases=databases)
    open_db("Two", database_name="two", databases=databases)
    one, two = _referring(databases)
    for db in (two, one):
        # What can't be told to keep such objects isn't packed at all.
        with contextlib.suppress(errors.Unsupported):
            db.pack(time.time() + 1)
    with one.transaction() as conn:
        conn.cacheMinimize()
        assert conn.root.account.cash == 0


def test_pack_of_a_member_still_drops_old_revisions() -> None:
    databases: dict[str, Any] = {}
    for name in ("one", "two"):
        perdure.DB(None, database_name=name, databases=databases)
    one, two = _referring(databases)
    with one.transaction() as conn:
        oid = conn.root.account._p_oid
    assert len(two.history(oid, 10)) == 2
    two.pack(time.time() + 1)
    assert len(two.history(oid, 10)) == 1


def test_pack_of_a_database_that_is_alone_drops_garbage() -> None:
    db = perdure.DB(None)
    with db.transaction() as conn:
        conn.add(Account())
    before = db.objectCount()
    db.pack(time.time() + 1)
    assert db.objectCount() == before - 1


def test_a_member_that_can_not_be_told_to_keep_garbage_is_not_packed() -> None:
    databases: dict[str, Any] = {}
    perdure.DB(None, database_name="one", databases=databases)
    two = perdure.DB(TakesNoAdvice("foreign"), database_name="two", databases=databases)
    with pytest.raises(errors.Unsupported, match=r"foreign.*\(one, two\)"):
        two.pack()
