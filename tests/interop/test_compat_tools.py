"""ZODB's command line tools print on perdure what they print on stock ZODB."""

import re
from pathlib import Path

import pytest
from tests.interop.programs import checked, run, run_code

DATA = Path(__file__).parents[1] / "data"
FILES = ["basic.fs", "packed.fs", "undo.fs", "multi_a.fs", "multi_b.fs"]


def both(directory: Path, *arguments: str) -> tuple[str, str]:
    """What a program prints on perdure and on stock ZODB."""
    return (
        checked(run(*arguments, alias=True, directory=directory)),
        checked(run(*arguments, alias=False, directory=directory)),
    )


@pytest.fixture(params=FILES)
def data_file(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    (tmp_path / "Data.fs").write_bytes((DATA / request.param).read_bytes())
    return "Data.fs"


@pytest.mark.parametrize(
    "arguments",
    [
        ("-m", "ZODB.FileStorage.fsdump"),
        ("-m", "ZODB.scripts.fstail", "-n", "5"),
        ("-m", "ZODB.scripts.analyze"),
        ("-m", "ZODB.scripts.fsrefs"),
    ],
    ids=lambda arguments: arguments[1].rpartition(".")[2],
)
def test_a_tool_prints_what_stocks_does(
    tmp_path: Path, data_file: str, arguments: tuple[str, ...]
) -> None:
    if arguments[1] == "ZODB.FileStorage.fsdump":
        code = "import sys; from ZODB.FileStorage.fsdump import main; main()"
        arguments = ("-c", code)
    ours, stocks = both(tmp_path, *arguments, data_file)
    assert ours == stocks


def test_space_counts_what_stocks_does(tmp_path: Path, data_file: str) -> None:
    ours, stocks = both(tmp_path, "-m", "ZODB.scripts.space", data_file)
    assert sorted(ours.splitlines()) == sorted(stocks.splitlines())


def test_the_dumper_prints_every_header_as_stocks_does(tmp_path: Path, data_file: str) -> None:
    code = f"from ZODB.FileStorage.fsdump import Dumper; Dumper({data_file!r}).dump()"
    ours, stocks = both(tmp_path, "-W", "ignore", "-c", code)
    assert ours == stocks


def without_classes_referred_to(printed: str) -> list[str]:
    """The lines; stock's tool doesn't know every class that perdure's does."""
    return [re.sub(r"(references 0x\w+) \S+", r"\1", line) for line in printed.splitlines()]


def test_fsoids_finds_what_stocks_does(tmp_path: Path, data_file: str) -> None:
    ours, stocks = both(tmp_path, "-m", "ZODB.scripts.fsoids", data_file, "0", "0x1", "12345")
    assert without_classes_referred_to(ours) == without_classes_referred_to(stocks)


def test_fsrefs_names_references_to_what_is_missing(tmp_path: Path) -> None:
    write = """
        import ZODB, transaction
        from persistent.mapping import PersistentMapping
        connection = ZODB.connection("Data.fs")
        connection.root.gone = PersistentMapping()
        transaction.commit()
        storage = connection.db().storage
        oid, serial = connection.root.gone._p_oid, connection.root.gone._p_serial
        from ZODB.Connection import TransactionMetaData
        meta = TransactionMetaData()
        storage.tpc_begin(meta)
        storage.deleteObject(oid, serial, meta)
        storage.tpc_vote(meta)
        storage.tpc_finish(meta)
        connection.close()
    """
    run_code(write, alias=True, directory=tmp_path)
    printed = checked(run("-m", "ZODB.scripts.fsrefs", "Data.fs", alias=True, directory=tmp_path))
    assert "oid 0x0 persistent.mapping.PersistentMapping" in printed
    assert "refers to invalid object:" in printed
    assert "\toid 0x01 " in printed


def test_fsrefs_names_who_refers_to_an_unreadable_record(tmp_path: Path) -> None:
    (tmp_path / "Data.fs").write_bytes((DATA / "damaged_middle.fs").read_bytes())
    printed = checked(run("-m", "ZODB.scripts.fsrefs", "Data.fs", alias=True, directory=tmp_path))
    assert "refers to invalid object:" in printed
    assert "\toid 0xae failed to load" in printed


def test_fsrecover_says_what_it_can_not_pack(tmp_path: Path) -> None:
    (tmp_path / "Data.fs").write_bytes((DATA / "damaged_middle.fs").read_bytes())
    command = ("-m", "ZODB.fsrecover", "-P", "0", "Data.fs", "out.fs")
    done = run(*command, alias=True, directory=tmp_path)
    assert done.returncode == 1
    assert "is not packed: the record of object" in done.stderr
    assert "Traceback" not in done.stderr


def test_referrers_are_found(tmp_path: Path) -> None:
    code = f"""
        import ZODB.FileStorage
        from ZODB.scripts.referrers import referrers
        storage = ZODB.FileStorage.FileStorage({str(DATA / "basic.fs")!r}, read_only=True)
        print(sorted(referrers(storage).items()))
        storage.close()
    """
    assert run_code(code, alias=True) == run_code(code)


def test_fstools_goes_back_and_forth(tmp_path: Path) -> None:
    code = f"""
        from ZODB.fstools import prev_txn
        with open({str(DATA / "undo.fs")!r}, "rb") as file:
            file.seek(0, 2)
            last = prev_txn(file)
            first = last
            while first.prev_txn():
                first = first.prev_txn()
            first.read_meta()
            print(first.get_offset(), first.user, first.descr, first.ext, first.tid)
            print(first.next_txn().get_timestamp(), last.next_txn())
    """
    assert run_code(code, alias=True) == run_code(code)


@pytest.mark.parametrize("name", ["damaged_middle.fs", "truncated.fs", "garbage_tail.fs"])
def test_fsrecover_salvages_what_stocks_does_and_more(tmp_path: Path, name: str) -> None:
    (tmp_path / "Data.fs").write_bytes((DATA / name).read_bytes())
    counts = []
    for alias, output in ((True, "ours.fs"), (False, "stocks.fs")):
        done = run("-m", "ZODB.fsrecover", "Data.fs", output, alias=alias, directory=tmp_path)
        assert "bytes removed during recovery" in checked(done)
        count = f"""
            from ZODB.FileStorage import FileIterator
            print(sum(1 for txn in FileIterator({output!r}) for record in txn))
        """
        counts.append(int(run_code(count, directory=tmp_path)))
    assert counts[0] >= counts[1] > 0


def test_fsrecover_overwrites_only_what_it_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "Data.fs").write_bytes((DATA / "truncated.fs").read_bytes())
    (tmp_path / "out.fs").write_bytes(b"something else")
    done = run("-m", "ZODB.fsrecover", "Data.fs", "out.fs", alias=True, directory=tmp_path)
    assert done.returncode == 1
    assert "out.fs exists" in done.stderr
    assert (tmp_path / "out.fs").read_bytes() == b"something else"
    checked(run("-m", "ZODB.fsrecover", "-f", "Data.fs", "out.fs", alias=True, directory=tmp_path))
    usage = run("-m", "ZODB.fsrecover", "Data.fs", alias=True, directory=tmp_path)
    assert usage.returncode == 1
    assert "usage: fsrecover.py" in usage.stderr


