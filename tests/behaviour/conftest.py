"""Every test that asks for `db` (or `kind`) runs over every storage."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import transaction
from tests.behaviour.storages import STORAGES, StorageKind

import perdure

OpenDatabase = Callable[..., perdure.DB]


@pytest.fixture(params=STORAGES, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> StorageKind:
    """The kind of storage that the test runs over."""
    chosen: StorageKind = request.param
    return chosen


@pytest.fixture
def open_db(kind: StorageKind, tmp_path: Path) -> Iterator[OpenDatabase]:
    """A function that makes databases: its arguments are DB's, but for the storage.

    `file_name` tells which of several storages is meant.
    """
    opened: list[perdure.DB] = []
    with ExitStack() as stack:

        def open_one(file_name: str = "Data", **options: Any) -> perdure.DB:
            storage = stack.enter_context(kind.opened(tmp_path, file_name))
            database = perdure.DB(storage, **options)
            opened.append(database)
            return database

        yield open_one
        transaction.abort()
        for database in opened:
            database.close()


@pytest.fixture
def db(open_db: OpenDatabase) -> perdure.DB:
    """An empty database."""
    return open_db()


@pytest.fixture
def tm() -> Iterator[transaction.TransactionManager]:
    """A transaction manager of the test's own."""
    manager = transaction.TransactionManager()
    yield manager
    manager.abort()


@pytest.fixture
def conn(db: perdure.DB, tm: transaction.TransactionManager) -> perdure.Connection:
    """A connection to `db` that belongs to `tm`."""
    return db.open(tm)
