"""`perdure demo`, run as a user runs it."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import perdure
from perdure.demo import DemoError, Package, open_demo

STATUS = "\n".join(
    f"""\
Package: part{number}
Status: install ok installed
Version: 1.{number}
Section: {"libs" if number % 2 else "main"}
Installed-Size: {number}
Maintainer: Team {number % 3} <team{number % 3}@example.org>
Depends: part{(number + 1) % 40}, part0 | none{", missing" if number == 7 else ""}
Description: number {number}
"""
    for number in range(40)
)


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Any:
    return subprocess.run(
        [sys.executable, "-m", "perdure.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **(env or {})},
    )


@pytest.fixture(scope="module")
def status(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("status") / "status"
    path.write_text(STATUS)
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, status: Path) -> tuple[Path, dict[str, Any]]:
    """The demonstration's folder, and its report."""
    directory = tmp_path_factory.mktemp("demo")
    done = run("demo", directory, "--status", status, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return directory, json.loads(done.stdout)


def test_report_tells_what_was_stored(made: tuple[Path, dict[str, Any]]) -> None:
    directory, report = made
    stored = report["stored"]
    assert (stored["packages"], stored["maintainers"]) == (40, 3)
    assert (stored["dependencies"], stored["unsatisfied"]) == (81, 1)
    assert {member["file"] for member in stored["members"]} == {
        str(directory / "packages.fs"),
        str(directory / "maintainers.fs"),
    }
    assert all(member["size_bytes"] > 1000 for member in stored["members"])


def test_tour_takes_every_step(made: tuple[Path, dict[str, Any]]) -> None:
    _, report = made
    text = {step["title"]: "\n".join(step["lines"]) for step in report["steps"]}
    assert len(text) == 6
    assert "238 references followed" in text["Follow references both ways, between the databases"]
    assert "most needed: part0 1.0, by 40 packages" in "\n".join(text.values())
    assert "raised by 1 and by 10 at once: 11" in "\n".join(text.values())
    assert (
        "perdure.demo.model.Package" in text["Two writers at once: the conflict that is an error"]
    )
    assert "counter 0" in text["Look at an earlier state"]


def test_database_that_is_left_holds_the_graph(made: tuple[Path, dict[str, Any]]) -> None:
    directory, _ = made
    with open_demo(directory) as demo:
        connection = demo.packages.open()
        root = connection.root
        package = root.packages["part7"]
        assert isinstance(package, Package)
        assert [need.asked for need in package.depends] == ["part8", "part0 | none", "missing"]
        assert [each.name for each in package.needs()] == ["part8", "part0"]
        assert len(package.needs_all()) == 40
        assert package.maintainer.packages["part7"] is package
        assert package.maintainer._p_jar.db() is demo.maintainers
        assert "part7" in root.sections["libs"]
        assert list(root.sizes.keys((38, ""))) == [(38, "part38"), (39, "part39")]
        connection.close()


def test_it_replaces_its_own_databases_when_run_again(tmp_path: Path, status: Path) -> None:
    first = run("demo", tmp_path / "new", "--status", status, "--json")
    again = run("demo", tmp_path / "new", "--status", status)
    assert (first.returncode, again.returncode, again.stderr) == (0, 0, "")
    assert "Stored 40 packages" in again.stdout
    with open_demo(tmp_path / "new") as demo:
        assert len(list(demo.packages.storage.iterator())) == 7


def test_it_leaves_a_folder_with_something_else_alone(tmp_path: Path, status: Path) -> None:
    (tmp_path / "packages.fs").write_text("mine")
    done = run("demo", tmp_path, "--status", status)
    assert done.returncode == 1
    assert "holds something else" in done.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["packages.fs"]
    assert (tmp_path / "packages.fs").read_text() == "mine"


def test_it_says_so_while_another_process_has_its_databases_open(
    tmp_path: Path, status: Path
) -> None:
    assert run("demo", tmp_path, "--status", status).returncode == 0
    with open_demo(tmp_path):
        done = run("demo", tmp_path, "--status", status)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(os.getpid()) in done.stderr
    with open_demo(tmp_path) as demo:
        assert demo.packages.objectCount() > 40


def test_a_status_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("something else\n")
    done = run("demo", tmp_path / "new", "--status", tmp_path / "status", "--source", "dpkg")
    assert done.returncode == 1
    assert "line 1" in done.stderr


def test_a_status_file_without_packages_is_refused(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("")
    done = run("demo", tmp_path / "new", "--status", tmp_path / "status")
    assert done.returncode == 1
    assert "no package is installed" in done.stderr
    assert not (tmp_path / "new").exists()


def test_a_demonstration_that_was_interrupted_can_be_made_again(
    tmp_path: Path, status: Path
) -> None:
    assert run("demo", tmp_path, "--status", status).returncode == 0
    (tmp_path / "maintainers.fs").unlink()
    with pytest.raises(DemoError), open_demo(tmp_path):
        pass
    assert not (tmp_path / "maintainers.fs").exists()
    assert run("demo", tmp_path, "--status", status).returncode == 0


def test_python_distributions_are_the_source_where_dpkg_is_not(tmp_path: Path) -> None:
    done = run("demo", tmp_path / "new", "--status", tmp_path / "none", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    stored = json.loads(done.stdout)["stored"]
    assert stored["source"].startswith("the Python distributions")
    assert stored["packages"] > 5


def test_opening_where_there_is_no_demonstration(tmp_path: Path) -> None:
    with pytest.raises(DemoError, match="perdure demo"), open_demo(tmp_path):
        pass


def test_what_the_report_says_to_try_next_works(made: tuple[Path, dict[str, Any]]) -> None:
    directory, _ = made
    databases: dict[str, Any] = {}
    packages = perdure.DB(
        str(directory / "packages.fs"), database_name="packages", databases=databases
    )
    maintainers = perdure.DB(
        str(directory / "maintainers.fs"), database_name="maintainers", databases=databases
    )
    root = packages.open().root
    most = max(root.packages.values(), key=lambda each: len(each.required_by))
    assert repr(most) == "<Package part0 1.0>"
    packages.close()
    maintainers.close()
