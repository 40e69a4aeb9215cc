"""Measure perdure beside stock ZODB and others, and print tables of what each takes.

Every measurement runs in a process of its own, in turns between the peers, on the same data and
the same disk; medians count. Times are those of the machine: compare the ratios. At the end
stands what is promised of all workloads, and whether it was kept.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import report
from benchmarks.checks import check_all
from benchmarks.measure import Bench, Outcome, Plan
from benchmarks.peers import PEERS, is_installed
from benchmarks.sweep import SIZES, THREADS, growths, sweep
from benchmarks.workloads import WORKLOADS

_PLACES = ("--json", "--plots", "--memory", "--disk")
"""Options that say where something goes."""


def main() -> None:
    """Run what the command line asks for."""
    arguments = _arguments()
    wanted = arguments.only or [""]
    chosen = [each for each in WORKLOADS.values() if any(text in each.name for text in wanted)]
    if arguments.list or not chosen:
        print("\n".join(WORKLOADS))
        return
    asked = {peer for each in arguments.peers or [PEERS] for peer in each}
    peers = tuple(peer for peer in PEERS if peer in asked and is_installed(peer))
    for missing in sorted(asked - set(peers)):
        print(f"left out: {missing} is no peer, or not installed", file=sys.stderr)
    repeats = (arguments.repeat, arguments.others)
    places = (arguments.memory, arguments.disk)
    bench = Bench(Plan(chosen, peers, *repeats, arguments.scale, *places))
    try:
        _run(bench, arguments)
    finally:
        bench.close()


def _run(bench: Bench, arguments: argparse.Namespace) -> None:
    outcomes = bench.measure_all(_tell)
    found = sweep(bench, arguments.sizes, arguments.threads, _tell)
    grown = growths(found)
    place = report.IMAGES if arguments.write else arguments.plots
    images: list[str] = []
    if place:
        from benchmarks.plots import draw  # needs matplotlib, which only this does

        drawn = draw(found, place)
        images = [f"images/{path.name}" if arguments.write else str(path) for path in drawn]
    table = report.as_markdown(outcomes, check_all(outcomes, grown), images, _command())
    if arguments.write:
        report.write_into_page(table)
    as_json = report.as_json(outcomes, found, grown, _command())
    if arguments.json not in {None, "-"}:
        Path(arguments.json).write_text(as_json, encoding="utf-8")
    print(as_json if arguments.json == "-" else table)


def _tell(outcome: Outcome) -> None:
    print(report.one_line(outcome), file=sys.stderr, flush=True)


def _command() -> str:
    """Return what was asked for, without where its results go."""
    shown, before = ["python -m benchmarks"], ""
    for argument in sys.argv[1:]:
        is_place = before in _PLACES and not argument.startswith("--")
        if argument not in {*_PLACES, "--write"} and not is_place:
            shown.append(argument if argument and " " not in argument else f'"{argument}"')
        before = argument
    return " ".join(shown)


def _numbers(text: str) -> tuple[int, ...]:
    """Read numbers with commas between them; none for an empty text."""
    return tuple(int(float(number)) for number in text.split(",") if number)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _arguments() -> argparse.Namespace:
    shared, temporary = Path("/dev/shm"), Path(tempfile.gettempdir())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--scale", type=float, default=1.0, help="a factor for all sizes (default: 1)")
    add("--repeat", type=int, default=5, help="runs of each workload (default: 5)")
    add("--others", type=int, default=2, help="runs of those beside ZODB and perdure (default: 2)")
    add("--only", action="append", metavar="TEXT", help="workloads with TEXT in their name")
    add("--list", action="store_true", help="print the names of the workloads")
    add("--peers", action="append", type=_names, help=f"whom to measure: {','.join(PEERS)}")
    add("--sizes", type=_numbers, default=SIZES, help="sizes for cost by size; '' for none")
    add("--threads", type=_numbers, default=THREADS, help="threads for cost by threads; '': none")
    add("--plots", type=Path, metavar="DIRECTORY", help="draw cost by size and threads (PNG)")
    add("--json", nargs="?", const="-", metavar="FILE", help="write all amounts as JSON")
    add("--write", action="store_true", help="put tables and pictures into the documentation")
    memory = shared if shared.is_dir() else temporary
    add("--memory", type=Path, default=memory, help="a directory on a memory-backed disk")
    add("--disk", type=Path, default=temporary, help="a directory on a real disk")
    return parser.parse_args()


if __name__ == "__main__":
    main()
