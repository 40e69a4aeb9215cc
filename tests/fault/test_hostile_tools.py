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


@pytest.mark.parametrize(
    ("name", "more"), [("scripts.fsoids", ["0"]), ("scripts.netspace", []), ("scripts.fsrefs", [])]
)
@pytest.mark.parametrize("root", [b"junk", GREEDY])
def test_a_tool_names_the_record_that_it_can_not_read(
    tmp_path: Path, name: str, more: list[str], root: bytes
) -> None:
    (tmp_path / "Data.fs").write_bytes(forged({0: root}))
    done = tool(name, "Data.fs", *more, directory=tmp_path)
    assert "Traceback" not in done.stderr
    if name != "scripts.fsrefs":  # which goes on
        assert done.returncode == 1
        assert "damaged record of 0x00 in " in done.stderr
        assert "Data.fs" in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_a_damaged_index_file_is_a_value_error_with_its_name(tmp_path: Path) -> None:
    whole = b"\x80\x03K\x05.\x80\x03C\6\0\0\0\0\0\0C\x08\0\0\0\0\0\0\0\4\x86.\x80\x03N."
    short = whole.replace(b"C\6\0\0\0\0\0\0", b"C\1\0")
    wide = b"\x80\x03K\x05.\x80\x03X\2\0\0\0\xd0\x80h\0\x86."
    damaged = [GREEDY, b"", b"junk", whole[:-4], whole[:8], short, wide, b"K\5.K\5.", b"K\5.]K\1a."]
    for number, content in enumerate([whole, *damaged]):
        (tmp_path / f"{number}.index").write_bytes(content)
    code = f"""
        import resource
        from ZODB.fsIndex import fsIndex
        assert fsIndex.load("0.index")["index"].items() == [(bytes(8), 4)]
        resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
        for number in range(1, {len(damaged)} + 1):
            try:
                fsIndex.load(f"{{number}}.index")
            except ValueError as error:
                assert f"{{number}}.index" in str(error), error
            else:
                raise AssertionError(number)
    """
    run_code(code, alias=True, directory=tmp_path)


def test_a_damaged_record_is_told_by_what_reads_data_files(tmp_path: Path) -> None:
    itself, endless = forged({0: b"", 1: b""}), forged({0: ROOT})
    records = {
        "itself.fs": itself[:27] + struct.pack(">QQQQHQQ", 0, 1, 0, 4, 0, 0, 27),
        "far.fs": itself[:27] + struct.pack(">QQQQHQQ", 0, 1, 0, 4, 0, 0, 2**64 - 1),
        "cut.fs": endless[:80],
        "header.fs": endless[:60],
        "back.fs": itself[:27] + struct.pack(">QQQQHQ", 0, 1, 0, 4, 0, 0) + b"\0",
        "large.fs": itself[:27] + struct.pack(">QQQQHQ", 0, 1, 0, 4, 0, 2**40) + b"data",
        "largest.fs": itself[:27] + struct.pack(">QQQQHQ", 0, 1, 0, 4, 0, 2**63) + b"data",
        "version.fs": itself[:27] + struct.pack(">QQQQHQ", 0, 1, 0, 4, 1, 4) + b"data",
    }
    for name, content in records.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "whole.fs").write_bytes(endless)
    (tmp_path / "status.fs").write_bytes(endless[:20] + b"\xff" + endless[21:])
    (tmp_path / "texts.fs").write_bytes(endless[:21] + b"\xff" + endless[22:])
    code = f"""
        import io
        from ZODB.FileStorage.format import CorruptedDataError, CorruptedError
        from ZODB.FileStorage.format import FileStorageFormatter
        from ZODB.FileStorage.fsdump import Dumper

        def damaged(name, expected, call):
            try:
                call()
            except expected as error:
                assert name in str(error), error
            else:
                raise AssertionError(name)

        formatter = FileStorageFormatter()
        formatter._file = open("whole.fs", "rb")
        assert formatter._loadBackTxn(bytes(8), 27) == ({ROOT!r}, {TID!r})
        formatter._read_txn_header(4)
        Dumper("whole.fs", io.StringIO()).dump()
        for name in {list(records)}:
            formatter._file = open(name, "rb")
            damaged(name, CorruptedDataError, lambda: formatter._loadBackTxn(bytes(8), 27))
            if name not in ("itself.fs", "far.fs", "version.fs"):
                damaged(name, CorruptedError, Dumper(name, io.StringIO()).dump)
        for name in ("status.fs", "texts.fs"):
            formatter._file = open(name, "rb")
            damaged(name, CorruptedDataError, lambda: formatter._read_txn_header(4))
    """
    run_code(code, alias=True, directory=tmp_path)
