"""The commands over a collection, called as a shell calls them."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import perdure
from perdure.cli import main

TOML = """
[databases.one.storage]
type = "file"
path = "one.fs"
blob_dir = "one.blobs"

[databases.two.storage]
type = "zlib"
base = {type = "file", path = "two.fs"}
"""


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def of_json(*arguments: Any, code: int = 0) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A collection of two members that refer to each other, one of them compressed."""
    path = tmp_path / "perdure.toml"
    path.write_text(TOML)
    add(path, 1)
    return path


def add(toml: Path, number: int) -> None:
    with perdure.config.databaseFromTOML(toml) as db:
        try:
            with db.transaction() as conn:
                there = perdure.PersistentMapping(number=number, long="x" * 1000)
                conn["two"].add(there)
                conn["two"].root.last = there
                conn.root.there = there
                conn.root.blob = perdure.Blob(b"blob %d" % number)
        finally:
            db.databases["two"].close()


def number_in(toml: Path) -> int:
    with perdure.config.databaseFromTOML(toml) as db, db.transaction() as conn:
        number: int = conn.root.there["number"]
        with conn.root.blob.open() as file:
            assert file.read() == b"blob %d" % number
        db.databases["two"].close()
    return number


def test_a_collection_is_backed_up_and_restored_to_where_its_configuration_says(
    toml: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    first = of_json("backup", toml, folder)
    assert all((folder / each["file"]).is_file() for each in first["members"].values())
    assert first["members"]["one"]["blobs"] == 1
    add(toml, 2)
    second = of_json("backup", toml, folder)
    assert not any(each["full"] for each in second["members"].values())
    assert second["tid"] > first["tid"]
    assert "2 members up to" in run("backup", toml, folder).output
    assert run("backup", "--verify", folder).stdout == f"{folder}: whole\n"
    new = tmp_path / "new"
    new.mkdir()
    (new / "perdure.toml").write_text(TOML)
    of_json("restore", folder, new / "perdure.toml")
    assert number_in(new / "perdure.toml") == 2
    # What exists is not overwritten.
    done = run("restore", folder, new / "perdure.toml")
    assert done.exit_code == 1
    assert "exists already" in done.output
    earlier = tmp_path / "earlier"
    done = run("restore", "--at", first["tid"], folder, earlier)
    assert "2 members restored up to" in done.output
    (earlier / "perdure.toml").write_text(TOML)
    assert number_in(earlier / "perdure.toml") == 1


def test_a_collection_of_files_is_copied_up_to_one_moment(tmp_path: Path) -> None:
    members = {name: tmp_path / f"{name}.fs" for name in ("a", "b")}
    with perdure.Collection(members) as collection, collection.transaction() as conn:
        conn.root.x = conn["b"].root.x = 1
    named = [f"{name}={path}" for name, path in members.items()]
    copied = of_json("copy", *named, tmp_path / "copies")
    assert copied["members"]["a"]["last"] == copied["members"]["b"]["last"] == copied["tid"]
    again = of_json("copy", *named, tmp_path / "copies")
    assert [each["transactions"] for each in again["members"].values()] == [0, 0]
    backup = of_json("backup", *named, tmp_path / "backup")
    targets = [f"{name}={tmp_path / name}.new" for name in members]
    restored = of_json("restore", tmp_path / "backup", *targets)
    assert restored["tid"] == backup["tid"]
    assert run("restore", tmp_path / "backup", targets[0]).exit_code == 1
    assert run("backup", members["a"], tmp_path / "backup").exit_code == 1


def test_what_a_configuration_describes_is_checked_through_its_layers(toml: Path) -> None:
    reports = of_json("check", toml)
    assert [report["ok"] for report in reports] == [True, True]
    assert {path.suffix for path in toml.parent.iterdir()}.isdisjoint({".refs"})
    done = run("check", toml.parent / "one.fs", f"other={toml.parent / 'one.fs'}")
    assert done.exit_code == 3
    assert "in database 'two', which isn't in the collection" in done.output
    assert "reached by" in done.output


def test_referrers_are_told_over_members(toml: Path) -> None:
    found = of_json("referrers", toml, "two:0x1")
    assert found == [
        {"member": "one", "oid": "00" * 8},
        {"member": "two", "oid": "00" * 8},
    ]
    assert run("referrers", toml, "two:0x1").stdout == "one:0x00\ntwo:0x00\n"
    assert run("referrers", toml, "0x1").exit_code == 2
    assert run("referrers", toml, "three:0x1").exit_code == 2


@pytest.mark.parametrize("command", ["check", "backup", "copy", "referrers"])
def test_a_configuration_that_does_not_fit_is_an_error_of_one_line(
    command: str, tmp_path: Path
) -> None:
    path = tmp_path / "perdure.toml"
    path.write_text('[databases.one.storage]\ntype = "nothing"\n')
    more = {"check": [], "referrers": ["one:0x1"]}.get(command, [tmp_path / "target"])
    done = run(command, path, *more)
    assert done.exit_code == 1
    assert "perdure.toml:2" in done.output
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_member_holds_is_exported_with_what_others_have_of_it(
    toml: Path, tmp_path: Path
) -> None:
    kept, followed = tmp_path / "kept.zexp", tmp_path / "followed.pexc"
    assert of_json("export", toml, "/", kept)["oid"] == "00" * 8
    of_json("export", "--follow", toml, "/", followed)
    assert kept.read_bytes()[:4] == b"ZEXP"
    files = [f"main={tmp_path / 'main.fs'},{tmp_path / 'main.d'}", f"more={tmp_path / 'more.fs'}"]
    assert run("import", *files, followed, "copy").exit_code == 1
    for each in files:
        name, _, place = each.partition("=")
        path, _, blobs = place.partition(",")
        perdure.DB(path, database_name=name, blob_dir=blobs or None).close()
    done = run("import", *files, followed, "copy")
    assert done.exit_code == 1
    assert "'two', which isn't among 'main', 'more'" in done.output
    assert run("import", *files, kept, "copy").exit_code == 1
    of_json("import", "--rename", "two=more", *files, followed, "copy")
    assert all(report["ok"] for report in of_json("check", *files))
    assert of_json("referrers", *files, "more:0x1") == [{"member": "main", "oid": "0" * 15 + "1"}]
    assert run("import", "--rename", "two=more", *files, followed, "copy").exit_code == 1
    assert run("import", "--rename", "two", *files, followed, "more").exit_code == 2
    assert run("export", "--member", "three", toml, "/", kept).exit_code == 2
    assert of_json("export", "--member", "two", toml, "/last", kept)["oid"] == "0" * 15 + "1"


def test_lost_objects_are_replaced(toml: Path) -> None:
    assert of_json("repair", toml)["placed"] == []
    old = toml.parent / "old.fs"
    with perdure.DB(str(old), database_name="two"):
        pass
    members = [f"one={toml.parent / 'one.fs'},{toml.parent / 'one.blobs'}", f"two={old}"]
    assert run("check", *members).exit_code == 3
    told = of_json("repair", "--dry-run", *members)
    assert [(each["member"], each["oid"]) for each in told["placed"]] == [("two", "0" * 15 + "1")]
    assert told["placed"][0]["referrers"][0]["member"] == "one"
    assert run("check", *members).exit_code == 3
    done = run("repair", "--only", "two:0x1", *members)
    assert "1 placeholders put in place of lost objects" in done.output
    assert run("check", *members).exit_code == 0
    assert run("repair", "--only", "two:0x1", *members).exit_code == 1
    assert run("repair", "--only", "two", *members).exit_code == 2
    assert "perdure.lost.LostObject 0x01" in run("show", old, "#0x1").output
