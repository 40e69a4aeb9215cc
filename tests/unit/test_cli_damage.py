"""What the commands say of damage, and of files that can't be written, called as a shell does."""

import json
from pathlib import Path
from typing import Any

import pytest
import transaction
from click.testing import CliRunner, Result
from persistent.mapping import PersistentMapping

import perdure
from perdure.cli import main


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(main, [str(each) for each in arguments])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database of the objects a and b, changed once."""
    file = tmp_path / "Data.fs"
    with perdure.DB(str(file)) as db:
        with db.transaction() as connection:
            for name in "ab":
                connection.root()[name] = PersistentMapping(text=f"first {name}")
        with db.transaction() as connection:
            for name in "ab":
                connection.root()[name]["text"] = f"second {name}"
    return file


def damage(path: Path, text: str, offset: int = 0) -> None:
    content = bytearray(path.read_bytes())
    content[content.index(text.encode()) + offset] ^= 1
    path.write_bytes(content)


def number_of(text: Path, name: str) -> str:
    with perdure.DB(str(text)) as db, db.transaction() as connection:
        return f"0x{int.from_bytes(connection.root()[name]._p_oid, 'big'):02x}"


def test_a_check_of_a_file_that_cannot_be_opened_names_the_object_and_the_way_on(
    path: Path,
) -> None:
    oid = number_of(path, "b")
    damage(path, "second b")
    with pytest.raises(perdure.errors.CorruptedError, match="perdure recover"):
        perdure.FileStorage(str(path))
    done = run("check", path)
    assert done.exit_code == 3
    (line,) = [line for line in done.output.splitlines() if f": {oid} " in line]
    assert "(persistent.mapping.PersistentMapping)" in line
    assert f"reached by 0x00 PersistentMapping > {oid} PersistentMapping" in line
    assert f"perdure recover {path} NEW_FILE" in done.output
    (report,) = json.loads(run("check", "--json", path).stdout)
    (finding,) = [each for each in report["findings"] if each["oid"] is not None]
    assert finding["class_name"] == "persistent.mapping.PersistentMapping"


def test_a_check_of_a_file_of_broken_structure_names_objects_without_checksums(path: Path) -> None:
    numbers = {number_of(path, name) for name in "ab"}
    path.with_name("Data.fs.psums").unlink()
    with perdure.DB(str(path)) as db, db.transaction() as connection:
        connection.root()["later"] = 1
    path.with_name("Data.fs.psums").unlink()
    # The length in the header of a's second record, behind which its two pickles begin.
    content = path.read_bytes()
    position = content.rindex(b"\x80\x03cpersistent.mapping", 0, content.index(b"second a"))
    changed = bytearray(content)
    changed[position - 1] ^= 1
    path.write_bytes(changed)
    done = run("check", path)
    assert done.exit_code == 3
    for oid in numbers:
        assert f": {oid} (persistent.mapping.PersistentMapping), written by" in done.output
    assert "perdure recover" in done.output


def test_recover_names_what_it_left_out_and_ends_with_code_3(path: Path, tmp_path: Path) -> None:
    oid = number_of(path, "a")
    damage(path, "second a")
    done = run("recover", path, tmp_path / "new.fs")
    assert done.exit_code == 3
    (line,) = [line for line in done.output.splitlines() if "left out" in line]
    assert f": {oid} (persistent.mapping.PersistentMapping)" in line
    assert "is current now" in line
    facts = json.loads(run("recover", "--json", path, tmp_path / "again.fs").stdout)
    assert facts["ok"] is False
    assert facts["lost_records"][0]["class_name"] == "persistent.mapping.PersistentMapping"


def test_a_folder_that_is_not_there_is_told_with_the_file_to_export_to(path: Path) -> None:
    target = path.parent / "none" / "out"
    done = run("export", path, "/a", target)
    assert (done.exit_code, done.output) == (1, f"Error: {target}: No such file or directory\n")


@pytest.mark.parametrize("command", ["copy", "recover", "restore"])
def test_the_folder_of_a_target_is_told_where_it_is_not_there(
    command: str, path: Path, tmp_path: Path
) -> None:
    target = tmp_path / "none" / "out"
    run("backup", path, tmp_path / "backup")
    given = {"copy": (path,), "recover": (path,), "restore": (tmp_path / "backup",)}
    done = run(command, *given[command], target)
    assert done.exit_code == 1
    assert done.output == (
        f"Error: {target.parent}: there is no such folder: make it first, or choose another place\n"
    )
    assert not target.parent.exists()


def test_import_says_which_option_helps_where_a_member_is_not_there(
    path: Path, tmp_path: Path
) -> None:
    names = ("orders", "customers")
    members = {name: perdure.FileStorage(str(tmp_path / f"{name}.fs")) for name in names}
    with perdure.Collection(members) as collection:
        with collection.transaction() as connection:
            customer = connection["customers"].root()["ada"] = PersistentMapping()
            connection["customers"].add(customer)
            connection["orders"].root()["one"] = PersistentMapping(of=customer)
        connection = collection["orders"].open(transaction.TransactionManager())
        oid = connection.root()["one"]._p_oid
        connection.exportFile(oid, tmp_path / "one.pexc", follow=True).close()
        connection.close()
    done = run("import", path, tmp_path / "one.pexc", "one")
    assert done.exit_code == 1
    assert "'customers'" in done.output
    assert "--rename customers=" in done.output
    assert "importFile" not in done.output
    option = done.output.split("--rename ")[1].strip()
    assert run("import", "--rename", option, path, tmp_path / "one.pexc", "one").exit_code == 0


def test_a_backup_is_restored_from_the_newest_full_one(path: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    assert run("backup", path, backup).exit_code == 0
    with perdure.DB(str(path)) as db, db.transaction() as connection:
        connection.root()["later"] = 1
    assert run("backup", "--full", path, backup).exit_code == 0
    assert run("restore", backup, tmp_path / "new.fs").exit_code == 0
    assert (tmp_path / "new.fs").read_bytes() == path.read_bytes()


def test_a_moment_is_restored_as_it_was_and_from_a_newer_full_backup_if_need_be(
    path: Path, tmp_path: Path
) -> None:
    backup, before = tmp_path / "backup", path.read_bytes()
    run("backup", path, backup)
    with perdure.DB(str(path)) as db:
        moment = db.storage.lastTransaction().hex()
        with db.transaction() as connection:
            connection.root()["later"] = 1
    run("backup", "--full", path, backup)
    assert run("restore", "--at", moment, backup, tmp_path / "one.fs").exit_code == 0
    assert (tmp_path / "one.fs").read_bytes() == before
    (oldest,) = backup.glob("0001-*.part")
    oldest.write_bytes(b"damaged")
    assert run("restore", "--at", moment, backup, tmp_path / "two.fs").exit_code == 0
    assert (tmp_path / "two.fs").read_bytes() == before
    for part in backup.glob("*.part"):
        part.write_bytes(b"damaged")
    done = run("restore", "--at", moment, backup, tmp_path / "three.fs")
    assert done.exit_code == 1
    assert "is damaged" in done.output
    assert not list(tmp_path.glob("three.fs*"))


def test_a_backup_goes_into_no_folder_that_holds_something_else(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(b"a cat")
    for source in ([path], [f"one={path}", f"two={path}"]):
        done = run("backup", *source, folder)
        assert done.exit_code == 1
        assert "holds no backup but something else, such as cat.jpg" in done.output
        assert [each.name for each in folder.iterdir()] == ["cat.jpg"]
    (folder / "cat.jpg").unlink()
    assert run("backup", path, folder).exit_code == 0
    assert run("backup", path, folder).exit_code == 0


def test_backups_of_one_kind_are_not_mixed_with_the_other(path: Path, tmp_path: Path) -> None:
    members = [f"one={path}", f"two={path}"]
    assert run("backup", path, tmp_path / "single").exit_code == 0
    assert run("backup", *members, tmp_path / "both").exit_code == 0
    mixed = run("backup", *members, tmp_path / "single")
    assert mixed.exit_code == 1
    assert "holds the backup of one data file, not of a collection" in mixed.output
    mixed = run("backup", path, tmp_path / "both")
    assert mixed.exit_code == 1
    assert "holds the backup of a collection, not of one data file" in mixed.output
    assert run("backup", "--verify", tmp_path / "single").exit_code == 0
    assert run("backup", "--verify", tmp_path / "both").exit_code == 0


def test_a_first_backup_that_was_cut_short_is_made_again(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    assert run("backup", path, folder).exit_code == 0
    (folder / "manifest.json").unlink()
    assert run("backup", path, folder).exit_code == 0
    assert run("backup", "--verify", folder).exit_code == 0


ENCODED = {"zlib": "compressed with zlib", "zstd": "compressed with Zstandard", "key": "encrypted"}


@pytest.fixture(params=ENCODED)
def encoded(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, str]:
    """A data file under a layer, what describes it, and what it looks like without."""
    from perdure.storage import EncryptingStorage, ZstdStorage
    from perdure.storage.encrypting import write_new_key
    from perdure.storage.zlib import ZlibStorage

    file, described = tmp_path / "Data.fs", tmp_path / "perdure.toml"
    base = perdure.FileStorage(str(file))
    layers: dict[str, tuple[Any, str]] = {
        "zlib": (ZlibStorage, "type = 'zlib'"),
        "zstd": (ZstdStorage, "type = 'zstd'"),
        "key": (
            lambda base: EncryptingStorage(base, str(tmp_path / "key")),
            "type = 'encrypting', key_file = 'key'",
        ),
    }
    write_new_key(tmp_path / "key")
    layer, text = layers[request.param]
    with perdure.DB(layer(base)) as db, db.transaction() as connection:
        for number in range(20):
            connection.root()[number] = PersistentMapping(text="x" * 200)
    base_text = "base = {type = 'file', path = 'Data.fs'}"
    described.write_text(f"[databases.main]\nstorage = {{{text}, {base_text}}}\n")
    return file, described, ENCODED[request.param]


def test_a_file_that_only_its_layers_can_read_is_told_with_the_way_on(
    encoded: tuple[Path, Path, str],
) -> None:
    file, described, looks = encoded
    for command, code in (("check", 3), ("ls", 1), ("show", 1), ("info", 0)):
        done = run(command, file)
        assert done.exit_code == code
        (line,) = [line for line in done.output.splitlines() if f"it looks {looks}: give" in line]
        assert "perdure.toml" in line
        assert run(command, described).exit_code == 0
    assert "damaged" not in run("check", file).output
    assert f"({looks})" in run("analyze", file).output
    (report,) = json.loads(run("check", "--json", file).stdout)
    assert {each["encoding"] for each in report["findings"]} == {looks}
    assert json.loads(run("info", "--json", file).stdout)["encoding"] == looks


def test_a_storage_below_layers_is_told_apart_from_a_damaged_one(
    encoded: tuple[Path, Path, str],
) -> None:
    file, _, looks = encoded
    storage = perdure.FileStorage(str(file), read_only=True)
    found = perdure.check(storage).findings
    found += perdure.check_collection({"main": storage})["main"].findings
    storage.close()
    assert {each.encoding for each in found} == {looks}
