"""The alias itself: where ``import ZODB`` leads, and in which processes."""

from pathlib import Path

from tests.interop.programs import checked, run, run_code

from perdure.compat import CompatError

WHERE_IS_ZODB = "import ZODB; print('perdure/compat' in ZODB.__file__)"


def test_install_makes_zodb_mean_perdure() -> None:
    assert run_code(f"import perdure.compat; perdure.compat.install(); {WHERE_IS_ZODB}") == "True"


def test_without_the_alias_zodb_is_stock() -> None:
    assert run_code(WHERE_IS_ZODB) == "False"


def test_importing_perdure_compat_alone_changes_nothing() -> None:
    assert run_code(f"import perdure.compat; {WHERE_IS_ZODB}") == "False"


def test_install_twice_is_install_once() -> None:
    code = """
        import sys, perdure.compat
        assert not perdure.compat.is_installed()
        perdure.compat.install()
        finders = list(sys.meta_path)
        perdure.compat.install()
        print(sys.meta_path == finders, perdure.compat.is_installed())
    """
    assert run_code(code) == "True True"


def test_install_refuses_when_stock_zodb_was_imported_before() -> None:
    done = run("-c", "import ZODB.utils, perdure.compat; perdure.compat.install()")
    assert done.returncode == 1
    assert CompatError.__name__ in done.stderr
    assert "stock ZODB is already imported (ZODB from " in done.stderr
    assert "before the first import of ZODB" in done.stderr


def test_a_refused_install_leaves_stock_zodb_as_it_was() -> None:
    code = """
        import ZODB, perdure.compat
        try:
            perdure.compat.install()
        except ImportError:
            import ZODB.fsIndex
            print(perdure.compat.is_installed(), 'perdure/compat' in ZODB.fsIndex.__file__)
    """
    assert run_code(code) == "False False"


def test_a_child_process_has_the_alias_too() -> None:
    code = f"""
        import subprocess, sys, perdure.compat
        perdure.compat.install()
        subprocess.run([sys.executable, "-c", {WHERE_IS_ZODB!r}], check=True)
    """
    assert run_code(code) == "True"


def test_a_child_that_ignores_pythons_own_variables_has_the_alias_too() -> None:
    assert checked(run("-I", "-c", WHERE_IS_ZODB, alias=True)) == "True"


def test_a_child_that_never_imports_zodb_never_imports_perdure() -> None:
    assert run_code("import sys; print('perdure/compat' in sys.modules)", alias=True) == "False"


def test_processes_of_multiprocessing_have_the_alias(tmp_path: Path) -> None:
    program = tmp_path / "app.py"
    program.write_text(
        "import multiprocessing\n"
        "def where(_):\n"
        "    import ZODB\n"
        "    return 'perdure/compat' in ZODB.__file__\n"
        "if __name__ == '__main__':\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        print(pool.map(where, [1]))\n"
    )
    assert checked(run("-m", "perdure.compat", str(program))) == "[True]"


def test_a_module_that_the_alias_does_not_have_is_an_import_error() -> None:
    code = """
        import ZODB
        try:
            import ZODB.no_such_module
        except ModuleNotFoundError as error:
            print(error.name)
    """
    assert run_code(code, alias=True) == "ZODB.no_such_module"


def test_stocks_test_helpers_run_on_perdure() -> None:
    code = """
        import ZODB.tests.MinPO, ZODB.tests.hexstorage
        print('perdure/compat' in ZODB.tests.MinPO.__file__, 'perdure/compat' in ZODB.utils.__file__)
        print(ZODB.tests.MinPO.MinPO(3))
    """
    assert run_code(code, alias=True).split("\n") == ["False True", "MinPO(3)"]


def test_without_stock_zodb_the_examples_helpers_are_perdures_own() -> None:
    code = """
        from importlib.machinery import PathFinder
        found = PathFinder.find_spec
        PathFinder.find_spec = lambda name, *rest: None if name == "ZODB" else found(name, *rest)
        import ZODB.tests.util
        from ZODB.tests.test_storage import MinimalMemoryStorage
        print('perdure' in ZODB.tests.util.__file__)
        databases = {}
        one = ZODB.tests.util.DB(databases=databases, database_name="1")
        two = ZODB.DB(MinimalMemoryStorage(), databases=databases, database_name="2")
        with one.transaction() as connection:
            connection.root()["p"] = bob = ZODB.tests.util.P("bob")
            connection.add(bob)
            connection.get_connection("2").root()["p"] = connection.root()["p"]
        with two.transaction() as connection:
            print(connection.root()["p"], sorted(databases))
    """
    assert run_code(code, alias=True).split("\n") == ["True", "P(bob) ['1', '2']"]


def test_a_program_runs_as_the_main_module_with_its_arguments(tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("text = 'found'\n")
    program = tmp_path / "app.py"
    program.write_text(
        "import sys, beside, __main__, ZODB\n"
        "me = 'me'\n"
        "print(__name__, __main__.me, sys.argv[1:], beside.text, 'perdure/compat' in ZODB.__file__)\n"
        "sys.exit(7)\n"
    )
    done = run("-m", "perdure.compat", str(program), "-x", "y")
    assert done.stdout.strip() == "__main__ me ['-x', 'y'] found True"
    assert done.returncode == 7


def test_a_module_runs_as_the_main_module(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "other.py").write_text("text = 'found'\n")
    (package / "__main__.py").write_text(
        "import sys, ZODB\n"
        "from .other import text\n"
        "print(__name__, __package__, text, sys.argv[1:], 'perdure/compat' in ZODB.__file__)\n"
    )
    done = run("-m", "perdure.compat", "-m", "package", "y", directory=tmp_path)
    assert checked(done) == "__main__ package found ['y'] True"


def test_code_runs_as_the_main_module() -> None:
    done = run("-m", "perdure.compat", "-c", f"import sys; {WHERE_IS_ZODB}; print(sys.argv)", "y")
    assert checked(done).split("\n") == ["True", "['-c', 'y']"]


def test_a_program_that_is_not_there_is_said_in_one_line(tmp_path: Path) -> None:
    done = run("-m", "perdure.compat", str(tmp_path / "no.py"))
    assert done.returncode == 2
    assert done.stderr.startswith("perdure.compat: can't open")
    assert "Traceback" not in done.stderr


def test_a_module_that_is_not_there_is_said_in_one_line() -> None:
    done = run("-m", "perdure.compat", "-m", "no_such_package.module")
    assert done.returncode == 2
    assert done.stderr == (
        "perdure.compat: no module named 'no_such_package.module' that can be run\n"
    )


def test_without_a_program_the_usage_is_shown() -> None:
    done = run("-m", "perdure.compat")
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m perdure.compat")
