"""What was measured as tables, as JSON, and in its place in the documentation."""

import json
import platform
from pathlib import Path
from typing import Any

from benchmarks.checks import Check
from benchmarks.checks import as_markdown as checks_as_markdown
from benchmarks.measure import TOP, Outcome
from benchmarks.peers import FILES, OWN, PEERS, STOCK
from benchmarks.sweep import Growth, Sweep, size_of

PAGE = TOP / "docs" / "performance.md"
IMAGES = TOP / "docs" / "images"
_HEAD = (
    "| | ZODB | perdure | times as fast: median | min to max "
    "| peak memory, of ZODB's | without imports |\n"
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: |"
)
_NONE = "\N{EN DASH}"
_NET_MIN_BYTES = 1_000_000
"""Less memory than this is not compared: a share of nothing says nothing."""


def as_markdown(
    outcomes: list[Outcome], checks: list[Check], images: list[str], command: str
) -> str:
    """Return the tables, the pictures, and what each of the lines means."""
    both = [each for each in outcomes if set(FILES) <= set(each.amounts)]
    runs = max((len(each.amounts[OWN]) for each in both), default=0)
    return "\n\n".join(
        [
            f"`{command}`: medians of {runs} runs of each, in turns; {_machine()}.",
            "\n".join([_HEAD, *(_row(each) for each in both)]),
            *_beside_others(outcomes),
            f"What is promised of all of these:\n\n{checks_as_markdown(checks)}".rstrip(),
            *(f"![{Path(each).stem.replace('-', ' ')}]({each})" for each in images),
            "What is measured:\n\n" + "\n".join(_meaning(each) for each in outcomes) + "\n",
        ]
    )


def as_json(outcomes: list[Outcome], found: Sweep, grown: list[Growth], command: str) -> str:
    """Return everything that was measured."""
    everything = {
        "command": command,
        "machine": _machine(),
        "workloads": [_plain(each) for each in outcomes],
        "by_size": [{"size": size_of(each), **_plain(each)} for each in found.by_size],
        "by_threads": [_plain(each) for each in found.by_threads],
        "growth": [each.__dict__ for each in grown],
    }
    return json.dumps(everything, indent=1)


def one_line(outcome: Outcome) -> str:
    """Return what is told while the measurements go on."""
    threads = f", {outcome.threads} threads" if outcome.workload.by_threads else ""
    size = f"{outcome.name} ({size_of(outcome):,}{threads}):"
    amounts = [f"{peer} {amount(outcome.median(peer), outcome)}" for peer in outcome.amounts]
    ratio = f"{outcome.ratio():.2f} x" if outcome.ratios() else ""
    return "  ".join([size, *amounts, ratio])


def write_into_page(table: str, place: str = "table") -> None:
    """Put tables into the documentation, in place of those between the marks of *place*."""
    begin, end = f"<!-- {place}: begin -->\n", f"<!-- {place}: end -->\n"
    before, found, rest = PAGE.read_text(encoding="utf-8").partition(begin)
    _, ending, after = rest.partition(end)
    if not (found and ending):
        raise ValueError(f"{PAGE} has no marks for {place}")
    PAGE.write_text(f"{before}{begin}\n{table}\n{end}{after}", encoding="utf-8")


def _row(outcome: Outcome) -> str:
    stock, own = (amount(outcome.median(peer), outcome) for peer in FILES)
    return (
        f"| {outcome.name} | {stock} | {own} | **{outcome.ratio():.2f}** | {_spread(outcome)} "
        f"| {outcome.peak_share():.0%} | {_net_share(outcome)} |"
    )


def _spread(outcome: Outcome, peer: str = STOCK) -> str:
    ratios = outcome.ratios(peer)
    return f"{min(ratios):.2f} to {max(ratios):.2f}" if len(ratios) > 1 else "once"


def _net_share(outcome: Outcome) -> str:
    largest = max(max(outcome.net_peaks_bytes[peer]) for peer in FILES)
    return f"{outcome.peak_share(net=True):.0%}" if largest > _NET_MIN_BYTES else _NONE


def _beside_others(outcomes: list[Outcome]) -> list[str]:
    """Return the table with all peers; nothing where only two were measured."""
    peers = [peer for peer in PEERS if any(peer in each.amounts for each in outcomes)]
    others = [peer for peer in peers if peer not in FILES]
    if not others:
        return []
    rows = [each for each in outcomes if set(others) & set(each.amounts)]
    head = f"| | {' | '.join([OWN, STOCK, *others])} |\n|{' --- |' + ' ---: |' * len(peers)}"
    lines = [f"| {each.name} | {' | '.join(_cells(each, [STOCK, *others]))} |" for each in rows]
    about = (
        "Beside others: what each takes, and (in brackets) how many times as fast perdure is: "
        f"median, min to max. {_NONE} stands for work that it cannot do."
    )
    return [about, "\n".join([head, *lines])]


def _cells(outcome: Outcome, peers: list[str]) -> list[str]:
    own = amount(outcome.median(OWN), outcome) if OWN in outcome.amounts else _NONE
    cells = [own]
    for peer in peers:
        if peer not in outcome.amounts:
            cells.append(_NONE)
        elif outcome.ratios(peer):
            taken = amount(outcome.median(peer), outcome)
            cells.append(f"{taken} ({outcome.ratio(peer):.2f}, {_spread(outcome, peer)})")
        else:
            cells.append(amount(outcome.median(peer), outcome))
    return cells


def amount(value: float, outcome: Outcome) -> str:
    """Return an amount with its unit."""
    if outcome.workload.unit == "x":
        return f"{value:.2f} times"
    if outcome.workload.unit == "B":
        return f"{value / 1e6:,.1f} MB"
    for factor, unit in ((1, "s"), (1e3, "ms")):
        if value * factor >= 1:
            return f"{value * factor:,.3g} {unit}"
    return f"{value * 1e6:,.3g} µs"


def _meaning(outcome: Outcome) -> str:
    per = outcome.workload.per
    counted = f"{outcome.count:,}" + (f", per {per}" if per else " objects")
    return f"- **{outcome.name}** ({counted}): {outcome.workload.what}"


def _plain(outcome: Outcome) -> dict[str, Any]:
    return {
        "name": outcome.name,
        "unit": outcome.workload.unit,
        "per": outcome.workload.per,
        "count": outcome.count,
        "objects": outcome.objects,
        "threads": outcome.threads,
        "amounts": outcome.amounts,
        "medians": {peer: outcome.median(peer) for peer in outcome.amounts},
        "ratios": {peer: outcome.ratios(peer) for peer in outcome.amounts if peer != OWN},
        "peaks_bytes": outcome.peaks_bytes,
        "net_peaks_bytes": outcome.net_peaks_bytes,
    }


def _machine() -> str:
    cpus = len([line for line in _cpu_info() if line.startswith("processor")])
    return f"Python {platform.python_version()}, {platform.machine()}, {cpus} processors"


def _cpu_info() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
