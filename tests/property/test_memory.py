"""Memory stays flat: over opens, loads, aborts and savepoints, a million of them in `make soak`."""

import gc
import resource
from pathlib import Path

import transaction
from persistent.mapping import PersistentMapping
from tests.campaign import CAMPAIGN, report

import perdure

ROUNDS = 5_000 * CAMPAIGN
GROWTH_BYTES_MAX = 4 << 20


def _memory_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def test_memory_is_flat_over_opens_loads_aborts_and_savepoints(tmp_path: Path) -> None:
    database = perdure.DB(str(tmp_path / "Data.fs"), cache_size=50)
    with database.transaction() as connection:
        for number in range(200):
            connection.root()[number] = PersistentMapping(value=number)
    _work(database, 1_000)
    before = _memory_bytes()
    _work(database, ROUNDS)
    grown = _memory_bytes() - before
    database.close()
    report("memory", rounds=ROUNDS, grown_bytes=grown)
    assert grown < GROWTH_BYTES_MAX


def _work(database: perdure.DB, rounds: int) -> None:
    """Open, load, change, take a savepoint, abort, close."""
    for number in range(rounds):
        connection = database.open(transaction.TransactionManager())
        cell = connection.root()[number % 200]
        assert cell["value"] == number % 200
        cell["value"] = -1
        connection.transaction_manager.savepoint()
        connection.transaction_manager.abort()
        connection.close()
