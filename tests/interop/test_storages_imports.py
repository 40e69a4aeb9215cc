"""perdure and stock ZODB in one process, whichever is imported first."""

import textwrap
from pathlib import Path

import pytest
from tests.interop.programs import run_code

PERDURE = "import perdure, perdure.errors, perdure.interfaces"
STOCK = "import ZODB, ZODB.FileStorage, ZODB.POSException, ZODB.interfaces"
ORDERS = {"perdure first": (PERDURE, STOCK), "stock first": (STOCK, PERDURE)}


@pytest.fixture(params=list(ORDERS))
def imports(request: pytest.FixtureRequest) -> str:
    """The imports, in one order."""
    return "\n".join(ORDERS[request.param])


def run_after(imports: str, code: str, directory: Path) -> str:
    return run_code(imports + "\n" + textwrap.dedent(code), directory=directory)


def test_perdure_alone_never_imports_stock(tmp_path: Path) -> None:
    code = """
        import sys
        import perdure, perdure.config, perdure.compat, perdure.storage.file
        db = perdure.DB("data.fs")
        with db.transaction() as connection:
            connection.root()["a"] = perdure.PersistentMapping()
        db.close()
        try:
            perdure.FileStorage("data.fs", read_only=True).load(bytes(7) + b"x")
        except KeyError as error:
            assert type(error) is perdure.errors.POSKeyError, type(error)
        print(sorted(name for name in sys.modules if name.split(".")[0] in {"ZODB", "ZEO"}))
    """
    assert run_code(code, directory=tmp_path) == "[]"


def test_stocks_except_clauses_catch_what_perdures_storages_raise(
    imports: str, tmp_path: Path
) -> None:
    code = """
        storage = perdure.FileStorage("data.fs")
        try:
            storage.load(bytes(8))
        except ZODB.POSException.POSKeyError as error:
            assert isinstance(error, perdure.errors.POSKeyError)
            print("caught")
        storage.close()
    """
    assert run_after(imports, code, tmp_path) == "caught"


def test_perdures_except_clauses_catch_what_stocks_storages_raise_below_perdure(
    imports: str, tmp_path: Path
) -> None:
    code = """
        import transaction
        db = perdure.DB(ZODB.FileStorage.FileStorage("data.fs"))
        one, two = transaction.TransactionManager(), transaction.TransactionManager()
        db.open(one).root()["a"] = 1
        db.open(two).root()["a"] = 2
        one.commit()
        try:
            two.commit()
        except perdure.errors.ConflictError as error:
            assert isinstance(error, ZODB.POSException.ConflictError)
            print("caught", error.oid)
        two.abort()
        try:
            db.open(one).get(bytes(7) + b"x")
        except perdure.errors.POSKeyError as error:
            assert isinstance(error, ZODB.POSException.POSKeyError)
            print("caught", error.args[0])
        one.abort()
        db.close()
    """
    expected = f"caught {bytes(8)!r}\ncaught {bytes(7) + b'x'!r}"
    assert run_after(imports, code, tmp_path) == expected


def test_each_recognises_the_others_storages(imports: str, tmp_path: Path) -> None:
    code = """
        ours, theirs = perdure.FileStorage("ours.fs"), ZODB.FileStorage.FileStorage("theirs.fs")
        for interface in ("IStorage", "IStorageUndoable", "IStorageIteration"):
            assert getattr(ZODB.interfaces, interface).providedBy(ours), interface
            assert getattr(perdure.interfaces, interface).providedBy(ours), interface
        stock, own = ZODB.DB(ours), perdure.DB(theirs)
        assert stock.supportsUndo() and own.supportsUndo()
        assert ZODB.interfaces.IDatabase.providedBy(own)
        assert ZODB.interfaces.IConnection.providedBy(own.open())
        stock.close()
        own.close()
        print("recognised")
    """
    assert run_after(imports, code, tmp_path) == "recognised"
