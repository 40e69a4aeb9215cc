"""Measure perdure and stock ZODB side by side, and print a table of both and their ratio.

Every measurement runs in a process of its own, in turns between the two, on the same data and the
same disk; medians count. Times are those of the machine: compare the ratios.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import report
from benchmarks.measure import Outcome, Plan, measure_all
from benchmarks.workloads import WORKLOADS


def main() -> None:
    """Run what the command line asks for."""
    arguments = _arguments()
    wanted = arguments.only or [""]
    chosen = [each for each in WORKLOADS.values() if any(text in each.name for text in wanted)]
    if arguments.list or not chosen:
        print("\n".join(WORKLOADS))
        return
    plan = Plan(chosen, arguments.repeat, arguments.scale, arguments.memory, arguments.disk)
    outcomes = measure_all(plan, _tell)
    table = report.as_markdown(outcomes, _command())
    if arguments.write:
        report.write_into_page(table)
    print(report.as_json(outcomes) if arguments.json else table)


def _tell(outcome: Outcome) -> None:
    print(report.one_line(outcome), file=sys.stderr, flush=True)


def _command() -> str:
    ours = [argument for argument in sys.argv[1:] if argument not in {"--write", "--json"}]
    return " ".join(["python -m benchmarks", *ours])


def _arguments() -> argparse.Namespace:
    shared, temporary = Path("/dev/shm"), Path(tempfile.gettempdir())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--scale", type=float, default=1.0, help="a factor for all sizes (default: 1)")
    add("--repeat", type=int, default=5, help="runs of each workload and peer (default: 5)")
    add("--only", action="append", metavar="TEXT", help="workloads with TEXT in their name")
    add("--list", action="store_true", help="print the names of the workloads")
    add("--json", action="store_true", help="print everything that was measured, as JSON")
    add("--markdown", action="store_true", help="print the table (this is the default)")
    add("--write", action="store_true", help="put the table into docs/performance.md")
    memory = shared if shared.is_dir() else temporary
    add("--memory", type=Path, default=memory, help="a directory on a memory-backed disk")
    add("--disk", type=Path, default=temporary, help="a directory on a real disk")
    return parser.parse_args()


if __name__ == "__main__":
    main()
