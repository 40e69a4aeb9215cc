"""Run a program with ``ZODB`` standing for perdure.

Usage::

    python -m perdure.compat app.py [argument ...]
    python -m perdure.compat -m package.module [argument ...]
    python -m perdure.compat -c "code" [argument ...]
"""

import builtins
import io
import runpy
import sys
from importlib.abc import InspectLoader
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import NoReturn

from perdure.compat import install

_USAGE = "usage: python -m perdure.compat (SCRIPT | -m MODULE | -c CODE) [ARGUMENT ...]"


def main() -> None:
    """Install the alias, then run the program that the command line names.

    The program becomes this process's ``__main__``, as if Python had been started with
    it; its exit code is this process's.
    """
    arguments = sys.argv[1:]
    if arguments and arguments[0] in {"-h", "--help"}:
        sys.stdout.write(f"{(__doc__ or '').strip()}\n")
        return
    option = arguments[0] if arguments and arguments[0] in {"-m", "-c"} else ""
    if not arguments or (option and len(arguments) == 1):
        sys.stderr.write(_USAGE + "\n")
        raise SystemExit(2)
    install()
    if option == "-m":
        _run_module(arguments[1], arguments[2:])
    elif option == "-c":
        sys.path[0] = ""
        _run(compile(arguments[1], "<string>", "exec"), ["-c", *arguments[2:]])
    else:
        _run_script(arguments[0], arguments[1:])


def _run_script(script: str, arguments: list[str]) -> None:
    path = Path(script)
    if path.is_dir():
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")
        return
    try:
        with io.open_code(str(path.absolute())) as file:
            source = file.read()
    except OSError as error:
        _give_up(f"can't open {script!r}: {error.strerror}")
    sys.path[0] = str(path.resolve().parent)
    _run(compile(source, script, "exec"), [script, *arguments], __file__=script)


def _run_module(name: str, arguments: list[str]) -> None:
    sys.path[0] = str(Path.cwd())
    spec = _find_module(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _find_module(f"{name}.__main__")
    if spec is None or not isinstance(spec.loader, InspectLoader):
        _give_up(f"no module named {name!r} that can be run")
    code = spec.loader.get_code(spec.name)
    if code is None:
        _give_up(f"the module {name!r} has no Python code")
    argv = [spec.origin or name, *arguments]
    _run(code, argv, __spec__=spec, __package__=spec.parent, __file__=spec.origin)


def _find_module(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ModuleNotFoundError:
        return None


def _run(code: CodeType, argv: list[str], **names: object) -> None:
    # Not runpy: it takes the module away again when the code ends, while threads that
    # the program started may still use it.
    module = ModuleType("__main__")
    module.__dict__.update({"__builtins__": builtins, "__spec__": None, **names})
    sys.modules["__main__"] = module
    sys.argv = argv
    exec(code, module.__dict__)  # noqa: S102 - running the program is the purpose


def _give_up(problem: str) -> NoReturn:
    sys.stderr.write(f"perdure.compat: {problem}\n")
    raise SystemExit(2)


if __name__ == "__main__":
    main()
