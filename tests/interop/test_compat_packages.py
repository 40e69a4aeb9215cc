"""Packages written for ZODB, unchanged and as a user runs them, on perdure."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.interop.programs import TIMEOUT_S, checked, run, run_code

from perdure.compat import ENVIRONMENT_NAME

BUILD = """
    import time, transaction, ZODB.config
    from persistent.mapping import PersistentMapping
    from BTrees.OOBTree import OOBTree

    real_time = time.time
    time.time = lambda: real_time() - 7200
"""


def lines(code: str, directory: Path, *, alias: bool = True) -> list[str]:
    return run_code(code, alias=alias, directory=directory).split("\n")


# ZEO


@pytest.fixture
def zeo_port(tmp_path: Path) -> Iterator[int]:
    """The port of a ZEO server, a process of its own with perdure's file storage."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    (tmp_path / "zeo.conf").write_text(
        f"<zeo>\naddress 127.0.0.1:{port}\n</zeo>\n<filestorage 1>\npath served.fs\n</filestorage>\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "ZEO.runzeo", "-C", "zeo.conf"],
        cwd=tmp_path,
        env={**os.environ, ENVIRONMENT_NAME: "1"},
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        for line in server.stderr:
            if "listening on" in line:
                break
        yield port
        server.send_signal(signal.SIGTERM)
        server.stderr.read()
        server.wait(TIMEOUT_S)


ZEO_CLIENT = """
    import transaction, ZEO, ZODB.POSException
    from BTrees.OOBTree import OOBTree
    from persistent.mapping import PersistentMapping

    one, two = (ZEO.DB(("127.0.0.1", {port}), wait_timeout=30) for _ in range(2))
    first, second = transaction.TransactionManager(), transaction.TransactionManager()
    mine, yours = one.open(first), two.open(second)
    mine.root.tree = OOBTree({{n: str(n) for n in range(1000)}})
    mine.root.plain = PersistentMapping()
    first.commit()
    yours.sync()
    while "plain" not in yours.root():
        yours.sync()
    print(len(yours.root.tree))

    mine.root.plain["a"] = yours.root.plain["a"] = 1
    first.commit()
    try:
        second.commit()
    except ZODB.POSException.ConflictError as error:
        print(type(error).__module__, type(error).__name__, error.oid == mine.root.plain._p_oid)
    second.abort()

    mine.root.tree[5000] = yours.root.tree[9000] = "merged"
    first.commit()
    second.commit()
    while 9000 not in mine.root.tree:
        mine.sync()
    print(mine.root.tree[5000], mine.root.tree[9000])

    try:
        mine.get(b"\\0\\0\\0\\0\\0\\1\\0\\0")
    except ZODB.POSException.POSKeyError as error:
        print(error.args[0])
    print(one.supportsUndo(), one.storage.__class__.__module__)
    mine.close(), yours.close(), one.close(), two.close()
"""


@pytest.mark.parametrize("client_is_aliased", [True, False], ids=["perdure", "stock"])
def test_a_zeo_server_on_perdure_serves(
    zeo_port: int, client_is_aliased: bool, tmp_path: Path
) -> None:
    code = ZEO_CLIENT.format(port=zeo_port)
    assert lines(code, tmp_path, alias=client_is_aliased) == [
        "1000",
        "ZODB.POSException ConflictError True",
        "merged merged",
        "b'\\x00\\x00\\x00\\x00\\x00\\x01\\x00\\x00'",
        "True ZEO.ClientStorage",
    ]


def test_zeo_sections_load_without_the_alias_too(tmp_path: Path, zeo_port: int) -> None:
    code = f"""
        import perdure.config, transaction
        db = perdure.config.databaseFromString('''
            %import ZEO
            <zodb>
              <clientstorage>
                server 127.0.0.1:{zeo_port}
              </clientstorage>
            </zodb>
        ''')
        with db.transaction() as connection:
            connection.root.key = "value"
        with db.transaction() as connection:
            print(type(db).__module__.split(".")[0], connection.root.key)
        db.close()
        db = perdure.config.databaseFromString('''
            <zodb>
              <zeoclient>
                server 127.0.0.1:{zeo_port}
              </zeoclient>
            </zodb>
        ''')
        with db.transaction() as connection:
            print(connection.root.key)
        db.close()
    """
    assert lines(code, tmp_path, alias=False) == ["perdure value", "value"]


