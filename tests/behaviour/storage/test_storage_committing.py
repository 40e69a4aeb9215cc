"""Committing to a storage: the two phases, their order, their errors."""

import base64
import threading
from typing import Any

import pytest
from tests.storing import begun, commit, oid, serial_of, tid_of, undo
from transaction.interfaces import TransientError

from perdure.connection.metadata import TransactionMetaData
from perdure.errors import (
    ConflictError,
    POSKeyError,
    ReadConflictError,
    StorageTransactionError,
    UndoError,
)
from perdure.ids import NO_TID, Tid


def current(storage: Any) -> dict[int, bytes]:
    """Return the current records by their numbers."""
    found: dict[int, bytes] = {}
    following = None
    while True:
        try:
            key, _, data, following = storage.record_iternext(following)
        except ValueError:
            return found
        found[int.from_bytes(key, "big")] = data
        if following is None:
            return found


# The usual course.


def test_what_is_stored_is_seen_after_the_finish_and_not_before(storage: Any) -> None:
    txn = begun(storage)
    storage.store(oid(1), NO_TID, b"x", "", txn)
    assert current(storage) == {}
    storage.tpc_vote(txn)
    assert current(storage) == {}
    tid = storage.tpc_finish(txn)
    assert storage.load(oid(1)) == (b"x", tid)
    assert storage.lastTransaction() == tid


def test_the_callback_gets_the_tid_before_others_see_it(storage: Any) -> None:
    txn = begun(storage)
    storage.store(oid(1), NO_TID, b"x", "", txn)
    storage.tpc_vote(txn)
    told: list[Tid] = []
    tid = storage.tpc_finish(txn, told.append)
    assert told == [tid]


def test_who_is_told_of_a_transaction_by_the_callback_never_reads_what_was_before(
    storage: Any,
) -> None:
    """Snapshots are taken of what callbacks tell: they must not change under their readers."""
    commit(storage, {1: b"before"})
    found: list[Any] = []

    def tell(tid: Tid) -> None:
        def read() -> None:
            after = (int.from_bytes(tid, "big") + 1).to_bytes(8, "big")
            found.append(storage.loadBefore(oid(1), after))
            found.append(storage.load(oid(1)))

        reader.append(threading.Thread(target=read))
        reader[0].start()
        reader[0].join(0.2)  # Time to read what was before, for a storage that doesn't wait.

    reader: list[threading.Thread] = []
    txn = begun(storage)
    storage.store(oid(1), serial_of(storage, oid(1)), b"after", "", txn)
    storage.tpc_vote(txn)
    tid = storage.tpc_finish(txn, tell)
    reader[0].join()
    assert found == [(b"after", tid, None), (b"after", tid)]


def test_tids_grow_from_transaction_to_transaction(storage: Any) -> None:
    tids = [commit(storage, {1: b"%d" % number}) for number in range(50)]
    assert tids == sorted(set(tids))


def test_an_aborted_transaction_leaves_nothing(storage: Any) -> None:
    before = commit(storage, {1: b"x"}), storage.getSize()
    for vote in (False, True):
        txn = begun(storage)
        storage.store(oid(1), before[0], b"changed", "", txn)
        storage.store(oid(2), NO_TID, b"new", "", txn)
        if vote:
            storage.tpc_vote(txn)
        storage.tpc_abort(txn)
        assert current(storage) == {1: b"x"}
        assert (storage.lastTransaction(), storage.getSize()) == before
    commit(storage, {1: b"after"})
    assert current(storage) == {1: b"after"}


def test_the_transaction_in_progress_is_known(storage: Any) -> None:
    assert storage.tpc_transaction() is None
    txn = begun(storage)
    assert storage.tpc_transaction() is txn
    storage.tpc_vote(txn)
    assert storage.tpc_transaction() is txn
    storage.tpc_finish(txn)
    assert storage.tpc_transaction() is None


@pytest.mark.ours
def test_an_object_stored_twice_has_what_was_stored_last(storage: Any) -> None:
    txn = begun(storage)
    storage.store(oid(1), NO_TID, b"first", "", txn)
    storage.store(oid(1), NO_TID, b"second", "", txn)
    storage.tpc_vote(txn)
    tid = storage.tpc_finish(txn)
    assert storage.load(oid(1)) == (b"second", tid)
    assert storage.loadSerial(oid(1), tid) == b"second"
    assert len(storage) == 1


