"""repozo's repositories pass between stock ZODB and perdure."""

import gzip
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import perdure

STOCK = [sys.executable, "-W", "ignore", "-m", "ZODB.scripts.repozo"]
OWN = [sys.executable, "-m", "perdure.compat", "-m", "ZODB.scripts.repozo"]


def run(command: list[str], *arguments: object, code: int = 0) -> str:
    called = [*command, *map(str, arguments)]
    done = subprocess.run(called, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stderr


def change(path: Path, value: int) -> None:
    db = perdure.DB(str(path))
    with db.transaction() as conn:
        conn.root.value = value
    db.close()


@pytest.mark.parametrize(("backup", "restore"), [(STOCK, OWN), (OWN, STOCK), (OWN, OWN)])
@pytest.mark.parametrize("zipped", [[], ["-z"]])
def test_what_one_backs_up_the_other_restores(
    backup: list[str], restore: list[str], zipped: list[str], tmp_path: Path
) -> None:
    data, repository = tmp_path / "Data.fs", tmp_path / "repository"
    repository.mkdir()
    change(data, 1)
    run(backup, "-B", "-r", repository, "-f", data, *zipped)
    change(data, 2)
    # Names go by seconds: the first is made older.
    for path in sorted(repository.iterdir()):
        path.rename(path.with_name("2020-01-01-00-00-00" + path.suffix))
    (dat,) = repository.glob("*.dat")
    fields = dat.read_text().split()
    suffix = ".fsz" if zipped else ".fs"
    fields[0] = str(repository / f"2020-01-01-00-00-00{suffix}")
    dat.write_text(" ".join(fields) + "\n")
    run(backup, "-B", "-Q", "-r", repository, "-f", data, *zipped)
    assert len(list(repository.glob("*.deltafs*"))) == 1
    run(restore, "-V", "-r", repository)
    run(restore, "-R", "-w", "-r", repository, "-o", tmp_path / "restored.fs")
    assert (tmp_path / "restored.fs").read_bytes() == data.read_bytes()


def test_a_damaged_repository_is_found(tmp_path: Path) -> None:
    data, repository = tmp_path / "Data.fs", tmp_path / "repository"
    repository.mkdir()
    assert "no backup" in run(OWN, "-R", "-r", repository, "-o", tmp_path / "x.fs", code=1)
    change(data, 1)
    run(OWN, "-B", "-r", repository, "-f", data)
    (part,) = repository.glob("*.fs")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    assert "MD5" in run(OWN, "-V", "-r", repository, code=1)


def test_netspace_tells_what_objects_lead_to(tmp_path: Path) -> None:
    db = perdure.DB(str(tmp_path / "Data.fs"))
    with db.transaction() as conn:
        conn.root.one = perdure.PersistentMapping(two=perdure.PersistentMapping())
    db.close()
    command = [*OWN[:-1], "ZODB.scripts.netspace", str(tmp_path / "Data.fs")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    oid, name, own, net = done.stdout.split()
    assert (oid, name) == ("0x01", "persistent.mapping.PersistentMapping")
    assert int(net) > int(own)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository of a whole backup and two that follow it, compressed."""
    data, found = tmp_path / "Data.fs", tmp_path / "repository"
    found.mkdir()
    lines = []
    for number, suffix in enumerate([".fsz", ".deltafsz", ".deltafsz"]):
        start = data.stat().st_size if data.exists() else 0
        change(data, number)
        content = data.read_bytes()[start:]
        part = found / f"2020-01-01-00-00-0{number}{suffix}"
        part.write_bytes(gzip.compress(content))
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        lines.append(f"{part} {start} {start + len(content)} {md5}\n")
    (found / "2020-01-01-00-00-00.dat").write_text("".join(lines))
    return found


def lose(part: Path) -> None:
    part.unlink()


def cut(part: Path) -> None:
    part.write_bytes(part.read_bytes()[:-9])


def flip(part: Path) -> None:
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 0xFF
    part.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "name"),
    [
        (lose, "2020-01-01-00-00-00.dat"),
        (cut, "2020-01-01-00-00-00.dat"),
        (lose, "2020-01-01-00-00-01.deltafsz"),
        (cut, "2020-01-01-00-00-01.deltafsz"),
        (flip, "2020-01-01-00-00-01.deltafsz"),
    ],
)
def test_an_incomplete_or_damaged_backup_is_never_verified(
    repository: Path, damage: Callable[[Path], None], name: str
) -> None:
    target = repository.parent / "restored.fs"
    run(OWN, "-V", "-r", repository)
    run(OWN, "-R", "-w", "-r", repository, "-o", target, "-D", "2020-01-01-00-00-01")
    target.unlink()
    damage(repository / name)
    for arguments in (["-V"], ["-R", "-w", "-o", target]):
        told = run(OWN, *arguments, "-r", repository, code=1)
        assert told.startswith("repozo: ")
        assert name in told
        assert len(told.splitlines()) == 1
    assert not list(repository.parent.glob("restored.fs*"))


def test_a_damaged_list_is_named_and_a_whole_backup_begins_anew(repository: Path) -> None:
    data = repository.parent / "Data.fs"
    cut(repository / "2020-01-01-00-00-00.dat")
    told = run(OWN, "-B", "-r", repository, "-f", data, code=1)
    assert "2020-01-01-00-00-00.dat is damaged: begin anew" in told
    run(OWN, "-B", "-F", "-r", repository, "-f", data)
    run(OWN, "-V", "-r", repository)


def test_a_repository_may_have_a_name_that_is_no_text(tmp_path: Path) -> None:
    repository = tmp_path / os.fsdecode(b"r\xff")
    repository.mkdir()
    change(tmp_path / "Data.fs", 1)
    run(OWN, "-B", "-r", repository, "-f", tmp_path / "Data.fs")
    run(OWN, "-V", "-r", repository)


def test_a_file_is_restored_over_another_one(repository: Path) -> None:
    target = repository.parent / "Other.fs"
    for value in range(100, 120):
        change(target, value)
    (target.with_name("Other.fs.refs")).write_bytes(b"of the file before")
    run(OWN, "-R", "-w", "-r", repository, "-o", target)
    assert sorted(path.name for path in repository.parent.glob("Other.fs.*")) == ["Other.fs.lock"]
    with perdure.DB(str(target)) as database, database.transaction() as connection:
        assert connection.root.value == 2
