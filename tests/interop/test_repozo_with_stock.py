"""repozo's repositories pass between stock ZODB and perdure."""

import subprocess
import sys
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
@pytest.mark.parametrize("gzip", [[], ["-z"]])
def test_what_one_backs_up_the_other_restores(
    backup: list[str], restore: list[str], gzip: list[str], tmp_path: Path
) -> None:
    data, repository = tmp_path / "Data.fs", tmp_path / "repository"
    repository.mkdir()
    change(data, 1)
    run(backup, "-B", "-r", repository, "-f", data, *gzip)
    change(data, 2)
    # Names go by seconds: the first is made older.
    for path in sorted(repository.iterdir()):
        path.rename(path.with_name("2020-01-01-00-00-00" + path.suffix))
    (dat,) = repository.glob("*.dat")
    fields = dat.read_text().split()
    suffix = ".fsz" if gzip else ".fs"
    fields[0] = str(repository / f"2020-01-01-00-00-00{suffix}")
    dat.write_text(" ".join(fields) + "\n")
    run(backup, "-B", "-Q", "-r", repository, "-f", data, *gzip)
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