@pytest.mark.ours
def test_undoing_an_object_stored_twice_brings_back_what_was_before_both(storage: Any) -> None:
    before = commit(storage, {1: b"before"})
    txn = begun(storage)
    storage.store(oid(1), before, b"first", "", txn)
    storage.store(oid(1), before, b"second", "", txn)
    storage.tpc_vote(txn)
    undone = undo(storage, storage.tpc_finish(txn))
    assert storage.load(oid(1)) == (b"before", undone)


def test_several_transactions_are_undone_in_one(storage: Any) -> None:
    commit(storage, {1: b"one", 2: b"two"})
    tids = [commit(storage, {1: b"%d" % number, 2: b"-"}) for number in range(3)]
    txn = begun(storage)
    for tid in reversed(tids):
        storage.undo(base64.b64encode(tid), txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    assert current(storage) == {1: b"one", 2: b"two"}


def test_the_vote_names_no_resolved_objects_where_there_was_no_conflict(storage: Any) -> None:
    txn = begun(storage)
    storage.store(oid(1), NO_TID, b"x", "", txn)
    assert not storage.tpc_vote(txn)
    storage.tpc_abort(txn)


# The wrong transaction, the wrong moment.


def calls(storage: Any, txn: Any) -> dict[str, Any]:
    """Return the calls that belong to a transaction."""
    return {
        "store": lambda: storage.store(oid(1), NO_TID, b"x", "", txn),
        "restore": lambda: storage.restore(oid(1), NO_TID, b"x", "", None, txn),
        "delete": lambda: storage.deleteObject(oid(1), NO_TID, txn),
        "check": lambda: storage.checkCurrentSerialInTransaction(oid(1), NO_TID, txn),
        "undo": lambda: storage.undo(b"AAAAAAAAAAA=", txn),
        "vote": lambda: storage.tpc_vote(txn),
        "finish": lambda: storage.tpc_finish(txn),
    }


@pytest.mark.ours
@pytest.mark.parametrize("name", list(calls(None, None)))
def test_a_call_of_a_transaction_that_was_not_begun_is_refused(storage: Any, name: str) -> None:
    commit(storage, {1: b"before"})
    for other in (TransactionMetaData(), None):
        with pytest.raises(StorageTransactionError):
            calls(storage, other)[name]()
    running = begun(storage)
    with pytest.raises(StorageTransactionError):
        calls(storage, TransactionMetaData())[name]()
    storage.tpc_abort(running)
    with pytest.raises(StorageTransactionError):
        calls(storage, running)[name]()
    assert current(storage) == {1: b"before"}


@pytest.mark.ours
def test_beginning_twice_is_refused_and_the_first_goes_on(storage: Any) -> None:
    txn = begun(storage)
    storage.store(oid(1), NO_TID, b"x", "", txn)
    with pytest.raises(StorageTransactionError, match="Duplicate tpc_begin"):
        storage.tpc_begin(txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    assert current(storage) == {1: b"x"}


@pytest.mark.ours
def test_finishing_without_a_vote_is_refused(storage: Any) -> None:
    txn = begun(storage)
    storage.store(oid(1), NO_TID, b"x", "", txn)
    with pytest.raises(StorageTransactionError):
        storage.tpc_finish(txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    assert current(storage) == {1: b"x"}


@pytest.mark.ours
def test_voting_twice_is_refused_and_the_first_vote_stands(storage: Any) -> None:
    txn = begun(storage)
    storage.store(oid(1), NO_TID, b"x", "", txn)
    storage.tpc_vote(txn)
    with pytest.raises(StorageTransactionError):
        storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    assert current(storage) == {1: b"x"}


@pytest.mark.ours
def test_storing_after_the_vote_is_refused(storage: Any) -> None:
    txn = begun(storage)
    storage.tpc_vote(txn)
    with pytest.raises(StorageTransactionError):
        storage.store(oid(1), NO_TID, b"x", "", txn)
    storage.tpc_abort(txn)
    assert current(storage) == {}


def test_aborting_what_was_not_begun_does_nothing(storage: Any) -> None:
    txn = begun(storage)
    storage.tpc_abort(TransactionMetaData())
    storage.store(oid(1), NO_TID, b"x", "", txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    storage.tpc_abort(txn)
    assert current(storage) == {1: b"x"}


@pytest.mark.ours
@pytest.mark.parametrize("wrong", [1, None, "x" * 8, b"short", b"x" * 9])
def test_storing_under_what_is_no_oid_is_refused(storage: Any, wrong: Any) -> None:
    txn = begun(storage)
    with pytest.raises((TypeError, ValueError)):
        storage.store(wrong, NO_TID, b"x", "", txn)
    with pytest.raises((TypeError, ValueError)):
        storage.store(oid(1), "x" * 8, b"x", "", txn)
    with pytest.raises((TypeError, ValueError)):
        storage.store(oid(1), NO_TID, "text", "", txn)
    storage.store(oid(1), NO_TID, b"right", "", txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    assert current(storage) == {1: b"right"}


@pytest.mark.ours
def test_notes_too_long_for_the_file_are_refused_before_anything_is_written(storage: Any) -> None:
    size = storage.getSize()
    for notes in (
        {"user": "x" * 70_000},
        {"description": "x" * 70_000},
        {"extension": {"x": "x" * 70_000}},
    ):
        with pytest.raises(ValueError, match=r"\d"):
            commit(storage, {1: b"x"}, **notes)
    assert storage.getSize() == size
    commit(storage, {1: b"x"}, description="x" * 65_535)
    assert current(storage) == {1: b"x"}


# Conflicts.


def test_a_change_made_from_an_old_revision_is_a_conflict(storage: Any) -> None:
    old = commit(storage, {1: b"old", 2: b"other"})
    new = commit(storage, {1: b"new"})
    txn = begun(storage)
    found: Any = None
    try:
        storage.store(oid(1), old, b"mine", "", txn)
        storage.tpc_vote(txn)
    except TransientError as error:
        found = error
    assert type(found).__name__ == "ConflictError"
    assert (found.oid, found.serials) == (oid(1), (new, old))
    storage.tpc_abort(txn)
    assert current(storage) == {1: b"new", 2: b"other"}


@pytest.mark.ours
def test_of_two_that_change_one_object_the_second_to_vote_has_the_conflict(storage: Any) -> None:
    old = commit(storage, {1: b"old"})
    first, second = begun(storage), begun(storage)
    storage.store(oid(1), old, b"first", "", first)
    storage.store(oid(1), old, b"second", "", second)
    storage.tpc_vote(first)
    tid = storage.tpc_finish(first)
    with pytest.raises(ConflictError) as caught:
        storage.tpc_vote(second)
    assert caught.value.serials == (tid, old)
    storage.tpc_abort(second)
    assert current(storage) == {1: b"first"}


@pytest.mark.ours
def test_both_creating_one_object_is_a_conflict(storage: Any) -> None:
    first, second = begun(storage), begun(storage)
    storage.store(oid(1), NO_TID, b"first", "", first)
    storage.store(oid(1), NO_TID, b"second", "", second)
    storage.tpc_vote(first)
    storage.tpc_finish(first)
    with pytest.raises(ConflictError):
        storage.tpc_vote(second)
    storage.tpc_abort(second)


@pytest.mark.ours
def test_two_that_change_different_objects_both_commit(storage: Any) -> None:
    old = commit(storage, {1: b"a", 2: b"b"})
    first, second = begun(storage), begun(storage)
    storage.store(oid(1), old, b"first", "", first)
    storage.store(oid(2), old, b"second", "", second)
    storage.tpc_vote(first)
    storage.tpc_finish(first)
    storage.tpc_vote(second)
    assert storage.tpc_finish(second) == storage.lastTransaction()
    assert current(storage) == {1: b"first", 2: b"second"}


@pytest.mark.ours
def test_a_serial_from_the_future_is_a_conflict(storage: Any) -> None:
    commit(storage, {1: b"x"})
    txn = begun(storage)
    storage.store(oid(1), tid_of(1 << 62), b"y", "", txn)
    with pytest.raises(ConflictError):
        storage.tpc_vote(txn)
    storage.tpc_abort(txn)


def test_an_object_that_was_to_stay_current_and_did_is_no_conflict(storage: Any) -> None:
    tid = commit(storage, {1: b"a", 2: b"b"})
    txn = begun(storage)
    storage.checkCurrentSerialInTransaction(oid(1), tid, txn)
    storage.store(oid(2), tid, b"c", "", txn)
    storage.tpc_vote(txn)
    storage.tpc_finish(txn)
    assert current(storage) == {1: b"a", 2: b"c"}


@pytest.mark.ours
def test_an_object_that_was_to_stay_current_and_changed_is_a_read_conflict(storage: Any) -> None:
    tid = commit(storage, {1: b"a", 2: b"b"})
    txn = begun(storage)
    storage.checkCurrentSerialInTransaction(oid(1), tid, txn)
    storage.store(oid(2), tid, b"c", "", txn)
    new = commit(storage, {1: b"changed"})
    with pytest.raises(ReadConflictError) as caught:
        storage.tpc_vote(txn)
    assert (caught.value.oid, caught.value.serials) == (oid(1), (new, tid))
    storage.tpc_abort(txn)
    assert current(storage) == {1: b"changed", 2: b"b"}


# Deleting.


def test_a_deleted_object_is_gone_and_its_past_stays(storage: Any) -> None:
    tid = commit(storage, {1: b"x", 2: b"y"})
    commit(storage, {}, delete=[1])
    with pytest.raises(KeyError):
        storage.load(oid(1))
    assert storage.loadSerial(oid(1), tid) == b"x"
    assert storage.load(oid(2)) == (b"y", tid)


@pytest.mark.ours
def test_deleting_from_an_old_revision_is_a_conflict(storage: Any) -> None:
    old = commit(storage, {1: b"x"})
    commit(storage, {1: b"y"})
    txn = begun(storage)
    storage.deleteObject(oid(1), old, txn)
    with pytest.raises(ConflictError):
        storage.tpc_vote(txn)
    storage.tpc_abort(txn)
    assert current(storage) == {1: b"y"}


@pytest.mark.ours
def test_deleting_what_is_not_there_is_a_poskeyerror(storage: Any) -> None:
    txn = begun(storage)
    with pytest.raises(POSKeyError):
        storage.deleteObject(oid(1), NO_TID, txn)
    storage.tpc_abort(txn)


# Undoing.


@pytest.mark.ours
@pytest.mark.parametrize("wrong", [b"", b"no id", b"AAAAAAAAAAA=", "text", None])
def test_undoing_what_is_no_transaction_is_an_undoerror(storage: Any, wrong: Any) -> None:
    commit(storage, {1: b"x"})
    txn = begun(storage)
    with pytest.raises(UndoError):
        storage.undo(wrong, txn)
    storage.tpc_abort(txn)


# Two storages in one transaction.


def test_one_transaction_commits_to_two_storages(storage: Any, another: Any) -> None:
    txn = begun(storage)
    another.tpc_begin(txn)
    storage.store(oid(1), NO_TID, b"here", "", txn)
    another.store(oid(1), NO_TID, b"there", "", txn)
    for each in (storage, another):
        each.tpc_vote(txn)
    for each in (storage, another):
        each.tpc_finish(txn)
    assert (current(storage), current(another)) == ({1: b"here"}, {1: b"there"})


def test_one_transaction_aborts_in_two_storages(storage: Any, another: Any) -> None:
    txn = begun(storage)
    another.tpc_begin(txn)
    storage.store(oid(1), NO_TID, b"here", "", txn)
    another.store(oid(1), NO_TID, b"there", "", txn)
    storage.tpc_vote(txn)
    for each in (storage, another):
        each.tpc_abort(txn)
    assert (current(storage), current(another)) == ({}, {})
    commit(storage, {1: b"x"})
    commit(another, {1: b"y"})


# The rest of a storage's life.


@pytest.mark.ours
def test_a_closed_storage_says_so(storage: Any) -> None:
    commit(storage, {1: b"x"})
    storage.close()
    for use in (
        lambda: storage.load(oid(1)),
        storage.iterator,
        lambda: commit(storage, {2: b"y"}),
        lambda: serial_of(storage, oid(1)),
    ):
        with pytest.raises(Exception, match="closed"):
            use()
    storage.close()


@pytest.mark.ours
def test_closing_forgets_what_was_voted(storage: Any) -> None:
    txn = begun(storage)
    storage.store(oid(1), NO_TID, b"x", "", txn)
    storage.tpc_vote(txn)
    storage.close()
    storage.tpc_abort(txn)
