"""Members of a collection whose process died, opened by stock ZODB first."""

from contextlib import closing
from pathlib import Path

import pytest
import transaction
import ZODB
from tests.interop.programs import run
from ZODB.FileStorage import FileStorage as StockFileStorage

import perdure

PROGRAM = """
import os, sys, transaction, perdure
collection = perdure.Collection({"a": sys.argv[1], "b": sys.argv[2]})
connection = collection.open()
connection.root()["x"] = connection.get_connection("b").root()["x"] = 1
transaction.commit()
os._exit(0)
"""


@pytest.mark.parametrize("member", ["a.fs", "b.fs"])
def test_stock_opens_what_a_killed_process_committed_jointly(member: str, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("a.fs", "b.fs")]
    assert run("-c", PROGRAM, *paths, directory=tmp_path).returncode == 0
    with closing(perdure.FileStorage(str(tmp_path / member), read_only=True)) as ours:
        last = ours.lastTransaction()
    stock = ZODB.DB(StockFileStorage(str(tmp_path / member)))
    assert stock.lastTransaction() == last
    connection = stock.open()
    assert connection.root()["x"] == 1
    connection.root()["y"] = 2
    transaction.commit()
    connection.close()
    stock.close()
    with perdure.DB(str(tmp_path / member)) as database:
        assert dict(database.open().root()) == {"x": 1, "y": 2}
