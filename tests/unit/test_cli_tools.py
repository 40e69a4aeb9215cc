"""The commands for looking after databases, called as a shell calls them."""

import contextlib
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from persistent.mapping import PersistentMapping
from tests.storing import commit

import perdure
from perdure.cli import main

DATA = Path(__file__).parents[1] / "data"
COMMANDS = sorted(main.commands)


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


def of_json(*arguments: Any, code: int = 0) -> Any:
    done = run(*arguments, "--json")
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy of a data file of stock."""
    path = tmp_path / "Data.fs"
    shutil.copy(DATA / "basic.fs", path)
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str) -> None:
    done = run(command, "--help")
    assert done.exit_code == 0
    assert f"Example: perdure {command}" in done.output


@pytest.mark.parametrize("command", ["analyze", "check", "diff", "info", "log", "ls", "show"])
def test_a_file_that_is_not_there_is_an_error_of_one_line(command: str, tmp_path: Path) -> None:
    done = run(command, tmp_path / "none.fs")
    assert done.exit_code == 1
    assert "none.fs" in done.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["analyze", "check", "diff", "info", "log", "ls", "show"])
def test_looking_changes_nothing(command: str, file: Path) -> None:
    assert run(command, file).exit_code == 0
    assert list(file.parent.iterdir()) == [file]
    assert file.read_bytes() == (DATA / "basic.fs").read_bytes()


def test_check_tells_scripts_whether_something_is_wrong() -> None:
    assert of_json("check", DATA / "basic.fs")[0]["ok"] is True
    (report,) = of_json("check", DATA / "damaged_middle.fs", code=3)
    assert report["findings"][0]["path"][-1]["class_name"] == "BTrees.OOBTree.OOBucket"
    done = run("check", DATA / "damaged_middle.fs")
    assert "0xae (BTrees.OOBTree.OOBucket)" in done.output


def test_check_looks_at_blobs_where_it_is_told_where_they_are(tmp_path: Path) -> None:
    shutil.copytree(DATA / "blobs.d", tmp_path / "blobs")
    file = shutil.copy(DATA / "blobs.fs", tmp_path)
    assert of_json("check", "--blob-dir", tmp_path / "blobs", file)[0]["ok"] is True
    assert of_json("check", f"main={file},{tmp_path / 'blobs'}")[0]["ok"] is True
    lost = min((tmp_path / "blobs").rglob("*.blob"))
    lost.unlink()
    for argument in ([file, "--blob-dir", tmp_path / "blobs"], [f"main={file},{tmp_path}/blobs"]):
        (report,) = of_json("check", *argument, code=3)
        (finding,) = report["findings"]
        assert finding["kind"] == "blob"
        assert str(lost) in finding["problem"]
    assert run("check", "--blob-dir", tmp_path / "none", file).exit_code == 1


def test_check_takes_a_collection() -> None:
    assert run("check", f"a={DATA}/multi_a.fs", f"b={DATA}/multi_b.fs").exit_code == 0
    alone = run("check", f"a={DATA}/multi_a.fs", f"c={DATA}/multi_b.fs")
    assert alone.exit_code == 3
    assert "isn't in the collection" in alone.output


def test_recover_says_what_is_lost(tmp_path: Path) -> None:
    done = run("recover", DATA / "truncated.fs", tmp_path / "new.fs")
    assert done.exit_code == 3
    assert "bytes 163543 to 163626" in done.output
    assert run("check", tmp_path / "new.fs").exit_code == 0


def test_copy_goes_on_where_it_was(file: Path, tmp_path: Path) -> None:
    assert of_json("copy", file, tmp_path / "copy.fs")["transactions"] == 25
    assert of_json("copy", file, tmp_path / "copy.fs")["transactions"] == 0


def test_objects_are_walked_over_by_path_without_their_classes() -> None:
    names = {each["name"] for each in of_json("ls", DATA / "basic.fs")}
    assert {"trees", "books"} <= names
    assert len(of_json("ls", DATA / "basic.fs", "/trees/OO", "--limit", 1000)) > 100
    assert of_json("show", DATA / "basic.fs", "/counter")["class"] == "sample_classes.Counter"
    assert of_json("show", DATA / "basic.fs", "#0x0")["oid"] == "00" * 8
    assert "title: 'Book 0" in run("show", DATA / "basic.fs", "/books/0").output


def test_the_past_can_be_walked_over() -> None:
    first = of_json("log", DATA / "basic.fs", "--limit", 100)[-1]["tid"]
    assert of_json("ls", DATA / "basic.fs", "--at", first) == []


def test_an_object_that_is_not_there_or_was_not_yet_is_an_error_that_says_so() -> None:
    for options in (["#0xffff"], ["--at", "2001-01-01"]):
        done = run("show", DATA / "basic.fs", *options)
        assert done.exit_code == 1
        assert "there is no such object" in done.output


@pytest.mark.parametrize("name", ["#", "#zz", "#0x" + "f" * 17])
def test_a_path_that_begins_with_no_oid_is_an_error(name: str) -> None:
    done = run("show", DATA / "basic.fs", name)
    assert done.exit_code == 1
    assert done.output == f"Error: {name!r} is no oid such as '#0x2a'\n"


def test_plain_lists_and_dicts_are_walked_into(tmp_path: Path) -> None:
    file = tmp_path / "Data.fs"
    with perdure.DB(str(file)) as db, db.transaction() as connection:
        held = PersistentMapping()
        connection.root.plain = [1, [2, {"a": (3, held)}], []]
    assert [row["name"] for row in of_json("ls", file, "/plain")] == ["0", "1", "2"]
    assert of_json("ls", file, "/plain/1/1/a")[0] == {"name": "0", "value": "3"}
    assert of_json("show", file, "/plain/1/1/a/1")["class"].endswith("PersistentMapping")
    assert of_json("ls", file, "/plain/2") == []
    number = run("ls", file, "/plain/0")
    assert (number.exit_code, number.output) == (1, "Error: /plain/0 is a plain value: 1\n")


@pytest.mark.parametrize("command", ["ls", "show"])
def test_a_small_record_of_endless_or_very_deep_values_is_shown_in_part(
    command: str, tmp_path: Path
) -> None:
    shared: list[Any] = []
    for _ in range(34):
        shared = [shared, shared]
    deep = b"(" * 5_000 + b"l" * 5_000
    state = b"}(X\x01\0\0\0a" + pickle.dumps(shared, 3)[2:-1] + b"X\x01\0\0\0b" + deep + b"u."
    with contextlib.closing(perdure.FileStorage(str(tmp_path / "Data.fs"))) as storage:
        commit(storage, {0: b"\x80\x03cshop\nItem\n.\x80\x03" + state})
    done = run(command, tmp_path / "Data.fs")
    assert done.exit_code == 0
    assert "..." in done.output
    assert len(done.output) < 10_000_000


@pytest.mark.parametrize("command", ["ls", "show", "export"])
def test_an_object_of_another_member_is_told(command: str, tmp_path: Path) -> None:
    target = [tmp_path / "out"] if command == "export" else []
    for path in ("/far", "/far/title"):
        done = run(command, DATA / "multi_a.fs", path, *target)
        assert done.exit_code == 1
        assert "/far is a <reference to 0x02 in 'b'>" in done.output
        assert not list(tmp_path.iterdir())


def test_a_path_that_leads_nowhere_is_an_error() -> None:
    done = run("ls", DATA / "basic.fs", "/trees/none")
    assert done.exit_code == 1
    assert "'none' in /trees" in done.output


def test_pack_makes_a_file_smaller(file: Path) -> None:
    facts = of_json("pack", file)
    assert facts["bytes_after"] == file.stat().st_size < facts["bytes_before"]
    assert of_json("pack", file) == {"packed": False}


def test_members_are_packed_by_name(tmp_path: Path) -> None:
    with perdure.Collection({name: tmp_path / f"{name}.fs" for name in ("a", "b")}) as made:
        with made.transaction() as conn:
            conn["b"].root.kept = conn.root.other = PersistentMapping()
            conn["b"].add(conn.root.other)
        with made.transaction() as conn:
            del conn["b"].root.kept
    named = [f"{name}={tmp_path / name}.fs" for name in ("a", "b")]
    assert set(of_json("pack", *named)) == {"a", "b"}
    assert not (tmp_path / "c.fs").exists()
    assert (tmp_path / "a.fs.old").exists()
    paths = {name: tmp_path / f"{name}.fs" for name in ("a", "b")}
    with perdure.Collection(paths) as made, made.transaction() as conn:
        assert conn.root.other == {}
        conn.root.more = 1
    (tmp_path / "a.fs.old").unlink()
    assert set(of_json("pack", "--no-old", "--member", "a", *named)) == {"a"}
    assert not (tmp_path / "a.fs.old").exists()
    assert run("pack", "--blob-dir", tmp_path, *named).exit_code == 2
    missing = run("pack", *named, f"c={tmp_path / 'c.fs'}")
    assert missing.exit_code == 1
    assert "(member 'c'): no such file" in missing.output


def test_a_file_that_refers_to_others_is_only_packed_without_dropping_objects(
    tmp_path: Path,
) -> None:
    path = tmp_path / "multi_a.fs"
    shutil.copy(DATA / "multi_a.fs", path)
    refused = run("pack", path)
    assert refused.exit_code == 1
    assert "isn't at hand" in refused.output
    assert path.read_bytes() == (DATA / "multi_a.fs").read_bytes()
    assert run("pack", "--no-gc", path).exit_code == 0


def test_undo_says_first_what_it_would_do(file: Path) -> None:
    tid = of_json("log", file, "--limit", 1)[0]["tid"]
    steps = of_json("undo", "--dry-run", file, tid)
    assert steps
    assert of_json("undo", file, tid)["undone"] == tid
    assert of_json("log", file, "--limit", 1)[0]["records"] == len(steps)


def test_a_dry_run_of_undo_says_what_is_in_the_way_and_tells_scripts(file: Path) -> None:
    for number in range(2):
        assert run("shell", "--write", file, "-c", f"root.x = {number}; commit()").exit_code == 0
    last, before = (each["tid"] for each in of_json("log", file, "--limit", 2))
    possible = run("undo", "--dry-run", file, last)
    assert (possible.exit_code, possible.output) == (
        0,
        "0x00 persistent.mapping.PersistentMapping: restored\n",
    )
    impossible = run("undo", "--dry-run", file, before)
    assert impossible.exit_code == 3
    assert f": impossible: the object was changed later by 0x{last}" in impossible.output
    assert of_json("undo", "--dry-run", file, before, code=3)[0]["effect"] == "impossible"
    assert run("undo", file, before).exit_code == 1


def test_undo_refuses_what_only_the_key_can_undo(tmp_path: Path) -> None:
    pytest.importorskip("cryptography")
    from perdure.storage.encrypting import EncryptingStorage

    path = tmp_path / "Data.fs"
    db = perdure.DB(EncryptingStorage(perdure.FileStorage(str(path)), bytes(32)))
    with db.transaction() as connection:
        connection.root.x = 1
    db.close()
    before = path.read_bytes()
    done = run("undo", path, of_json("log", path)[0]["tid"])
    assert done.exit_code == 1
    assert "is encrypted" in done.output
    assert path.read_bytes() == before


def test_what_is_exported_can_be_imported(file: Path, tmp_path: Path) -> None:
    assert run("export", file, "/counter", tmp_path / "counter.zexp").exit_code == 0
    assert run("import", file, tmp_path / "counter.zexp", "again").exit_code == 0
    assert of_json("show", file, "/again")["class"] == "sample_classes.Counter"
    taken = run("import", file, tmp_path / "counter.zexp", "again")
    assert taken.exit_code == 1
    assert "has 'again' already" in taken.output


def test_analyze_counts_by_class() -> None:
    classes = of_json("analyze", DATA / "basic.fs")["classes"]
    books = next(each for each in classes if each["class_name"] == "sample_classes.Book")
    assert books["objects"] == 50
    assert books["records"] >= books["objects"]
    assert "sample_classes.Book" in run("analyze", DATA / "basic.fs").output
    largest = of_json("analyze", "--limit", 1, DATA / "basic.fs")["classes"]
    assert [each["class_name"] for each in largest] == [classes[0]["class_name"]]


def test_names_are_never_cut_where_programs_read_on(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Who says how wide it is to be gets that; whoever runs the tests may have said so.
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "PersistentMappingWithAVeryLongName" * 4
    program = f"""
