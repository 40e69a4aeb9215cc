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
from importlib.machinery import ExtensionFileLoader
from pathlib import Path

# What counts in the native module looks for libFuzzer by its functions' names.
sys.setdlopenflags(os.RTLD_NOW | os.RTLD_GLOBAL)
import atheris  # noqa: E402
import atheris.core_with_libfuzzer  # noqa: E402

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


if "PERDURE_FUZZ_NATIVE" in os.environ:
    use_native(os.environ["PERDURE_FUZZ_NATIVE"])
with atheris.instrument_imports(include=["perdure", "ZConfig"]):
    from tests.fault.parsers import PARSERS


def fuzz() -> None:
    """Fuzz the target that the command line names, until a limit or a failure."""
    name, *options = sys.argv[1:]
    parse = PARSERS[name].parser()
    corpus, artifacts = HERE.absolute() / "corpus" / name, HERE.absolute() / "artifacts" / name
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = tempfile.mkdtemp(
        prefix="perdure-fuzz-", dir=MEMORY if MEMORY.is_dir() else None
    )
    os.chdir(tempfile.tempdir)
    for number, seed in enumerate(PARSERS[name].seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
    seeds = HERE.absolute() / "seeds" / name
    limits = ["-rss_limit_mb=1024", "-timeout=20", f"-artifact_prefix={artifacts}/"]
    arguments = [sys.argv[0], *limits, *options, str(corpus)]
    arguments += [str(seeds)] if seeds.is_dir() else []
    atheris.Setup(arguments, parse, internal_libfuzzer=True)
    atheris.Fuzz()


fuzz()
