# ruff: noqa: INP001 - a script
"""Let coverage choose what the parsers of Python's side are given: `python.py TARGET [options]`.

The targets are those of `tests/fault/parsers.py`, the options libFuzzer's. What is found
interesting is kept in `corpus/TARGET`, and an input that fails is written to `artifacts/TARGET`.
"""

import os
import sys
import tempfile
from pathlib import Path

import atheris

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "tests" / "data")]
with atheris.instrument_imports(include=["perdure", "ZConfig"]):
    from tests.fault.parsers import PARSERS


def fuzz() -> None:
    """Fuzz the target that the command line names, until a limit or a failure."""
    name, *options = sys.argv[1:]
    parse = PARSERS[name].parser()
    corpus, artifacts = HERE.absolute() / "corpus" / name, HERE.absolute() / "artifacts" / name
    for folder in (corpus, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    os.chdir(tempfile.mkdtemp(prefix="perdure-fuzz-"))
    for number, seed in enumerate(PARSERS[name].seeds()):
        (corpus / f"seed{number}").write_bytes(seed)
    limits = ["-rss_limit_mb=1024", "-timeout=20", f"-artifact_prefix={artifacts}/"]
    atheris.Setup([sys.argv[0], *limits, *options, str(corpus)], parse)
    atheris.Fuzz()


fuzz()
