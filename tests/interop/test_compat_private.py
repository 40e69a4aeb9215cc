"""What code written for ZODB uses beyond the documented API."""

from pathlib import Path

from tests.interop.programs import run_code


def lines(code: str, directory: Path) -> list[str]:
    """What *code* prints under the alias; stock ZODB prints the same."""
    ours = run_code(code, alias=True, directory=directory)
    (directory / "Data.fs").unlink(missing_ok=True)
    assert ours == run_code(code, alias=False, directory=directory)
    return ours.split("\n")


def test_attributes_of_databases_and_connections(tmp_path: Path) -> None:
    code = """
        import ZODB, transaction
        db = ZODB.DB("Data.fs")
        db.note = "mine"
        conn = db.open()
        conn.root.x = 1
        transaction.commit()
        print(db._storage is db.storage, db.note, len(list(db.pool)))
        db._mvcc_storage.invalidateCache()
        transaction.begin()
        print(conn.root.x, conn.root._root is conn.root(), conn.explicit_transactions)
        print(conn._cache.get(bytes(8)) is conn.root(), type(conn._cache).__name__)
        data, serial = conn._storage.load(bytes(8))
        print(conn._reader.getState(data), callable(conn._reader._factory))
        print(conn.getTransferCounts(True) != (0, 0), conn.getTransferCounts())
        conn.close()
        db.close()
    """
    assert lines(code, tmp_path)[:2] == ["True mine 1", "1 True False"]


def test_attributes_of_storages(tmp_path: Path) -> None:
    code = """
        import ZODB, transaction
        from ZODB.utils import p64
        db = ZODB.DB("Data.fs")
        with db.transaction() as conn:
            conn.root.x = 1
        storage = db.storage
        print(storage._file.name.endswith("Data.fs"), storage._pos == storage.getSize())
        print(list(storage._index) == [bytes(8)], storage._index[bytes(8)] > 4)
        print(storage._oid == p64(0))
        db.close()
        from ZODB.DemoStorage import DemoStorage
        demo = DemoStorage()
        oid = demo.new_oid()
        print(demo._issued_oids == {oid})
        from ZODB.Connection import TransactionMetaData
        import warnings
        warnings.simplefilter("ignore")
        print(TransactionMetaData(extension={"a": 1})._extension)
        import ZODB.ConflictResolution, ZODB.serialize
        ZODB.ConflictResolution._class_cache.clear()
        ZODB.ConflictResolution._unresolvable.clear()
        print(ZODB.serialize._protocol)
    """
    assert lines(code, tmp_path)[-1] == "3"


def test_a_method_that_was_replaced_on_an_instance_is_the_one_called(tmp_path: Path) -> None:
    code = """
        import ZODB, transaction
        db = ZODB.DB("Data.fs")
        conn = db.open()
        called = []
        store = conn._storage.store
        def noting(*args):
            called.append("store")
            return store(*args)
        conn._storage.store = noting
        conn.root.x = 1
        transaction.commit()
        load = conn._storage.load
        def reading(*args):
            called.append("load")
            return load(*args)
        conn._storage.load = reading
        conn.cacheMinimize()
        print(conn.root.x, called)
        conn.close()
        db.close()
    """
    assert lines(code, tmp_path) == ["1 ['store', 'load', 'load']"]


def test_marker_interfaces_can_be_put_on_databases(tmp_path: Path) -> None:
    code = """
        import ZODB, ZODB.interfaces
        from zope.interface import Interface, alsoProvides
        class IMine(Interface):
            pass
        db = ZODB.DB(None)
        alsoProvides(db, IMine)
        print(IMine.providedBy(db), ZODB.interfaces.IDatabase.providedBy(db))
        db.close()
    """
    assert lines(code, tmp_path) == ["True True"]


def test_a_patched_clock_is_the_one_that_counts(tmp_path: Path) -> None:
    code = """
        import time
        real = time.time
        time.time = lambda: 1_000_000_000.25
        import ZODB
        from ZODB.TimeStamp import TimeStamp
        db = ZODB.DB("Data.fs")
        print(TimeStamp(db.lastTransaction()))
        db.close()
    """
    assert lines(code, tmp_path)[0].startswith("2001-09-09 01:46:40.25")


def test_a_storage_derives_from_base_storage_and_verifies_reads(tmp_path: Path) -> None:
    code = """
        import ZODB, ZODB.BaseStorage, ZODB.POSException, transaction
        from ZODB.utils import z64

        class Storage(ZODB.BaseStorage.BaseStorage):
            def __init__(self):
                self.calls, self.records, self.pending, self._ltid = [], {}, {}, z64
                ZODB.BaseStorage.BaseStorage.__init__(self, "mine")

            def load(self, oid, version=""):
                with self._lock:
                    if oid not in self.records:
                        raise ZODB.POSException.POSKeyError(oid)
                    return self.records[oid]

            def loadBefore(self, oid, tid):
                data, serial = self.load(oid)
                return (data, serial, None) if serial < tid else None

            def store(self, oid, serial, data, version, transaction):
                if transaction is not self._transaction:
                    raise ZODB.POSException.StorageTransactionError(self, transaction)
                self.pending[oid] = data, self._tid
                self._oid = max(self._oid, oid)

            def _begin(self, tid, u, d, e):
                self.calls.append("begin")

            def _vote(self):
                self.calls.append("vote")

            def _finish(self, tid, u, d, e):
                self.calls.append("finish")
                self.records.update(self.pending)
                self._ltid = self._tid

            def _abort(self):
                self.calls.append("abort")

            def _clear_temp(self):
                self.pending = {}

            def close(self):
                self.calls.append("close")

        storage = Storage()
        db = ZODB.DB(storage)
        conn = db.open()
        del storage.calls[:]
        conn.root.x = 1
        transaction.commit()
        print(storage.calls, conn.root.x, storage.getName(), len(storage.records))
        conn.root.x = 2
        transaction.abort()
        print(conn.root.x, storage.lastTransaction() == storage.records[bytes(8)][1])
        root = conn.root()
        for value, other_commits in ((3, False), (4, True)):
            conn.readCurrent(root)
            conn.add(type(root)(value=value))
            if other_commits:
                with db.transaction() as other:
                    other.root.x = 5
            try:
                transaction.commit()
            except ZODB.POSException.ReadConflictError as error:
                transaction.abort()
                print("conflict", error.oid)
        print(len(storage.records), root["x"])
        conn.close()
        db.close()
    """
    assert lines(code, tmp_path) == [
        "['begin', 'vote', 'finish'] 1 mine 1",
        "1 True",
        f"conflict {bytes(8)!r}",
        "2 5",
    ]


def test_errors_of_the_application_pass_through_and_leave_the_database_usable(
    tmp_path: Path,
) -> None:
    code = """
        import ZODB, transaction
        db = ZODB.DB("Data.fs")
        conn = db.open()
        class Refusing:
            def __reduce__(self):
                raise RuntimeError("mine")
        conn.root.x = Refusing()
        try:
            transaction.commit()
        except Exception as error:
            found = error
            while found.__cause__ is not None and not isinstance(found, RuntimeError):
                found = found.__cause__
            print(isinstance(found, RuntimeError) and found.args)
        transaction.abort()
        conn.root.y = 1
        transaction.commit()
        print(sorted(conn.root()))
        conn.close()
        db.close()
    """
    assert lines(code, tmp_path) == ["('mine',)", "['y']"]
