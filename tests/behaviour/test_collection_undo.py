"""Undo over collections."""

from typing import Any

import pytest
import transaction

import perdure
from perdure import errors


@pytest.fixture
def collection() -> Any:
    with perdure.Collection({"one": None, "two": None}) as made:
        for number in (1, 2):
            with made.transaction(f"both {number}") as conn:
                conn.root.n = conn["two"].root.n = number
        yield made


def _values(collection: perdure.Collection) -> tuple[int, int]:
    with collection.transaction() as conn:
        return conn.root.n, conn["two"].root.n


def test_a_joint_transaction_is_one_entry(collection: perdure.Collection) -> None:
    with collection["two"].transaction("alone") as conn:
        conn.root.m = 1
    log = collection.undoLog()
    assert [info["description"] for info in log[:3]] == ["alone", "both 2", "both 1"]
    assert [info["members"] for info in log[:3]] == [["two"], ["one", "two"], ["one", "two"]]
    assert collection.undoLog(1, 3) == log[1:3]
    assert collection.undoLog(1, -1) == log[1:2]


def test_undo_is_for_all_members(collection: perdure.Collection) -> None:
    manager = transaction.TransactionManager()
    collection.undo(collection.undoLog(0, -1)[0]["id"], manager.begin())
    manager.commit()
    assert _values(collection) == (1, 1)
    assert collection["one"].lastTransaction() == collection["two"].lastTransaction()


def test_undo_that_is_impossible_in_one_member_is_done_in_none(
    collection: perdure.Collection,
) -> None:
    undone = collection.undoLog(0, -1)[0]["id"]
    with collection["two"].transaction() as conn:
        conn.root.n = 3
    plan = collection.undo(undone, dry_run=True)
    assert plan is not None
    assert [[step.effect for step in steps] for steps in plan.values()] == [
        ["restored"],
        ["impossible"],
    ]
    manager = transaction.TransactionManager()
    collection.undo(undone, manager.begin())
    with pytest.raises(errors.UndoError):
        manager.commit()
    manager.abort()
    assert _values(collection) == (2, 3)


def test_an_unknown_transaction_is_an_error(collection: perdure.Collection) -> None:
    for unknown in (b"what?", b"AAAAAAAAAAE="):
        with pytest.raises(errors.UndoError, match="transaction"):
            collection.undo(unknown)
