"""Walking over the transactions of a storage."""

from typing import Any

import pytest
from tests.storing import commit, oid, tid_of, undo

from perdure.connection import TransactionMetaData
from perdure.ids import NO_TID, Tid


def tids(transactions: Any) -> list[Tid]:
    found = [txn.tid for txn in transactions]
    transactions.close()
    return found


def test_transactions_come_in_the_order_of_their_tids_with_all_they_carry(storage: Any) -> None:
    first = commit(storage, {1: b"a", 0: b"b"}, user="ada", description="made")
    second = commit(storage, {1: b"c"}, user="größe", extension={"kind": "import", "count": 2})
    one, two = [(txn, list(txn)) for txn in storage.iterator()]
    assert (one[0].tid, one[0].user, one[0].description) == (first, b"ada", b"made")
    assert [(record.oid, record.tid, record.data) for record in one[1]] == [
        (oid(1), first, b"a"),
        (oid(0), first, b"b"),
    ]
    assert (two[0].tid, two[0].user) == (second, "größe".encode())
    assert two[0].extension == {"kind": "import", "count": 2}
    assert one[0].extension == {}
    assert {one[0].status, two[0].status} == {" "}
    assert [record.data_txn for record in (*one[1], *two[1])] == [None] * 3


def test_the_records_of_a_transaction_can_be_gone_through_twice(storage: Any) -> None:
    commit(storage, {1: b"a", 2: b"b"})
    commit(storage, {1: b"c"})
    for transaction in storage.iterator():
        found = [(record.oid, record.data) for record in transaction]
        assert found
        assert [(record.oid, record.data) for record in transaction] == found


def test_an_annotation_that_is_another_kind_of_dictionary_is_read(storage: Any) -> None:
    class Annotations(dict[str, int]):
        def __reduce__(self) -> Any:
            return dict, (tuple(self.items()),)

    commit(storage, {1: b"a"}, extension=Annotations(count=2))
    (transaction,) = storage.iterator()
    assert transaction.extension == {"count": 2}


def test_user_and_description_may_be_text(storage: Any) -> None:
    meta = TransactionMetaData()
    meta.user, meta.description = "ada", "why"  # type: ignore[assignment]
    storage.tpc_begin(meta)
    storage.tpc_vote(meta)
    storage.tpc_finish(meta)
    (transaction,) = storage.iterator()
    assert (transaction.user, transaction.description) == (b"ada", b"why")


def test_a_transaction_without_records_is_a_transaction(storage: Any) -> None:
    tid = commit(storage, {}, description="nothing")
    assert [(txn.tid, txn.description, list(txn)) for txn in storage.iterator()] == [
        (tid, b"nothing", [])
    ]


def test_a_part_is_bounded_by_its_first_and_last_transaction(storage: Any) -> None:
    all_tids = [commit(storage, {number: b"x"}) for number in range(6)]
    before_third = tid_of(int.from_bytes(all_tids[2], "big") - 1)
    assert tids(storage.iterator()) == all_tids
    assert tids(storage.iterator(all_tids[2])) == all_tids[2:]
    assert tids(storage.iterator(before_third)) == all_tids[2:]
    assert tids(storage.iterator(None, all_tids[2])) == all_tids[:3]
    assert tids(storage.iterator(None, before_third)) == all_tids[:2]
    assert tids(storage.iterator(all_tids[1], all_tids[3])) == all_tids[1:4]
    assert tids(storage.iterator(all_tids[3], all_tids[1])) == []
    assert tids(storage.iterator(NO_TID, NO_TID)) == []
    assert tids(storage.iterator(tid_of(int.from_bytes(all_tids[-1], "big") + 1))) == []


@pytest.mark.shares
def test_what_was_undone_names_the_transaction_that_its_data_are_from(storage: Any) -> None:
    first = commit(storage, {1: b"first"})
    second = commit(storage, {1: b"second"})
    undo(storage, second)
    *_, last = [list(txn) for txn in storage.iterator()]
    assert [(record.data, record.data_txn) for record in last] == [(b"first", first)]


def test_an_undone_creation_is_a_record_without_data(storage: Any) -> None:
    commit(storage, {0: b"root"})
    undo(storage, commit(storage, {1: b"x"}))
    *_, last = [list(txn) for txn in storage.iterator()]
    assert [(record.oid, record.data) for record in last] == [(oid(1), None)]


def test_an_iteration_shows_what_was_there_when_it_began(storage: Any) -> None:
    first = commit(storage, {1: b"x"})
    transactions = storage.iterator()
    assert next(transactions).tid == first
    with pytest.raises(StopIteration):
        next(transactions)


@pytest.mark.ours
def test_transactions_committed_meanwhile_do_not_come(storage: Any) -> None:
    expected = [commit(storage, {number: b"x"}) for number in range(3)]
    transactions = storage.iterator()
    found = [next(transactions).tid]
    commit(storage, {9: b"later"})
    found.extend(txn.tid for txn in transactions)
    assert found == expected


@pytest.mark.ours
def test_a_transaction_that_is_only_voted_does_not_come(storage: Any) -> None:
    from tests.storing import begun

    expected = [commit(storage, {1: b"x"})]
    txn = begun(storage)
    storage.store(oid(2), NO_TID, b"voted", "", txn)
    storage.tpc_vote(txn)
    assert tids(storage.iterator()) == expected
    storage.tpc_abort(txn)
    assert tids(storage.iterator()) == expected


def test_several_iterations_run_side_by_side(storage: Any) -> None:
    expected = [commit(storage, {number: b"x"}) for number in range(5)]
    pairs = [
        (one.tid, two.tid) for one, two in zip(storage.iterator(), storage.iterator(), strict=True)
    ]
    assert pairs == [(tid, tid) for tid in expected]


def test_records_can_be_read_after_the_iteration_went_on(storage: Any) -> None:
    for number in range(3):
        commit(storage, {number: b"%d" % number})
    transactions = storage.iterator()
    kept = [next(transactions) for _ in range(3)]
    assert [[record.data for record in txn] for txn in reversed(kept)] == [[b"2"], [b"1"], [b"0"]]
    transactions.close()


@pytest.mark.ours
def test_records_of_a_transaction_can_be_read_twice(storage: Any) -> None:
    commit(storage, {1: b"a", 2: b"b"})
    (txn,) = storage.iterator()
    assert [record.data for record in txn] == [b"a", b"b"]


def test_a_closed_iteration_is_at_its_end(storage: Any) -> None:
    commit(storage, {1: b"x"})
    transactions = storage.iterator()
    transactions.close()
    assert list(transactions) == []


@pytest.mark.ours
def test_a_long_iteration_gives_every_record_once(storage: Any) -> None:
    data = {number: b"%d" % number * 50 for number in range(3000)}
    commit(storage, data)
    for number in range(20):
        commit(storage, {number: b"again"})
    records = [record for txn in storage.iterator() for record in txn]
    assert len(records) == 3020
    assert {int.from_bytes(record.oid, "big"): record.data for record in records[:3000]} == data


@pytest.mark.ours
@pytest.mark.parametrize("wrong", [1, "x" * 8, b"short", b"x" * 9])
def test_what_is_no_tid_is_refused(storage: Any, wrong: Any) -> None:
    commit(storage, {1: b"x"})
    with pytest.raises((TypeError, ValueError)):
        storage.iterator(wrong)
    with pytest.raises((TypeError, ValueError)):
        storage.iterator(None, wrong)
