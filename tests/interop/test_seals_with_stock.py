"""Transactions that perdure sealed, read, packed and continued by stock ZODB."""

from pathlib import Path

import transaction
import ZODB
from ZODB.FileStorage import FileStorage as StockFileStorage

import perdure

SEAL_BYTES = 36


def _write(path: Path) -> None:
    with perdure.DB(str(path)) as database:
        connection = database.open()
        for number in range(3):
            connection.root()[number] = number
            with_extension = transaction.get()
            with_extension.note(f"number {number}")
            if number:
                with_extension.setExtendedInfo("reason", number)
            transaction.commit()
        connection.close()


def test_stock_sees_the_extension_that_was_given(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    _write(path)
    stock = StockFileStorage(str(path))
    found = list(stock.iterator())
    assert [each.extension for each in found] == [{}, {}, {"reason": 1}, {"reason": 2}]
    assert all(len(each.extension_bytes) > SEAL_BYTES for each in found)
    assert [each.get("reason") for each in stock.undoLog()] == [2, 1, None, None]
    assert [each.get("reason") for each in stock.history(bytes(8), 4)] == [2, 1, None, None]
    stock.close()


def test_what_stock_undid_and_packed_opens_and_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    _write(path)
    stock = ZODB.DB(StockFileStorage(str(path)))
    stock.undo(stock.undoLog(0, 1)[0]["id"])
    transaction.commit()
    stock.pack()
    stock.close()
    with perdure.DB(str(path)) as database, database.transaction() as connection:
        assert dict(connection.root()) == {0: 0, 1: 1}
        connection.root()["more"] = True
    stock = ZODB.DB(StockFileStorage(str(path)))
    connection = stock.open()
    assert dict(connection.root()) == {0: 0, 1: 1, "more": True}
    connection.close()
    stock.close()


def test_a_reused_extension_gets_a_seal_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "data.fs"
    _write(path)
    with perdure.DB(str(path)) as database:
        *_, last = database.storage.iterator()
        connection = database.open()
        connection.root()["again"] = True
        transaction.get().extension = dict(last.extension)
        transaction.commit()
        *_, again = database.storage.iterator()
        assert again.extension == last.extension
        assert len(again.extension_bytes) == len(last.extension_bytes)
        assert again.extension_bytes != last.extension_bytes