def test_fstest_says_nothing_of_a_sound_file_and_prints_it_when_asked(
    tmp_path: Path, data_file: str
) -> None:
    for arguments in ((), ("-v",), ("-vv",)):
        ours, stocks = both(tmp_path, "-m", "ZODB.scripts.fstest", *arguments, data_file)
        assert sorted(ours.splitlines()) == sorted(stocks.splitlines())


@pytest.mark.parametrize("name", ["damaged_middle.fs", "truncated.fs", "not_a_database.fs"])
def test_fstest_fails_where_something_is_wrong(tmp_path: Path, name: str) -> None:
    done = run("-m", "ZODB.scripts.fstest", str(DATA / name), alias=True, directory=tmp_path)
    assert done.returncode == 1
    assert done.stderr


@pytest.mark.parametrize("file", ["truncated.fs", "garbage_tail.fs", "not_a_database.fs"])
def test_fstail_says_where_a_file_ends_in_no_transaction(file: str) -> None:
    done = run("-m", "ZODB.scripts.fstail", str(DATA / file), alias=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"fstail: {DATA / file} doesn't end with a whole transaction")
    assert len(done.stderr.splitlines()) == 1


TOOLS = [
    "FileStorage.fsdump",
    "scripts.analyze",
    "scripts.fsoids",
    "scripts.fsrefs",
    "scripts.fstail",
    "scripts.fstest",
    "scripts.netspace",
    "scripts.space",
    "fsrecover",
]


@pytest.mark.parametrize("tool", TOOLS)
def test_a_tool_says_in_one_line_what_is_wrong_with_a_file(tmp_path: Path, tool: str) -> None:
    more = {"scripts.fsoids": ["0"], "fsrecover": ["out.fs"]}.get(tool, [])
    (tmp_path / "other.fs").write_bytes(b"no database")
    for file in ("missing.fs", "other.fs"):
        done = run("-m", f"ZODB.{tool}", file, *more, alias=True, directory=tmp_path)
        assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["other.fs"]
    usage = run("-m", f"ZODB.{tool}", "--unknown", alias=True, directory=tmp_path)
    assert usage.returncode in {1, 2}
    assert "usage" in usage.stderr + usage.stdout
    assert "Traceback" not in usage.stderr


@pytest.mark.parametrize("tool", ["scripts.analyze", "scripts.netspace"])
def test_a_tool_takes_a_file_without_transactions(tmp_path: Path, tool: str) -> None:
    (tmp_path / "empty.fs").write_bytes(b"FS21")
    done = run("-m", f"ZODB.{tool}", "empty.fs", alias=True, directory=tmp_path)
    assert "Traceback" not in done.stderr


def test_fsrecover_overwrites_a_file_only_with_a_whole_one(tmp_path: Path) -> None:
    (tmp_path / "out.fs").write_bytes((DATA / "basic.fs").read_bytes())
    done = run("-m", "ZODB.fsrecover", "-f", "none.fs", "out.fs", alias=True, directory=tmp_path)
    assert done.returncode == 1
    assert [path.name for path in tmp_path.iterdir()] == ["out.fs"]
    assert (tmp_path / "out.fs").read_bytes() == (DATA / "basic.fs").read_bytes()


@pytest.mark.parametrize(
    ("source", "output"), [("x.fs", "x.fs"), ("x.fs", "link.fs"), ("x.fs.new", "x.fs")]
)
def test_fsrecover_leaves_its_input_as_it_is(tmp_path: Path, source: str, output: str) -> None:
    damaged = (DATA / "damaged_middle.fs").read_bytes()
    (tmp_path / source).write_bytes(damaged)
    (tmp_path / "link.fs").symlink_to(source)
    if not (tmp_path / output).exists():
        (tmp_path / output).write_bytes(b"another file")
    before = sorted(path.name for path in tmp_path.iterdir())
    done = run("-m", "ZODB.fsrecover", "-f", source, output, alias=True, directory=tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"{source} would be overwritten: recover it into a file of another name\n"
    assert (tmp_path / source).read_bytes() == damaged
    assert sorted(path.name for path in tmp_path.iterdir()) == before
