"""What `perdure recover` makes of a file on a device that can't read all of it any more."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from persistent.mapping import PersistentMapping
from tests.fault import badblocks

import perdure

pytestmark = pytest.mark.skipif(badblocks.MISSING is not None, reason=str(badblocks.MISSING))

DATA = Path(__file__).parents[1] / "data"
BLOCK = 4096


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An empty folder for files."""
    found = tmp_path / "files"
    found.mkdir()
    return found


def run(
    tmp_path: Path, file: Path, part: tuple[int, int], *arguments: Any
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "perdure.cli", *map(str, arguments)],
        env=badblocks.environment(tmp_path, file, *part),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def transactions_of(file: Path) -> dict[bytes, tuple[int, int, dict[bytes, bytes | None]]]:
    """Return position, length and records of each transaction."""
    found, content = {}, file.read_bytes()
    storage = perdure.FileStorage(str(file), read_only=True)
    for txn in storage.iterator():
        records: dict[bytes, bytes | None] = {each.oid: each.data for each in txn}
        position = content.index(txn.tid)
        length = int.from_bytes(content[position + 8 : position + 16], "big") + 8
        found[bytes(txn.tid)] = (position, length, records)
    storage.close()
    return found


@pytest.fixture
def file(folder: Path) -> Path:
    """A database in which one record is larger than two blocks."""
    path = folder / "Data.fs"
    with perdure.DB(str(path)) as db:
        with db.transaction() as connection:
            for name in ("small", "large", "other"):
                connection.root()[name] = PersistentMapping(text=f"first {name}")
        with db.transaction() as connection:
            for name in ("small", "large", "other"):
                length = 3 * BLOCK if name == "large" else 1
                connection.root()[name]["text"] = f"second {name} " * length
        with db.transaction() as connection:
            connection.root()["later"] = PersistentMapping()
    return path


def block_inside_of_the_large_record(file: Path) -> tuple[int, int]:
    content = file.read_bytes()
    first, last = content.index(b"second large"), content.rindex(b"second large")
    start = (first // BLOCK + 1) * BLOCK
    assert start + BLOCK < last
    return start, start + BLOCK


@pytest.mark.parametrize("has_checksums", [True, False])
def test_only_the_record_that_can_not_be_read_is_lost(
    file: Path, tmp_path: Path, folder: Path, has_checksums: bool
) -> None:
    sums = file.with_name("Data.fs.psums")
    if not has_checksums:
        sums.unlink()
    part, before = block_inside_of_the_large_record(file), file.read_bytes()
    names = {each.name for each in folder.iterdir()}
    done = run(tmp_path, file, part, "recover", "--json", file, folder / "new.fs")
    assert (done.returncode, done.stderr) == (3, "")
    facts = json.loads(done.stdout)
    assert facts["unread"] == [{"start": part[0], "end": part[1]}]
    (lost,) = facts["lost_records"]
    assert lost["class_name"] == "persistent.mapping.PersistentMapping"
    assert (facts["lost"], facts["doubtful"]) == ([], [])
    with perdure.DB(str(folder / "new.fs")) as db, db.transaction() as connection:
        texts = {name: each.get("text", "")[:12] for name, each in connection.root().items()}
    assert texts == {
        "small": "second small",
        "large": "first large",
        "other": "second other",
        "later": "",
    }
    assert perdure.check(folder / "new.fs").ok
    assert file.read_bytes() == before
    assert {each.name for each in folder.iterdir()} - names <= {
        "new.fs",
        "new.fs.psums",
        "new.fs.pindex",
        "new.fs.lock",
    }


@pytest.mark.parametrize("block", [0, 1, 17, 39, 40])
def test_what_can_be_read_of_a_file_without_checksums_is_salvaged(
    tmp_path: Path, folder: Path, block: int
) -> None:
    file, new = folder / "Data.fs", folder / "new.fs"
    file.write_bytes((DATA / "basic.fs").read_bytes())
    part = (block * BLOCK, (block + 1) * BLOCK)
    done = run(tmp_path, file, part, "recover", file, new)
    assert done.returncode == 3
    end = min(part[1], file.stat().st_size)
    assert f"unread: bytes {part[0]} to {end} can't be read: Input/output error" in done.stdout
    # Nothing is made up, and all transactions that the block isn't in are there.
    written, salvaged = transactions_of(DATA / "basic.fs"), transactions_of(new)
    for tid, (position, length, records) in written.items():
        if position >= part[1] or position + length <= part[0]:
            assert salvaged.pop(tid)[2] == records
        else:
            assert salvaged.pop(tid, (0, 0, {}))[2].items() <= records.items()
    assert not salvaged
    assert file.read_bytes() == (DATA / "basic.fs").read_bytes()


def test_a_check_of_what_can_not_be_read_names_the_way_on(tmp_path: Path, file: Path) -> None:
    done = run(tmp_path, file, block_inside_of_the_large_record(file), "check", file)
    assert done.returncode == 1
    assert done.stderr == (
        f"Error: {file}: Input/output error: what can be read is salvaged by: perdure recover\n"
    )


def test_recovery_into_a_storage_reads_what_can_be_read(tmp_path: Path, file: Path) -> None:
    program = f"""
import perdure
storage = perdure.MappingStorage()
done = perdure.recover({str(file)!r}, storage)
print(len(done.lost_records), len(storage))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=badblocks.environment(tmp_path, file, *block_inside_of_the_large_record(file)),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.stdout, done.stderr) == ("1 5\n", "")
