"""Readers and committers at the same time, in threads."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from tests.storing import begun, commit, oid, serial_of, tid_of

from perdure.errors import ConflictError
from perdure.ids import NO_TID, Tid

WAIT_S = 60
pytestmark = pytest.mark.ours


def run_together(*works: Callable[[], Any]) -> list[Any]:
    """Run functions in threads that start together; return what they return."""
    ready = threading.Barrier(len(works))

    def run(work: Callable[[], Any]) -> Any:
        ready.wait(WAIT_S)
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [each.result(WAIT_S) for each in [pool.submit(run, work) for work in works]]


def test_commits_of_many_threads_are_all_there(storage: Any) -> None:
    def work(thread: int) -> Callable[[], list[Tid]]:
        return lambda: [
            commit(storage, {thread * 100 + number: b"%d" % number}) for number in range(20)
        ]

    found = run_together(*[work(thread) for thread in range(8)])
    tids = sorted(tid for each in found for tid in each)
    assert len(set(tids)) == 160
    assert [txn.tid for txn in storage.iterator()] == tids
    for thread, each in enumerate(found):
        assert each == sorted(each)
        for number, tid in enumerate(each):
            assert storage.load(oid(thread * 100 + number)) == (b"%d" % number, tid)
    assert len(storage) == 160


def test_of_many_that_count_up_one_object_none_is_lost(storage: Any) -> None:
    commit(storage, {1: b"0"})

    def count_up() -> int:
        conflicts, done = 0, 0
        while done < 15:
            data, serial = storage.load(oid(1))
            txn = begun(storage)
            storage.store(oid(1), serial, b"%d" % (int(data) + 1), "", txn)
            try:
                storage.tpc_vote(txn)
            except ConflictError:
                storage.tpc_abort(txn)
                conflicts += 1
            else:
                storage.tpc_finish(txn)
                done += 1
        return conflicts

    run_together(*[count_up] * 6)
    assert storage.load(oid(1))[0] == b"90"
    assert [record.data for txn in storage.iterator() for record in txn] == [
        b"%d" % number for number in range(91)
    ]


def test_a_state_before_a_tid_never_changes_under_commits(storage: Any) -> None:
    keys = range(10)
    commit(storage, dict.fromkeys(keys, b"0"))
    done = threading.Event()

    def write() -> None:
        for number in range(1, 120):
            commit(storage, dict.fromkeys(keys, b"%d" % number))
        done.set()

    def read() -> int:
        looks = 0
        while not done.is_set() or not looks:
            last = storage.lastTransaction()
            before = tid_of(int.from_bytes(last, "big") + 1)
            found = [storage.loadBefore(oid(key), before) for key in keys]
            assert {serial for _, serial, _ in found} == {last}
            assert len({data for data, _, _ in found}) == 1
            looks += 1
        return looks

    assert all(run_together(write, read, read, read)[1:])


def test_what_was_told_to_be_last_is_there_to_be_loaded(storage: Any) -> None:
    commit(storage, {1: b"0"})
    done = threading.Event()

    def write() -> None:
        for number in range(1, 200):
            commit(storage, {1: b"%d" % number})
        done.set()

    def read() -> None:
        seen = NO_TID
        while not done.is_set():
            last = storage.lastTransaction()
            serial = storage.load(oid(1))[1]
            assert seen <= last <= serial
            seen = last

    run_together(write, read, read)


def test_readers_do_not_wait_for_a_transaction_that_is_voted(storage: Any) -> None:
    tid = commit(storage, {1: b"before"})
    txn = begun(storage)
    storage.store(oid(1), tid, b"after", "", txn)
    storage.tpc_vote(txn)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(storage.load, oid(1)).result(WAIT_S) == (b"before", tid)
        assert pool.submit(lambda: len(list(storage.iterator()))).result(WAIT_S) == 1
        assert pool.submit(serial_of, storage, oid(1)).result(WAIT_S) == tid
    storage.tpc_finish(txn)


def test_the_next_to_vote_waits_for_the_one_before(storage: Any) -> None:
    first = begun(storage)
    storage.store(oid(1), NO_TID, b"first", "", first)
    storage.tpc_vote(first)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(commit, storage, {2: b"second"})
        assert not second.done()
        tid = storage.tpc_finish(first)
        assert second.result(WAIT_S) > tid


def test_an_abort_lets_the_next_one_vote(storage: Any) -> None:
    first = begun(storage)
    storage.store(oid(1), NO_TID, b"first", "", first)
    storage.tpc_vote(first)
    with ThreadPoolExecutor(1) as pool:
        second = pool.submit(commit, storage, {1: b"second"})
        storage.tpc_abort(first)
        tid = second.result(WAIT_S)
    assert storage.load(oid(1)) == (b"second", tid)


def test_the_callback_comes_before_anybody_sees_the_transaction(storage: Any) -> None:
    commit(storage, {1: b"0"})
    announced: list[Tid] = []
    done = threading.Event()

    def write() -> None:
        for number in range(100):
            txn = begun(storage)
            storage.store(oid(1), serial_of(storage, oid(1)), b"%d" % number, "", txn)
            storage.tpc_vote(txn)
            storage.tpc_finish(txn, announced.append)
        done.set()

    def read() -> None:
        first = storage.lastTransaction()
        while not done.is_set():
            last = storage.lastTransaction()
            assert last == first or last in announced

    run_together(write, read)


def test_an_iteration_beside_commits_gives_whole_transactions(storage: Any) -> None:
    done = threading.Event()

    def write() -> None:
        for number in range(100):
            commit(storage, dict.fromkeys(range(5), b"%d" % number))
        done.set()

    def iterate() -> None:
        while not done.is_set():
            for txn in storage.iterator():
                assert len({record.data for record in txn}) == 1

    run_together(write, iterate, iterate)
    assert len(list(storage.iterator())) == 100


def test_oids_given_out_to_threads_are_all_different(storage: Any) -> None:
    found = run_together(*[lambda: [storage.new_oid() for _ in range(500)]] * 8)
    assert len({each for some in found for each in some}) == 4000


def test_a_thread_that_dies_with_a_transaction_begun_holds_nobody_up(storage: Any) -> None:
    def begin_and_leave() -> None:
        txn = begun(storage)
        storage.store(oid(1), NO_TID, b"left", "", txn)

    thread = threading.Thread(target=begin_and_leave)
    thread.start()
    thread.join(WAIT_S)
    commit(storage, {1: b"x"})
    assert storage.load(oid(1))[0] == b"x"
