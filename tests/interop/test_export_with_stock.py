"""Export files pass between stock ZODB and perdure, both ways."""

import io
from pathlib import Path
from typing import Any

import transaction
import ZODB
from BTrees.OOBTree import OOBTree
from persistent.mapping import PersistentMapping
from ZODB.MappingStorage import MappingStorage as StockMappingStorage

import perdure
from perdure.ids import Oid

DATA = Path(__file__).parents[1] / "data"


def filled(db: Any) -> Any:
    conn = db.open()
    tree = OOBTree({f"key {number}": PersistentMapping(n=number) for number in range(100)})
    tree["self"] = tree
    conn.root()["tree"] = tree
    transaction.commit()
    return conn


def check(tree: Any) -> None:
    assert tree["self"] is tree
    assert [tree[f"key {number}"]["n"] for number in range(100)] == list(range(100))


def passed(source: Any, target: Any) -> None:
    conn = filled(source)
    file = io.BytesIO()
    conn.exportFile(conn.root()["tree"]._p_oid, file)
    conn.close()
    file.seek(0)
    conn = target.open()
    conn.root()["imported"] = conn.importFile(file)
    transaction.commit()
    conn.cacheMinimize()
    check(conn.root()["imported"])
    conn.close()


def test_stock_reads_what_perdure_exports() -> None:
    source, target = perdure.DB(None), ZODB.DB(StockMappingStorage())
    passed(source, target)
    source.close()
    target.close()


def test_perdure_reads_what_stock_exports() -> None:
    source, target = ZODB.DB(StockMappingStorage()), perdure.DB(None)
    passed(source, target)
    source.close()
    target.close()


def test_both_export_the_same_bytes(tmp_path: Path) -> None:
    from ZODB.FileStorage import FileStorage

    path = tmp_path / "Data.fs"
    path.write_bytes((DATA / "basic.fs").read_bytes())
    files = []
    for database in (
        perdure.DB(perdure.FileStorage(str(path), read_only=True)),
        ZODB.DB(FileStorage(str(path), read_only=True)),
    ):
        conn = database.open()
        file = io.BytesIO()
        conn.exportFile(Oid(b"\0" * 7 + b"\x01"), file)
        files.append(file.getvalue())
        conn.close()
        database.close()
    assert files[0] == files[1]


def test_the_sample_export_file_is_read() -> None:
    db = perdure.DB(None)
    with db.transaction() as conn:
        conn.root.imported = conn.importFile(str(DATA / "books.zexp"))
    conn = db.open()
    count = len(list(db.storage.iterator()))
    assert count == 2
    assert conn.root.imported is not None
    transaction.abort()
    conn.close()
    db.close()
