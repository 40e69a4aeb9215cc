"""Many threads at a time: what each of them sees is whole."""

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import transaction
from BTrees.OOBTree import OOBTree
from tests.behaviour.conftest import OpenDatabase
from tests.behaviour.models import Account, Counter

import perdure
from perdure import errors

ACCOUNTS = 6
TRANSFERS = 15


def run_threads(*jobs: Callable[[], None]) -> None:
    """Run *jobs* at the same time, and raise what the first to fail raises."""
    failures: list[BaseException] = []

    def run(job: Callable[[], None]) -> None:
        try:
            job()
        except BaseException as error:  # noqa: BLE001 - whatever fails the thread fails the test
            failures.append(error)

    threads = [threading.Thread(target=run, args=(job,)) for job in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def transfers(db: perdure.DB, seed: int) -> Callable[[], None]:
    """Move money about; every look at the accounts finds the same sum."""
    chosen = random.Random(seed)

    def job() -> None:
        tm = transaction.TransactionManager()
        conn = db.open(tm)
        done = 0
        while done < TRANSFERS:
            giver, taker = chosen.sample(range(ACCOUNTS), 2)
            try:
                with tm:
                    accounts = conn.root.accounts
                    assert sum(account.balance for account in accounts.values()) == 0
                    accounts[giver].balance -= 1
                    accounts[taker].balance += 1
                done += 1
            except errors.ConflictError:
                conn.cacheMinimize()
        conn.close()

    return job


def test_no_thread_sees_half_a_transaction(db: perdure.DB) -> None:
    with db.transaction() as conn:
        conn.root.accounts = OOBTree({number: Account() for number in range(ACCOUNTS)})
    run_threads(*(transfers(db, seed) for seed in range(3)))
    with db.transaction() as conn:
        balances = [account.balance for account in conn.root.accounts.values()]
    assert sum(balances) == 0
    assert len(db.pool.available) <= 4


def test_no_increment_is_lost(db: perdure.DB, kind: Any) -> None:
    with db.transaction() as conn:
        conn.root.counter = Counter()

    def job() -> None:
        tm = transaction.TransactionManager()
        conn = db.open(tm)
        for _ in range(20):
            for attempt in tm.attempts(1000):
                with attempt:
                    conn.root.counter.increase()
        conn.close()

    run_threads(job, job, job)
    with db.transaction() as conn:
        assert conn.root.counter.value == 60


def test_no_thread_sees_half_a_transaction_of_two_members(open_db: OpenDatabase, kind: Any) -> None:
    if not kind.name.startswith("perdure-") or kind.name not in {"perdure-file", "perdure-mapping"}:
        pytest.skip("one snapshot of several members is for storages of perdure's own")
    databases: dict[str, Any] = {}
    one = open_db("One", database_name="one", databases=databases)
    open_db("Two", database_name="two", databases=databases)
    with one.transaction() as conn:
        conn.root.counter = Counter()
        conn.get_connection("two").root.counter = Counter()

    def write() -> None:
        tm = transaction.TransactionManager()
        conn = one.open(tm)
        other = conn.get_connection("two")
        for _ in range(40):
            for attempt in tm.attempts(1000):
                with attempt:
                    conn.root.counter.increase()
                    other.root.counter.increase()
        conn.close()

    def read() -> None:
        tm = transaction.TransactionManager()
        conn = databases["two"].open(tm)
        for _ in range(200):
            tm.begin()
            assert conn.root.counter.value == conn.get_connection("one").root.counter.value
        tm.abort()
        conn.close()

    run_threads(write, write, read, read)
    with one.transaction() as conn:
        assert conn.root.counter.value == 80
        assert conn.get_connection("two").root.counter.value == 80
