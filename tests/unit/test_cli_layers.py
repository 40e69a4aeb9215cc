"""The commands on databases that a file or a URI describes, layers included."""

import json
from pathlib import Path
from typing import Any

import pytest
import transaction
from click.testing import CliRunner, Result
from persistent.mapping import PersistentMapping

import perdure
from perdure.cli import main
from perdure.config import open_database
from perdure.storage import EncryptingStorage
from perdure.storage.zlib import ZlibStorage

LONG = "a text that compresses well " * 40

TOML = """\
[database.storage]
type = "zlib"
base = { type = "encrypting", key_file = "shop.key", base = { type = "file", path = "Data.fs", \
blob_dir = "blobs" } }
"""
TWO = """\
[databases.orders.storage]
type = "zlib"
base = { type = "file", path = "orders.fs" }

[databases.customers.storage]
type = "file"
path = "customers.fs"
"""


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def of_json(*arguments: Any, code: int = 0) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    """A database that is compressed and encrypted."""
    perdure.storage.encrypting.write_new_key(tmp_path / "shop.key")
    path = tmp_path / "perdure.toml"
    path.write_text(TOML)
    db = open_database(path)
    for number in range(3):
        with db.transaction(note=f"change {number}") as connection:
            connection.root.shelf = PersistentMapping(text=LONG, number=number)
    with db.transaction(note="blob") as connection:
        connection.root.film = perdure.Blob(b"film")
    db.close()
    return path


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Two databases, the first of which is compressed."""
    path = tmp_path / "two.toml"
    path.write_text(TWO)
    with perdure.config.open_collection(path) as collection:
        for name, db in collection.items():
            with db.transaction(note=name) as connection:
                connection.root.shelf = PersistentMapping(text=LONG, name=name)
    return path


def test_looking_at_it_shows_what_is_in_the_layers(toml: Path) -> None:
    assert of_json("info", toml)["objects"] == 5
    assert [each["description"] for each in of_json("log", "-n", 2, toml)] == ["blob", "change 2"]
    names = {each["name"] for each in of_json("ls", toml)}
    assert names == {"shelf", "film"}
    assert LONG in of_json("show", toml, "/shelf")["state"]
    classes = {each["class_name"] for each in of_json("analyze", toml)["classes"]}
    assert classes == {"persistent.mapping.PersistentMapping", "ZODB.blob.Blob"}
    changes = of_json("diff", "--from", "2020-01-01", toml)
    assert {each["class"] for each in changes} == classes
    assert of_json("diff", toml, toml) == []
    assert run("shell", toml, "-c", "print(root.shelf['number'])").output == "2\n"
    assert run("shell", toml, "-c", "root.x = 1; commit()").exit_code != 0
    assert [each["ok"] for each in of_json("check", toml)] == [True]


def test_looking_at_it_changes_no_data_and_leaves_a_writer_alone(toml: Path) -> None:
    before = (toml.parent / "Data.fs").read_bytes()
    db = open_database(toml)
    for command in ("info", "log", "ls", "show", "analyze", "check", "diff"):
        assert run(command, toml).exit_code == 0
    db.close()
    assert (toml.parent / "Data.fs").read_bytes() == before


def test_undo_and_pack_go_through_the_layers(toml: Path) -> None:
    last = of_json("log", "-n", 1, toml)[0]
    steps = of_json("undo", "--dry-run", toml, last["tid"])
    assert {step["effect"] for step in steps} == {"restored", "removed"}
    assert of_json("undo", toml, last["tid"])["undone"] == last["tid"]
    assert {each["name"] for each in of_json("ls", toml)} == {"shelf"}
    (facts,) = of_json("pack", toml).values()
    assert facts["objects_before"] > facts["objects_after"]
    assert facts["bytes_before"] > facts["bytes_after"]
    assert of_json("check", toml)[0]["ok"]
    assert run("pack", "--no-old", toml).exit_code == 2


def test_the_shell_writes_through_the_layers(toml: Path) -> None:
    assert run("shell", "--write", toml, "-c", "root.x = 1; commit()").exit_code == 0
    assert {each["name"] for each in of_json("ls", toml)} == {"shelf", "film", "x"}


def test_blobs_are_checked_in_clear(toml: Path) -> None:
    (path,) = (toml.parent / "blobs").rglob("*.blob")
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1])
    (report,) = of_json("check", toml, code=3)
    assert [each["kind"] for each in report["findings"]] == ["blob"]


def test_export_and_import_go_through_the_layers(toml: Path, tmp_path: Path) -> None:
    assert run("export", toml, "/shelf", tmp_path / "shelf.zexp").exit_code == 0
    assert run("import", toml, tmp_path / "shelf.zexp", "again").exit_code == 0
    assert LONG in of_json("show", toml, "/again")["state"]


def test_a_copy_takes_off_layers_or_puts_them_on(toml: Path, tmp_path: Path) -> None:
    plain = f"file://{tmp_path}/plain.fs?blob_dir={tmp_path}/plain.blobs"
    assert "5 transactions" in run("copy", toml, plain).output
    assert LONG.encode() in (tmp_path / "plain.fs").read_bytes()
    assert LONG.encode() not in (tmp_path / "Data.fs").read_bytes()
    again = tmp_path / "again.toml"
    again.write_text(TOML.replace("Data.fs", "Again.fs").replace("blobs", "again.blobs"))
    assert "5 transactions" in run("copy", plain, again).output
    assert "0 transactions" in run("copy", plain, again).output
    assert LONG in of_json("show", again, "/shelf")["state"]
    assert of_json("check", again)[0]["ok"]
    assert LONG.encode() not in (tmp_path / "Again.fs").read_bytes()


def test_backup_restore_and_recover_take_the_file_below(toml: Path, tmp_path: Path) -> None:
    assert run("backup", toml, tmp_path / "backup").exit_code == 0
    assert run("backup", "--verify", tmp_path / "backup").exit_code == 0
    (tmp_path / "Data.fs").rename(tmp_path / "lost.fs")
    (tmp_path / "blobs").rename(tmp_path / "lost.blobs")
    for side in (tmp_path / "Data.fs.psums", tmp_path / "Data.fs.pindex"):
        side.unlink(missing_ok=True)
    assert run("restore", tmp_path / "backup", toml).exit_code == 0
    assert of_json("check", toml)[0]["ok"]
    assert LONG in of_json("show", toml, "/shelf")["state"]
    assert run("recover", toml, tmp_path / "recovered.fs").exit_code == 0
    recovered = tmp_path / "recovered.toml"
    recovered.write_text(TOML.replace("Data.fs", "recovered.fs"))
    assert LONG in of_json("show", recovered, "/shelf")["state"]


def test_a_uri_is_backed_up_and_restored_as_its_file_is(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/Data.fs?blob_dir={tmp_path}/blobs"
    db = open_database(uri)
    with db.transaction() as connection:
        connection.root.film = perdure.Blob(b"film")
    db.close()
    assert of_json("info", uri)["objects"] == 2
    assert of_json("backup", uri, tmp_path / "backup")["blobs"] == 1
    other = uri.replace("Data.fs", "Other.fs").replace("blobs", "other.blobs")
    assert run("restore", tmp_path / "backup", other).exit_code == 0
    assert of_json("check", other)[0]["ok"]
    assert len(list((tmp_path / "other.blobs").rglob("*.blob"))) == 1


def test_zconfig_describes_databases_as_well(tmp_path: Path) -> None:
    conf = tmp_path / "shop.conf"
    layered = (
        f"%import zc.zlibstorage\n<zodb main>\n<zlibstorage>\n<filestorage>\npath {tmp_path}/D.fs\n"
    )
    conf.write_text(f"{layered}</filestorage>\n</zlibstorage>\n</zodb>\n")
    with (
        perdure.config.open_collection(conf) as collection,
        collection.transaction() as connection,
    ):
        connection.root.shelf = PersistentMapping(text=LONG)
    before = (tmp_path / "D.fs").read_bytes()
    assert LONG.encode() not in before
    assert of_json("info", conf)["objects"] == 2
    assert LONG in of_json("show", "--member", "main", conf, "/shelf")["state"]
    assert (tmp_path / "D.fs").read_bytes() == before
    assert run("backup", conf, tmp_path / "backup").exit_code == 0
    conf.write_text("<zodb>\n<nonsense>\n</nonsense>\n</zodb>\n")
    done = run("info", conf)
    assert done.exit_code == 1
    assert "nonsense" in done.output


def test_a_member_is_chosen_by_name(two: Path) -> None:
    assert "orders" in of_json("show", two, "/shelf")["state"]
    assert "customers" in of_json("show", "--member", "customers", two, "/shelf")["state"]
    done = run("show", "--member", "suppliers", two)
    assert done.exit_code == 2
    assert "no member 'suppliers' among orders, customers" in done.output
    assert set(of_json("pack", two)) == {"orders", "customers"}
    assert set(of_json("pack", "--member", "orders", two)) == {"orders"}
    for command in ("info", "log", "pack"):
        assert run(command, "--member", "orders", two.parent / "customers.fs").exit_code == 2


def test_copies_go_to_the_members_of_the_same_names(two: Path, tmp_path: Path) -> None:
    target = tmp_path / "copies.toml"
    target.write_text(TWO.replace('.fs"', '.copy.fs"'))
    done = of_json("copy", two, target)
    assert {name: each["transactions"] for name, each in done.items()} == {
        "orders": 2,
        "customers": 2,
    }
    assert "orders" in of_json("show", target, "/shelf")["state"]
    done_wrong = run("copy", two, f"file://{tmp_path}/single.fs")
    assert done_wrong.exit_code == 2
    assert "customers, orders" in done_wrong.output


def test_what_can_not_be_is_refused_in_words(two: Path, toml: Path, tmp_path: Path) -> None:
    assert "2 databases" in run("recover", two, tmp_path / "new.fs").output
    memory = run("backup", "memory://x", tmp_path / "backup")
    assert memory.exit_code == 1
    assert "no data file" in memory.output
    missing = run("info", tmp_path / "none.toml")
    assert missing.exit_code == 1
    assert "none.toml: no such file" in missing.output
    (tmp_path / "shop.key").unlink()
    perdure.storage.encrypting.write_new_key(tmp_path / "shop.key")
    wrong_key = run("show", toml, "/shelf")
    assert wrong_key.exit_code == 1
    assert "key" in wrong_key.output
    assert len(wrong_key.output.splitlines()) == 1
    encrypted = run("undo", tmp_path / "Data.fs", "0" * 16)
    assert "perdure.toml" in encrypted.output


def test_writing_makes_no_database_where_there_is_none(toml: Path, tmp_path: Path) -> None:
    conf = tmp_path / "none.conf"
    conf.write_text(f"<zodb>\n<filestorage>\npath {tmp_path}/none.fs\n</filestorage>\n</zodb>\n")
    uri = f"file://{tmp_path}/none.fs"
    for source in (uri, f"demo:({uri})/(memory://)", conf):
        for command in (
            ("pack", source),
            ("shell", "--write", source, "-c", "1"),
            ("info", source),
        ):
            done = run(*command)
            assert done.exit_code == 1, command
            assert "none.fs" in done.output
    assert not (tmp_path / "none.fs").exists()
    wrong = run("info", f"{uri}?cache=3")
    assert "cache: unknown key" in wrong.output


def test_the_changes_of_an_overlay_are_packed(toml: Path, tmp_path: Path) -> None:
    (tmp_path / "demo.toml").write_text(
        '[database.storage]\ntype = "demo"\n'
        'base = { type = "file", path = "base.fs" }\n'
        'changes = { type = "file", path = "changes.fs" }\n'
    )
    perdure.DB(str(tmp_path / "base.fs")).close()
    for number in range(3):
        command = f"root.x = {number}; commit()"
        assert run("shell", "--write", tmp_path / "demo.toml", "-c", command).exit_code == 0
    (facts,) = of_json("pack", tmp_path / "demo.toml").values()
    assert facts["bytes_after"] < facts["bytes_before"]
    assert of_json("show", tmp_path / "demo.toml", "/x") == "2"


def test_the_layers_of_these_tests_are_what_the_file_says(toml: Path) -> None:
    db = open_database(toml)
    assert isinstance(db.storage, ZlibStorage)
    assert isinstance(db.storage.base, EncryptingStorage)
    transaction.abort()
    db.close()


def test_a_description_of_a_storage_alone_says_what_it_lacks(tmp_path: Path) -> None:
    storage = f"<filestorage>\n  path {tmp_path / 'Data.fs'}\n</filestorage>\n"
    perdure.DB(str(tmp_path / "Data.fs")).close()
    described = tmp_path / "storage.conf"
    described.write_text(storage)
    for command in (["info"], ["check"], ["shell", "--write", "-c", "pass"]):
        done = run(command[0], described, *command[1:])
        assert done.exit_code == 1
        assert "put that between <zodb> and </zodb>" in done.output
    described.write_text(f"<zodb>\n{storage}</zodb>\n")
    assert run("info", described).exit_code == 0
    described.write_text("<filestorage>\n  pth x\n</filestorage>\n")
    assert "between" not in run("info", described).output


def test_the_documented_overlay_is_looked_at_and_changed_from_the_shell(tmp_path: Path) -> None:
    base, changes = tmp_path / "base.fs", tmp_path / "changes.fs"
    for path in (base, changes):
        perdure.DB(str(path)).close()
    before, described = base.read_bytes(), tmp_path / "overlay.conf"
    described.write_text(
        f"""
        %import zc.demostorage2
        <zodb>
          <demostorage2>
            <filestorage base>
              path {base}
            </filestorage>
            <filestorage changes>
              path {changes}
            </filestorage>
          </demostorage2>
        </zodb>
        """
    )
    program = "root.new = perdure.PersistentMapping(); commit(); print(root.new._p_oid.hex())"
    done = run("shell", "--write", described, "-c", program)
    assert done.output == "8000000000000000\n"
    assert base.read_bytes() == before
    assert "PersistentMapping 0x8000000000000000" in run("ls", described).output
    assert run("check", described).exit_code == 0
