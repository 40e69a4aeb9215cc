# ruff: noqa: INP001 - a script
"""Let coverage choose what the parsers of Python's side are given: `python.py TARGET [options]`.

The targets are those of `tests/fault/parsers.py`, the options libFuzzer's. What is found
interesting is kept in `corpus/TARGET`, and an input that fails is written to `artifacts/TARGET`.
`run TARGET` calls it with a native module that counts, too, where it comes by.
"""

import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

# What counts in the native module looks for libFuzzer by its functions' names.
sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
import atheris  # noqa: E402
import atheris.core_with_libfuzzer  # noqa: E402
from atheris.import_hook import HookManager  # noqa: E402

HERE = Path(__file__).parent
# Files in memory are written ten times as fast.
MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "data")]


def use_native(path: str) -> None:
    """Have perdure use the native module at *path* in place of its own."""
    loader = ExtensionFileLoader("perdure._native", path)
    spec = importlib.util.spec_from_file_location(loader.name, path, loader=loader)
    assert spec is not None
    module = sys.modules[loader.name] = importlib.util.module_from_spec(spec)
    loader.exec_module(module)


def parser_of(name: str) -> tuple[Callable[[bytes], None], list[bytes]]:
    """Return a parser whose code counts, and seeds for it."""
    # Where only the native module knows what to compare, atheris isn't told what Python compares:
    # it ends at numbers beyond 64 bits that are compared while an error is on its way.
    compares = "PERDURE_FUZZ_NATIVE" not in os.environ
    with HookManager({"perdure", "ZConfig"}, set(), True, trace_dataflow=compares):
        from tests.fault import parsers

        parse, seeds = parsers.PARSERS[name].parser(), parsers.PARSERS[name].seeds()
        # What is only imported when it is needed has to count, too.
        usual, parsers.USED_ONE_IN = parsers.USED_ONE_IN, 1
        for seed in seeds:
            parse(seed)
        parsers.USED_ONE_IN = usual
    return parse, seeds


def strict(parse: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Return what fails, too, where the interpreter only prints an error and goes on."""
    printed: list[BaseException | None] = []
    sys.excepthook = lambda _kind, error, _traceback: printed.append(error)
    sys.unraisablehook = lambda told: printed.append(told.exc_value)

    def parse_strictly(data: bytes) -> None:
        parse(data)
        if printed:
            raise AssertionError("an error was printed") from printed.pop()

    return parse_strictly


def fuzz() -> None:
    """Fuzz the target that the command line names, until a limit or a failure."""
    name, *options = sys.argv[1:]
    if "PERDURE_FUZZ_NATIVE" in os.environ:
        use_native(os.environ["PERDURE_FUZZ_NATIVE"])
    here = HERE.absolute()
    corpus, artifacts, frozen = (here / kind / name for kind in ("corpus", "artifacts", "seeds"))
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = tempfile.mkdtemp(
        prefix="perdure-fuzz-", dir=MEMORY if MEMORY.is_dir() else None
    )
    os.chdir(tempfile.tempdir)
    parse, seeds = parser_of(name)
    for number, seed in enumerate(seeds):
        (corpus / f"seed{number}").write_bytes(seed)
    limits = ["-rss_limit_mb=1024", "-timeout=20", f"-artifact_prefix={artifacts}/"]
    arguments = [sys.argv[0], *limits, *options, str(corpus)]
    arguments += [str(frozen)] if frozen.is_dir() else []
    atheris.Setup(arguments, strict(parse), internal_libfuzzer=True)
    atheris.Fuzz()


fuzz()
