"""`zodbshootout` with stock ZODB, and unchanged with perdure in ZODB's place (`perdure.compat`).

`python -m benchmarks.shootout` runs it in turns with both, and prints a table of both and their
ratio. What it measures is described in its documentation; the data file is on a memory-backed disk.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.peers import FILES, OWN, STOCK
from benchmarks.report import write_into_page

_CONFIGURATION = "<zodb fs>\n<filestorage>\npath {path}\n</filestorage>\n</zodb>\n"
_PROGRAMS = {STOCK: ["-m", "zodbshootout"], OWN: ["-m", "perdure.compat", "-m", "zodbshootout"]}


def main() -> None:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.shootout", description=__doc__)
    add = parser.add_argument
    shared = Path("/dev/shm")
    memory = shared if shared.is_dir() else Path(tempfile.gettempdir())
    add("--memory", type=Path, default=memory, help="a directory on a memory-backed disk")
    add("--repeat", type=int, default=3, help="turns (default: 3)")
    add("--objects", type=int, default=1_000, help="objects in a transaction (default: 1,000)")
    add("--threads", type=int, default=1, help="threads (default: 1)")
    add("--write", action="store_true", help="put the table into the documentation")
    arguments = parser.parse_args()
    found: dict[str, dict[str, list[float]]] = {}
    for turn in range(arguments.repeat):
        for peer in FILES if turn % 2 == 0 else reversed(FILES):
            with tempfile.TemporaryDirectory(dir=arguments.memory) as directory:
                command = _command(peer, Path(directory), arguments.objects, arguments.threads)
                for name, seconds in _measured(command, Path(directory)):
                    found.setdefault(name, {each: [] for each in FILES})[peer].append(seconds)
    table = "\n".join(_table(found))
    if arguments.write:
        write_into_page(f"{table}\n", "shootout")
    print(table)


def _command(peer: str, directory: Path, objects: int, threads: int) -> list[str]:
    """Return the command, which writes what it has measured into the directory."""
    configuration = directory / "shootout.conf"
    configuration.write_text(_CONFIGURATION.format(path=directory / "Data.fs"), encoding="utf-8")
    asked = ["--threads", "-c", str(threads), "--object-counts", str(objects)]
    few = ["-p", "1", "-n", "3", "-w", "1", "--include-mapping", "no", "--log", "ERROR"]
    how = ["--quiet", "--copy-env", "-o", str(directory / "found.json")]
    return [sys.executable, *_PROGRAMS[peer], str(configuration), *asked, *few, *how]


def _measured(command: list[str], directory: Path) -> Iterator[tuple[str, float]]:
    """Run it; give the median seconds of each of its benchmarks."""
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(directory)}
    )
    suite = json.loads((directory / "found.json").read_text(encoding="utf-8"))
    shared = suite.get("metadata", {})
    for each in suite["benchmarks"]:
        name = {**shared, **each.get("metadata", {})}["name"]
        values = [value for run in each["runs"] for value in run.get("values", [])]
        if values:
            yield re.sub(r"^\{.*?\}\s*(fs: )?", "", name), statistics.median(values)


def _table(found: dict[str, dict[str, list[float]]]) -> Iterator[str]:
    yield "| | ZODB | perdure | times as fast: median | min to max |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for name, amounts in found.items():
        ratios = [stock / own for stock, own in zip(amounts[STOCK], amounts[OWN], strict=True)]
        stock, own = (f"{statistics.median(amounts[peer]) * 1e6:,.0f} µs" for peer in FILES)
        middle, spread = statistics.median(ratios), f"{min(ratios):.2f} to {max(ratios):.2f}"
        yield f"| {name} | {stock} | {own} | **{middle:.2f}** | {spread} |"


if __name__ == "__main__":
    main()