# RelStorage

RELSTORAGE = """
    import transaction, {config} as config, {errors} as errors
    from BTrees.OOBTree import OOBTree

    db = config.databaseFromString('''
        %import relstorage
        <zodb main>
          <relstorage>
            keep-history {keep_history}
            <sqlite3>
              data-dir sqlite
            </sqlite3>
          </relstorage>
        </zodb>
    ''')
    first, second = transaction.TransactionManager(), transaction.TransactionManager()
    mine, yours = db.open(first), db.open(second)
    mine.root.tree = OOBTree({{n: str(n) for n in range(1000)}})
    mine.root.value = 0
    first.commit()
    second.begin()
    print(db.database_name, len(yours.root.tree))

    mine.root.value = yours.root.value = 1
    first.commit()
    try:
        second.commit()
    except errors.ConflictError as error:
        print(type(error).__name__, error.oid == bytes(8))
    second.abort()

    mine.root.tree[5000] = yours.root.tree[9000] = "merged"
    first.commit()
    second.commit()
    first.begin()
    print(mine.root.tree[5000], mine.root.tree[9000])
    try:
        mine.get(b"\\0\\0\\0\\0\\0\\1\\0\\0")
    except errors.POSKeyError as error:
        print(isinstance(error, KeyError))
    mine.close(), yours.close()
    db.pack()
    db.close()
"""


@pytest.mark.parametrize("keep_history", ["true", "false"])
@pytest.mark.parametrize("alias", [True, False], ids=["alias", "perdure"])
def test_relstorage_on_sqlite(tmp_path: Path, keep_history: str, alias: bool) -> None:
    names = ("ZODB.config", "ZODB.POSException") if alias else ("perdure.config", "perdure.errors")
    code = RELSTORAGE.format(config=names[0], errors=names[1], keep_history=keep_history)
    assert lines(code, tmp_path, alias=alias) == [
        "main 1000",
        "ConflictError True",
        "merged merged",
        "True",
    ]


# zc.zlibstorage


def test_zc_zlibstorage_compresses_records(tmp_path: Path) -> None:
    code = """
        import transaction, ZODB
        from ZODB.FileStorage import FileStorage
        from zc.zlibstorage import ZlibStorage
        db = ZODB.DB(ZlibStorage(FileStorage("data.fs")))
        with db.transaction() as connection:
            connection.root.text = "perdure " * 1000
        db.close()
        base = FileStorage("data.fs")
        print(base.load(bytes(8))[0][:2])
        db = ZODB.DB(ZlibStorage(base))
        with db.transaction() as connection:
            print(len(connection.root.text))
        db.close()
    """
    assert lines(code, tmp_path) == ["b'.z'", "8000"]


# zodburi


@pytest.mark.parametrize(
    ("uri", "storage"),
    [
        ("memory://?database_name=main", "MappingStorage"),
        ("file://data.fs?database_name=main&connection_cache_size=55", "FileStorage"),
        ("demo:(memory://)/(file://changes.fs)#database_name=main", "DemoStorage"),
        ("zconfig://{directory}/db.conf", "FileStorage"),
    ],
)
def test_zodburi_opens_databases(tmp_path: Path, uri: str, storage: str) -> None:
    (tmp_path / "db.conf").write_text(
        "<zodb main>\n<filestorage>\npath d.fs\n</filestorage>\n</zodb>"
    )
    code = f"""
        import ZODB, zodburi
        factory, options = zodburi.resolve_uri({uri.format(directory=tmp_path)!r})
        db = ZODB.DB(factory(), **options)
        with db.transaction() as connection:
            connection.root.key = 1
        print(type(db.storage).__name__, type(db.storage).__module__[:5])
        db.close()
    """
    assert lines(code, tmp_path) == [f"{storage} ZODB."]


# Tools