from persistent.mapping import PersistentMapping
made = type("{name}", (PersistentMapping,), {{"__module__": "__main__"}})
import __main__; __main__.{name} = made
root.long = made(); commit()
"""
    assert run("shell", "--write", file, "-c", program).exit_code == 0
    assert f"__main__.{name}" in run("analyze", "--limit", 50, file).output


def test_diff_tells_what_changed(file: Path, tmp_path: Path) -> None:
    shutil.copy(file, tmp_path / "old.fs")
    tid = of_json("log", file, "--limit", 1)[0]["tid"]
    assert run("shell", "--write", file, "-c", "root.x = 1; commit()").exit_code == 0
    assert [each["change"] for each in of_json("diff", tmp_path / "old.fs", file)] == ["changed"]
    assert [each["oid"] for each in of_json("diff", "--from", tid, file)] == ["00" * 8]
    assert "no differences" in run("diff", file, file).output


def test_who_refers_to_an_object(file: Path) -> None:
    assert len(of_json("referrers", file, "0xcb")) >= 2
    kept = file.with_name("Data.fs.refs")
    assert kept.stat().st_mode & 0o007 == 0  # as the data file is made


def test_the_shell_is_read_only_unless_asked(file: Path) -> None:
    done = run("shell", file, "-c", "print(sorted(root()))")
    assert "'books'" in done.output
    assert run("shell", file, "-c", "root.x = 1; commit()").exit_code != 0


def test_what_a_program_in_the_shell_does_wrong_is_told_as_python_does(file: Path) -> None:
    done = run("shell", file, "-c", "def f():\n    1 / 0\nf()")
    assert done.exit_code == 1
    assert done.stderr.splitlines()[0] == "Traceback (most recent call last):"
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"
    assert "perdure" not in done.stderr
    assert run("shell", file, "-c", "raise SystemExit(7)").exit_code == 7


def test_what_is_no_oid_is_a_wrong_call(file: Path) -> None:
    done = run("referrers", file, "zz")
    assert done.exit_code == 2
    assert "'zz' is no oid such as 0x2a" in done.output


def test_a_damaged_object_can_not_be_exported_and_is_named(tmp_path: Path) -> None:
    done = run("export", DATA / "damaged_middle.fs", "/", tmp_path / "all.zexp")
    assert done.exit_code == 1
    assert "the record of 0xae can't be read" in done.output
    assert list(tmp_path.iterdir()) == []


def test_a_backup_takes_what_is_new_and_is_restored_to_any_moment(
    file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "backup"
    assert of_json("backup", file, folder)["full"] is True
    tid = of_json("log", file, "--limit", 1)[0]["tid"]
    before = file.read_bytes()
    run("shell", "--write", file, "-c", "root.x = 1; commit()")
    assert of_json("backup", file, folder)["full"] is False
    assert of_json("backup", file, folder)["file"] is None
    assert of_json("backup", "--verify", folder) == []
    assert run("restore", folder, tmp_path / "last.fs").exit_code == 0
    assert run("restore", "--at", tid, folder, tmp_path / "earlier.fs").exit_code == 0
    assert (tmp_path / "last.fs").read_bytes() == file.read_bytes()
    assert (tmp_path / "earlier.fs").read_bytes() == before
    assert run("restore", folder, tmp_path / "last.fs").exit_code == 1


def test_a_backup_begins_anew_after_a_pack(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    run("backup", file, folder)
    run("pack", file)
    assert of_json("backup", file, folder)["full"] is True
    assert run("restore", folder, tmp_path / "new.fs").exit_code == 0
    assert (tmp_path / "new.fs").read_bytes() == file.read_bytes()


def test_a_damaged_backup_is_found_and_not_restored(file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    part = folder / of_json("backup", file, folder)["file"]
    content = bytearray(part.read_bytes())
    content[5000] ^= 1
    part.write_bytes(content)
    done = run("backup", "--verify", folder)
    assert done.exit_code == 3
    assert "damaged" in done.output
    assert run("restore", folder, tmp_path / "new.fs").exit_code == 1
    assert not (tmp_path / "new.fs").exists()
    assert run("restore", tmp_path / "none", tmp_path / "new.fs").exit_code == 1


def test_a_wrong_call_of_a_command_says_what_is_wrong_with_it(file: Path, tmp_path: Path) -> None:
    before = file.read_bytes()
    export = shutil.copy(DATA / "books.zexp", tmp_path)
    for code, problem, *arguments in (
        (
            1,
            f"Error: {tmp_path}/none.fs: No such file or directory\n",
            "check",
            tmp_path / "none.fs",
        ),
        (1, f"Error: {tmp_path}: Is a directory\n", "check", tmp_path),
        (1, f"Error: {tmp_path}: a folder, not a data file\n", "pack", tmp_path),
        (1, "none: no such folder", "pack", "--blob-dir", tmp_path / "none", file),
        (2, "nan is no number of days", "pack", "--days", "nan", file),
        (2, "inf is no number of days", "pack", "--days", "inf", file),
        (
            2,
            "--from is later than --to",
            "diff",
            "--from",
            "2026-05-02",
            "--to",
            "2026-05-01",
            file,
        ),
        (2, "two moments of one file", "diff", "--from", "2026-05-02", file, file),
        (2, "neither a tid nor a time", "diff", "--from", "040d278105ff9e4", file),
        (2, "NAME is empty", "import", file, export, ""),
        (1, "is no export file: it was left as it is", "export", file, "/", file),
    ):
        done = run(*arguments)
        assert done.exit_code == code, arguments
        assert problem in done.output
    assert file.read_bytes() == before
    assert {each.name for each in tmp_path.iterdir()} <= {"Data.fs", "Data.fs.lock", "books.zexp"}


def test_programs_are_listed_all_there_is_and_people_the_first(tmp_path: Path) -> None:
    with perdure.DB(str(tmp_path / "many.fs")) as db, db.transaction() as connection:
        connection.root.all = perdure.PersistentMapping({f"{n:03}": n for n in range(150)})
    arguments = ("ls", tmp_path / "many.fs", "/all")
    assert len(of_json(*arguments)) == 150
    assert len(of_json(*arguments, "--limit", 7)) == 7
    shown = run(*arguments).output.splitlines()
    assert (len(shown), shown[-1]) == (101, "... and more: --limit shows more than 100")
    assert len(run(*arguments, "--limit", 150).output.splitlines()) == 150


def test_an_object_that_nothing_refers_to_is_told_as_such(file: Path) -> None:
    assert run("referrers", file, "0x0").output == "nothing refers to 0x0\n"
    assert of_json("referrers", file, "0x0") == []
