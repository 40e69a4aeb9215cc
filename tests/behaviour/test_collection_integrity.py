"""References between members that would lead nowhere."""

from typing import Any

import pytest
import transaction
from tests.behaviour.models import Account

import perdure
from perdure import errors


@pytest.fixture(params=[True, False], ids=["checked", "unchecked"])
def collection(request: pytest.FixtureRequest) -> Any:
    with perdure.Collection({"one": None, "two": None}, check_references=request.param) as made:
        yield made


@pytest.fixture
def conn(collection: perdure.Collection) -> Any:
    """A connection with an account in `two` that was deleted since it was loaded."""
    manager = transaction.TransactionManager()
    conn: Any = collection.open(manager)
    account = conn["two"].root.lost = Account(1.0)
    conn.root.holder = Account()
    manager.commit()
    del conn["two"].root.lost
    manager.commit()
    collection.gc()
    conn.lost = account
    yield conn
    manager.abort()
    conn.close()


def test_a_new_reference_to_what_is_gone_is_refused(collection: Any, conn: Any) -> None:
    lost, holder, manager = conn.lost, conn.root.holder, conn.transaction_manager
    holder.parts = {"a": [lost]}
    if not collection.primary.check_references:
        manager.commit()
        return
    with pytest.raises(errors.DanglingReferenceError) as raised:
        manager.commit()
    error = raised.value
    assert (error.referer, error.missing) == (holder._p_oid, lost._p_oid)
    assert error.database == "two"
    assert error.path == ".parts['a'][0]"
    assert "models.Account 0x01, .parts['a'][0] to 0x01 in database 'two'" in str(error)
    manager.abort()
    assert not hasattr(holder, "parts")


def test_an_object_that_refers_to_what_is_gone_can_still_be_changed(
    collection: Any, conn: Any
) -> None:
    lost, holder, manager = conn.lost, conn.root.holder, conn.transaction_manager
    collection.primary.check_references = False
    holder.part = lost
    manager.commit()
    collection.primary.check_references = True
    holder.balance = 5.0
    manager.commit()
    holder.other = lost
    manager.commit()
    with pytest.raises(errors.DanglingReferenceError):
        _commit_reference(conn, lost)


def _commit_reference(conn: Any, lost: Any) -> None:
    conn.root.another = lost
    conn.transaction_manager.commit()


def test_new_objects_of_any_member_can_be_referred_to(collection: Any, conn: Any) -> None:
    manager = conn.transaction_manager
    for savepoint in (False, True):
        account = Account(2.0)
        conn["two"].add(account)
        if savepoint:
            manager.savepoint()
            conn.cacheMinimize()
        conn.root.account = account
        manager.commit()
        conn.cacheMinimize()
        assert conn.root.account.cash == 0