def test_zodbverify_reads_every_record(tmp_path: Path) -> None:
    write = """
        import ZODB, transaction
        from BTrees.OOBTree import OOBTree
        connection = ZODB.connection("data.fs")
        connection.root.tree = OOBTree({n: str(n) for n in range(1000)})
        transaction.commit()
        connection.close()
    """
    run_code(write, alias=True, directory=tmp_path)
    done = run("-m", "zodbverify", "-f", "data.fs", alias=True, directory=tmp_path)
    assert done.returncode == 0
    assert "Found 0 records that could not be loaded" in done.stdout + done.stderr


def test_zodbupdate_renames_classes(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "from persistent import Persistent\n"
        "class Old(Persistent):\n    pass\n"
        "class New(Persistent):\n    pass\n"
    )
    write = """
        import shop, ZODB, transaction
        connection = ZODB.connection("data.fs")
        connection.root.item = shop.Old()
        connection.root.item.price = 7
        transaction.commit()
        connection.close()
    """
    update = """
        import zodbupdate.update, zodbupdate.main, transaction
        from ZODB.FileStorage import FileStorage
        storage = FileStorage("data.fs")
        updater = zodbupdate.update.Updater(storage, renames={("shop", "Old"): ("shop", "New")})
        updater()
        storage.close()
    """
    read = """
        import ZODB
        connection = ZODB.connection("data.fs")
        print(type(connection.root.item).__name__, connection.root.item.price)
        connection.close()
    """
    run_code(write, alias=True, directory=tmp_path)
    run_code(update, alias=True, directory=tmp_path)
    assert lines(read, tmp_path) == ["New 7"]


GC_CONFIGURATION = "".join(
    f"<zodb {name}>\n<filestorage>\npath {name}.fs\npack-gc false\n</filestorage>\n</zodb>\n"
    for name in ("one", "two")
)


def test_zc_zodbdgc_collects_garbage_over_two_databases(tmp_path: Path) -> None:
    (tmp_path / "gc.conf").write_text(GC_CONFIGURATION)
    write = f"""{BUILD}
    db = ZODB.config.databaseFromURL("gc.conf")
    one = db.open()
    two = one.get_connection("two")
    for number in range(3):
        one.add(PersistentMapping())
    kept = PersistentMapping()
    two.add(kept)
    one.root.kept = kept
    transaction.commit()
    for member in db.databases.values():
        member.close()
    """
    read = """
        import ZODB.config
        from ZODB.POSException import POSKeyError
        from ZODB.utils import p64
        db = ZODB.config.databaseFromURL("gc.conf")
        for name, member in sorted(db.databases.items()):
            found = []
            for number in range(9):
                try:
                    member.storage.load(p64(number))
                except POSKeyError:
                    continue
                found.append(number)
            print(name, found)
            member.close()
    """
    run_code(write, alias=True, directory=tmp_path)
    assert lines(read, tmp_path) == ["one [0, 1, 2, 3]", "two [0, 1]"]
    collect = "import zc.zodbdgc; zc.zodbdgc.gc_command(['-d', '0', 'gc.conf'])"
    checked(run("-c", collect, alias=True, directory=tmp_path))
    assert lines(read, tmp_path) == ["one [0]", "two [0, 1]"]


def test_hypatia_indexes_documents(tmp_path: Path) -> None:
    write = """
        import ZODB, transaction
        from hypatia.catalog import Catalog
        from hypatia.field import FieldIndex
        from hypatia.text import TextIndex

        class Document:
            def __init__(self, number):
                self.number = number
                self.text = f"hello world {number}"

        connection = ZODB.connection("data.fs")
        catalog = connection.root.catalog = Catalog()
        catalog["number"] = FieldIndex("number")
        catalog["text"] = TextIndex("text")
        for number in range(200):
            catalog.index_doc(number, Document(number))
        transaction.commit()
        connection.close()
    """
    read = """
        import ZODB
        connection = ZODB.connection("data.fs")
        catalog = connection.root.catalog
        print(list(catalog["number"].eq(7).execute().ids))
        print(list(catalog["text"].contains("150").execute().ids))
        connection.close()
    """
    run_code(write, alias=True, directory=tmp_path)
    assert lines(read, tmp_path) == ["[7]", "[150]"]
