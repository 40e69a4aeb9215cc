"""A commit to one member of a collection takes the steps of one to a single database."""

import gc
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import transaction
from tests.behaviour.models import Account
from tests.layers import LAYERED_MEMBERS

import perdure

KINDS = ["plain", *LAYERED_MEMBERS]

STEPS = ("connection.", "db.", "storage.joint", "storage.view", "storage.layered", "storage.engine")
"""The modules that a commit leads through; what layers make of a record is a matter of its bytes."""

BESIDES = {
    "db.routes.chooser",
    "db.shared.chooser",
    "db.shared.joint_commit",
    "storage.joint.__init__",
    "storage.joint.is_of_one",
    "storage.joint.join",
    "storage.view.is_indifferent",
    # The next transaction's snapshot, of all members.
    "connection.group._advance",
    "db.shared._own_members",
    "db.shared.snapshots",
}
"""What a collection's commit takes besides: whether others take part is to be found out."""


def opened(where: Path, name: str, kind: str) -> perdure.DB:
    if kind == "plain":
        return perdure.DB(where / f"{name}.fs")
    return perdure.DB(LAYERED_MEMBERS[kind](where, name))


@contextmanager
def counting(calls: Counter[str]) -> Iterator[None]:
    """Count the functions of `STEPS` that this thread calls."""

    def note(frame: FrameType, event: str, _argument: object) -> None:
        package, _, module = frame.f_globals.get("__name__", "").partition(".")
        # Where comprehensions have frames of their own, these tell nothing more.
        if event != "call" or package != "perdure" or "<" in frame.f_code.co_name:
            return
        if module.startswith(STEPS):
            calls[f"{module}.{frame.f_code.co_name}"] += 1

    before, collects = sys.getprofile(), gc.isenabled()
    # Finalizers of other tests' garbage are no part of it.
    gc.disable()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()


def calls_of(database: perdure.DB, change: Callable[[Any], None]) -> Counter[str]:
    """Return what the third of three equal commits calls: by then all is loaded and open."""
    manager = transaction.TransactionManager()
    connection = database.open(manager)
    calls: Counter[str] = Counter()
    for _ in range(3):
        calls.clear()
        change(connection)
        with counting(calls):
            manager.commit()
    connection.close()
    return calls


def change_one(connection: Any) -> None:
    connection.root.account = Account(1.0)


def change_two(connection: Any) -> None:
    change_one(connection)
    change_one(connection["other"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_commit_to_one_member_calls_what_one_to_a_single_database_does(
    tmp_path: Path, kind: str
) -> None:
    with ExitStack() as stack:
        alone = stack.enter_context(opened(tmp_path, "alone", kind))
        members = {name: opened(tmp_path, name, kind) for name in ("one", "other")}
        collection = stack.enter_context(perdure.Collection(members))
        expected = calls_of(alone, change_one)
        found = calls_of(collection.primary, change_one)
    assert expected <= found
    assert set(found - expected) <= BESIDES


@pytest.mark.parametrize("kind", KINDS)
def test_a_joint_commit_is_voted_in_one_step_unless_a_layer_needs_the_tid(
    tmp_path: Path, kind: str
) -> None:
    members = {name: opened(tmp_path, name, kind) for name in ("one", "other")}
    with perdure.Collection(members) as collection:
        calls = calls_of(collection.primary, change_two)
    assert calls["storage.joint._vote_all"] == calls["storage.joint._finish"] == 1
    assert calls["storage.joint._vote_in_turn"] == ("encrypting" in kind)
