"""The table, and its place in the documentation."""

import json
import platform
from pathlib import Path
from typing import Any

from benchmarks.job import WORKLOADS
from benchmarks.measure import TOP, Outcome
from benchmarks.peers import OWN, PEERS, STOCK

PAGE = TOP / "docs" / "performance.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"
_HEAD = (
    "| | ZODB | perdure | times as fast: median | min to max | peak memory, of ZODB's |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: |"
)


def as_markdown(outcomes: list[Outcome], command: str) -> str:
    """Return the table, and under it what each of its lines means."""
    runs = len(outcomes[0].amounts[OWN]) if outcomes else 0
    rows = "\n".join(_row(outcome) for outcome in outcomes)
    meanings = "\n".join(_meaning(outcome) for outcome in outcomes)
    about = f"`{command}`: medians of {runs} runs of each, in turns; {_machine()}."
    return f"{about}\n\n{_HEAD}\n{rows}\n\nWhat is measured:\n\n{meanings}\n"


def as_json(outcomes: list[Outcome]) -> str:
    """Return everything that was measured."""
    return json.dumps({"machine": _machine(), "workloads": [_plain(each) for each in outcomes]})


def one_line(outcome: Outcome) -> str:
    """Return what is told while the measurements go on."""
    return _row(outcome).strip("| ").replace(" | ", "  ")


def write_into_page(table: str) -> None:
    """Put the table into the documentation, in place of the one there."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}\n{table}\n{END}{after}", encoding="utf-8")


def _row(outcome: Outcome) -> str:
    ratios = sorted(outcome.ratios())
    stock, own = (_amount(outcome.median(peer), outcome) for peer in (STOCK, OWN))
    spread = f"{ratios[0]:.2f} to {ratios[-1]:.2f}"
    ratio, peak = f"**{outcome.ratio():.2f}**", f"{outcome.peak_share():.0%}"
    return f"| {outcome.name} | {stock} | {own} | {ratio} | {spread} | {peak} |"


def _amount(amount: float, outcome: Outcome) -> str:
    if outcome.unit == "B":
        return f"{amount / 1e6:,.1f} MB"
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if amount * factor >= 1:
            return f"{amount * factor:,.3g} {unit}"
    return f"{amount * 1e6:,.3g} µs"


def _meaning(outcome: Outcome) -> str:
    meaning = WORKLOADS[outcome.name].what
    counted = f"{outcome.count:,}" + (f", per {outcome.per}" if outcome.per else " objects")
    return f"- **{outcome.name}** ({counted}): {meaning}"


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "unit": outcome.unit,
        "per": outcome.per,
        "count": outcome.count,
        "amounts": outcome.amounts,
        "medians": {peer: outcome.median(peer) for peer in PEERS},
        "ratio": outcome.ratio(),
        "ratios": outcome.ratios(),
        "peaks_bytes": outcome.peaks_bytes,
        "peak_share": outcome.peak_share(),
    }


def _machine() -> str:
    cpus = len([line for line in _cpu_info() if line.startswith("processor")])
    return f"Python {platform.python_version()}, {platform.machine()}, {cpus} processors"


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
