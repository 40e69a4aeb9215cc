"""Measure perdure and stock ZODB side by side, and print a table of both and their ratio.

Every measurement runs in a process of its own, in turns between the two, on the same (by default
memory-backed) disk; the best of the repetitions counts.
"""

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.peers import load_peer
from benchmarks.tasks import TASKS, Job

PEERS = ("ZODB", "perdure")
TOP = Path(__file__).parents[1]
PAGE = TOP / "docs" / "performance.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"

Results = dict[str, dict[str, float]]


def main() -> None:
    """Run what the command line asks for."""
    arguments = _arguments()
    if arguments.worker:
        peer, task = arguments.worker
        job = Job(load_peer(peer), arguments.directory, arguments.objects, arguments.commits)
        print(TASKS[task](job))
        return
    with tempfile.TemporaryDirectory(dir=arguments.directory) as directory:
        results = _measure(Path(directory), arguments)
    table = _table(results, arguments)
    print(json.dumps(results, indent=2) if arguments.json else table)
    if arguments.write:
        _write(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--objects", type=int, default=100_000, help="objects in the data file")
    parser.add_argument("--commits", type=int, default=2_000, help="transactions of one object")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions; the best counts")
    parser.add_argument("--only", choices=TASKS, action="append", help="this task (may repeat)")
    parser.add_argument("--json", action="store_true", help="print JSON: seconds by task and peer")
    parser.add_argument("--write", action="store_true", help="put the table into the documentation")
    shared = Path("/dev/shm")
    parser.add_argument(
        "--directory",
        type=Path,
        default=shared if shared.is_dir() else Path(tempfile.gettempdir()),
        help="where the data files go for the time being",
    )
    parser.add_argument("--worker", nargs=2, metavar=("PEER", "TASK"), help=argparse.SUPPRESS)
    return parser.parse_args()


def _measure(directory: Path, arguments: argparse.Namespace) -> Results:
    chosen = [name for name in TASKS if not arguments.only or name in arguments.only]
    if chosen[0] != "bulk add":
        chosen.insert(0, "bulk add")  # it makes the file that the others use
    results: Results = {}
    for task in chosen:
        best = dict.fromkeys(PEERS, float("inf"))
        for _ in range(arguments.repeat):
            for peer in PEERS:
                best[peer] = min(best[peer], _run(peer, task, directory, arguments))
        results[task] = best
        print(f"{task}: {best}", file=sys.stderr)
    return results


def _run(peer: str, task: str, directory: Path, arguments: argparse.Namespace) -> float:
    command = [sys.executable, "-m", "benchmarks", "--worker", peer, task]
    command += ["--directory", str(directory / f"{peer}.fs")]
    command += ["--objects", str(arguments.objects), "--commits", str(arguments.commits)]
    done = subprocess.run(command, cwd=TOP, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


def _table(results: Results, arguments: argparse.Namespace) -> str:
    best_of = f"best of {arguments.repeat}"
    python = f"Python {platform.python_version()}, {platform.machine()}"
    lines = [
        f"{arguments.objects:,} objects, {arguments.commits:,} small commits, {best_of}; {python}.",
        "",
        "| | ZODB | perdure | times as fast |",
        "| --- | ---: | ---: | ---: |",
    ]
    for task, best in results.items():
        stock, own = best["ZODB"], best["perdure"]
        lines.append(f"| {task} | {_time(stock)} | {_time(own)} | {stock / own:.1f} |")
    return "\n".join(lines) + "\n"


def _time(seconds: float) -> str:
    return f"{seconds:,.2f} s" if seconds >= 1 else f"{seconds * 1000:,.1f} ms"


def _write(table: str) -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
