"""What importing perdure brings into a process."""

import subprocess
import sys


def test_openssl_is_not_loaded_for_those_who_neither_encrypt_nor_back_up() -> None:
    code = "import perdure, sys; sys.exit('_hashlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def loaded(code: str, *modules: str) -> set[str]:
    """Return which of *modules* a fresh process has after *code*."""
    program = f"{code}\nimport sys\nprint(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(modules) & set(done.stdout.split())


def test_who_opens_and_packs_a_database_loads_neither_layers_nor_what_looks_after_files() -> None:
    unused = (
        "dataclasses", "inspect", "json", "perdure.db.collection", "perdure.maintenance",
        "perdure.storage.encrypting", "perdure.storage.zstd", "pickletools", "sqlite3",
    )  # fmt: skip
    # Some of it may come with what every program loads: `logging` uses dataclasses in Python 3.14.
    unused_before = set(unused) - loaded("import logging", *unused)
    assert loaded("import perdure; perdure.DB(None).pack()", *unused_before) == set()


def test_every_name_is_there_when_it_is_asked_for() -> None:
    code = "import perdure\nfor name in perdure.__all__: assert getattr(perdure, name), name"
    loaded(code)
    loaded("from perdure import *\nassert DB and check and connection")
    loaded("import perdure\nassert perdure.errors.POSError and perdure.storage.encrypting")


def test_connection_is_the_function_whatever_was_imported_before() -> None:
    for first in ("import perdure.connection.state", "from perdure.db import DB", "pass"):
        loaded(f"{first}\nimport perdure\nperdure.connection(None).close()")
