"""What importing perdure brings into a process."""

import importlib.util
import subprocess
import sys
from pathlib import Path


def test_openssl_is_not_loaded_for_those_who_neither_encrypt_nor_back_up() -> None:
    code = "import perdure, sys; sys.exit('_hashlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def loaded(code: str, *modules: str, argument: Path | None = None) -> set[str]:
    """Return which of *modules* a fresh process, started with *argument*, has after *code*."""
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    arguments = [] if argument is None else [str(argument)]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(modules) & set(done.stdout.split())


def test_who_opens_and_packs_a_database_loads_neither_layers_nor_what_looks_after_files() -> None:
    unused = (
        "dataclasses", "inspect", "json", "perdure.db.collection", "perdure.maintenance",
        "perdure.storage._transforming", "perdure.storage.encrypting", "perdure.storage.joint",
        "perdure.storage.zstd", "pickletools", "sqlite3",
    )  # fmt: skip
    # Some of it may come with what every program loads: `logging` uses dataclasses in Python 3.14.
    unused_before = set(unused) - loaded("import logging", *unused)
    assert loaded("import perdure; perdure.DB(None).pack()", *unused_before) == set()


PLAIN_PROGRAM = """
import perdure, sys, transaction
from persistent.mapping import PersistentMapping
db = perdure.DB(sys.argv[1])
connection = db.open()
connection.root()["made"] = PersistentMapping()
transaction.commit()
connection.root()["made"]["changed"] = True
transaction.commit()
connection.cacheMinimize()
assert connection.root()["made"]["changed"]
connection.close()
db.close()
"""


def test_who_opens_loads_and_commits_loads_no_code_for_anything_else(tmp_path: Path) -> None:
    unused = (
        "base64", "bz2", "copy", "ipaddress", "lzma", "pathlib", "random", "shutil", "tempfile",
        "urllib.parse",
        "perdure._merging", "perdure.blob._directory", "perdure.blob._staging",
        "perdure.blob._storage", "perdure.connection.dangling", "perdure.connection.reaching", "perdure.connection.unflagged",
        "perdure.db.packing", "perdure.db.undo", "perdure.invalidations", "perdure.mvcc.historical",
        "perdure.mvcc.instances", "perdure.mvcc.views", "perdure.persistentreference",
        "perdure.serialize.classes", "perdure.serialize.pickling", "perdure.serialize.reader",
        "perdure.serialize.standard_writer", "perdure.serialize.unpicklable",
        "perdure.storage._deferring", "perdure.storage._index", "perdure.storage._layers",
        "perdure.storage._transforming", "perdure.storage.base", "perdure.storage.joint",
        "perdure.storage.layered", "perdure.storage.mapping", "perdure.storage.packing",
        "perdure.storage.records", "perdure.storage.undo",
    )  # fmt: skip
    for module in unused:
        assert importlib.util.find_spec(module), module
    # What Python, and packages that every program needs, have loaded before is no matter of ours.
    unused_before = set(unused) - loaded("import logging, persistent.mapping, transaction", *unused)
    assert loaded(PLAIN_PROGRAM, *unused_before, argument=tmp_path / "data.fs") == set()


def test_every_name_is_there_when_it_is_asked_for() -> None:
    code = "import perdure\nfor name in perdure.__all__: assert getattr(perdure, name), name"
    loaded(code)
    loaded("from perdure import *\nassert DB and check and connection")
    loaded("import perdure\nassert perdure.errors.POSError and perdure.storage.encrypting")


def test_connection_is_the_function_whatever_was_imported_before() -> None:
    for first in ("import perdure.connection.state", "from perdure.db import DB", "pass"):
        loaded(f"{first}\nimport perdure\nperdure.connection(None).close()")
