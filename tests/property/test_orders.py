"""The pool of connections, and the log of changes, by threads in all orders (`make races`)."""

import os
from collections.abc import Callable, Sequence

import pytest
import transaction
from tests.campaign import report
from tests.property.orders import in_all_orders

import perdure
from perdure import invalidations
from perdure.connection import group
from perdure.db import database, pool, shared
from perdure.ids import Oid, Tid
from perdure.invalidations import InvalidationLog

MORE = int(bool(os.environ.get("PERDURE_RACES")))
POOL = [pool, shared, database, group]

Scenario = tuple[Sequence[Callable[[], object]], Callable[[], object]]


class Users:
    """Threads that open a connection, look at something, and close it."""

    def __init__(self, db: perdure.DB) -> None:
        self.db = db
        self.in_use: set[int] = set()

    def open_and_close(self) -> None:
        connection = self.db.open(transaction.TransactionManager())
        assert id(connection) not in self.in_use, "a connection was lent twice"
        self.in_use.add(id(connection))
        assert connection.root()["value"] == 1
        self.in_use.remove(id(connection))
        connection.close()

    def check(self) -> None:
        idle = [connection for _, connection in self.db.pool.available]
        assert len({id(connection) for connection in idle}) == len(idle), "twice in the pool"
        assert set(idle) == set(self.db.pool.all), "in use, though all were closed"
        assert len(idle) <= self.db.getPoolSize()
        self.db.close()


def _database(pool_size: int) -> perdure.DB:
    db = perdure.DB(None, pool_size=pool_size)
    with db.transaction() as connection:
        connection.root()["value"] = 1
    return db


@pytest.mark.parametrize(("threads", "pool_size"), [(2, 1), (2, 3), (3, 2)])
@pytest.mark.filterwarnings("ignore")
def test_no_connection_is_lent_twice_or_lost(
    pool_size: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scenario() -> Scenario:
        users = Users(_database(pool_size))
        return [users.open_and_close] * threads, users.check

    bound = MORE + (threads == 2)
    count = in_all_orders(scenario, POOL, bound, monkeypatch)
    report("orders of the pool", threads=threads, pool_size=pool_size, bound=bound, orders=count)
    assert count >= 6


def test_who_reads_the_log_of_changes_beside_writers_misses_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def scenario() -> Scenario:
        log = InvalidationLog()
        seen: list[Oid] = []
        position = log.end

        def write(number: int) -> None:
            oid = Oid(bytes(7) + bytes([number]))
            log.append(Tid(oid), [oid])

        def read() -> None:
            nonlocal position
            for _ in range(2):
                news = log.since(position, "a reader")
                assert news.changed is not None
                seen.extend(news.changed)
                position = news.position

        def check() -> None:
            read()
            assert sorted(seen) == [Oid(bytes(7) + bytes([number])) for number in (1, 2)]

        return [lambda: write(1), lambda: write(2), read], check

    count = in_all_orders(scenario, [invalidations], 2 + MORE, monkeypatch)
    report("orders of the log", bound=2 + MORE, orders=count)
    assert count > 50
