"""ZODB's tools and readers, given files that somebody wrote to harm, or that are cut or changed."""

import struct
import sys
from collections.abc import Mapping
from pathlib import Path
from subprocess import CompletedProcess, run

import pytest
from tests.interop.programs import run_code

TID = bytes(7) + b"\x01"
ROOT = b"\x80\x03cpersistent.mapping\nPersistentMapping\n.\x80\x03}X\4\0\0\0data}s."
RUNS = b"cposix\nsystem\n(S'touch PWNED'\ntR."
GREEDY = b"\x80\x03Nr\xff\xff\xff\x3f."


def forged(
    records: Mapping[int, bytes], extension: bytes = b"", length: int | None = None
) -> bytes:
    """A data file with one transaction, and *length* behind it."""
    start = 4 + 23 + len(extension)
    body = b"".join(
        struct.pack(">QQQQHQ", oid, 1, 0, 4, 0, len(data)) + data for oid, data in records.items()
    )
    own = start - 4 + len(body)
    header = struct.pack(">8sQcHHH", TID, own, b" ", 0, 0, len(extension))
    behind = struct.pack(">Q", own if length is None else length)
    return b"FS21" + header + extension + body + behind


def tool(name: str, *arguments: object, directory: Path) -> CompletedProcess[str]:
    """Run one of ZODB's tools."""
    command = [sys.executable, "-m", "perdure.compat", "-m", f"ZODB.{name}", *map(str, arguments)]
    return run(command, check=False, capture_output=True, text=True, cwd=directory)


@pytest.mark.parametrize("extension", [RUNS, GREEDY, b"junk"])
def test_fstail_runs_nothing_that_a_transaction_names(tmp_path: Path, extension: bytes) -> None:
    (tmp_path / "evil.fs").write_bytes(forged({0: ROOT}, extension))
    done = tool("scripts.fstail", "evil.fs", directory=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"(+{23 + len(extension)})" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["evil.fs"]


@pytest.mark.parametrize("length", [5, 2**63 - 100])
def test_a_wrong_length_behind_a_transaction_is_damage(tmp_path: Path, length: int) -> None:
    first, second = forged({0: ROOT}, length=length), forged({0: ROOT})[4:]
    file = tmp_path / "Data.fs"
    file.write_bytes(first + second)
    done = tool("scripts.fstail", file, directory=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert str(file) in done.stderr
    assert done.stdout.count("hash=") == 1


def test_a_transaction_that_can_not_be_is_damage(tmp_path: Path) -> None:
    (tmp_path / "Data.fs").write_bytes(forged({0: ROOT}, length=5))
    for number, length in enumerate([0, 2**40, 2**63]):
        header = struct.pack(">8sQcHHH", TID, length, b" ", 0, 0, 0)
        (tmp_path / f"{number}.fs").write_bytes(b"FS21" + header)
    code = """
        from ZODB.FileStorage.format import CorruptedError
        from ZODB.fstools import TxnHeader, prev_txn

        def damaged(name, read):
            with open(name, "rb") as file:
                try:
                    read(file)
                except CorruptedError as error:
                    assert name in str(error)
                    return
            raise AssertionError(name)

        damaged("Data.fs", prev_txn)
        damaged("Data.fs", lambda file: prev_txn(file) if file.seek(0, 2) else None)
        for name in ("0.fs", "1.fs", "2.fs"):
            damaged(name, lambda file: TxnHeader(file, 4).get_raw_data())
            damaged(name, lambda file: TxnHeader(file, 5))
    """
    run_code(code, alias=True, directory=tmp_path)
