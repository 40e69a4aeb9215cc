"""What is promised of all workloads, and whether what was measured keeps it."""

import statistics
from dataclasses import dataclass

from benchmarks.measure import Outcome
from benchmarks.peers import OWN, STOCK
from benchmarks.sweep import Growth

RATIO_MIN = 0.97
"""Below this, perdure counts as slower than stock: two runs of one program differ as much."""
MEMORY_SHARE_MAX = 1.02
"""Above this share, perdure's peak counts as above stock's: the same."""
NET_NOISE_BYTES = 1_000_000
"""Peaks without imports that differ by less count as equal: an allocator takes whole pages."""
GROWTH_MAX = 1.2
"""What an operation may cost in a database of ten times the size, times what it costs here."""
JOINT_MAX = 2.2
"""What a commit to two databases may cost, times what one to a single database costs."""


@dataclass(frozen=True)
class Check:
    """One promise: of how many measurements it was asked, and where it isn't kept."""

    promise: str
    asked: int
    broken: list[str]

    def as_markdown(self) -> str:
        """Return the line of a table."""
        if not self.asked:
            return f"| {self.promise} | not measured | |"
        kept = f"{self.asked - len(self.broken)} of {self.asked}"
        return f"| {self.promise} | {kept} | {'; '.join(self.broken)} |"


def check_all(outcomes: list[Outcome], grown: list[Growth]) -> list[Check]:
    """Return every promise with what was found of it."""
    both = [each for each in outcomes if {OWN, STOCK} <= set(each.amounts)]
    timed = [each for each in both if each.workload.unit != "x"]
    return [
        Check("no workload slower than ZODB", len(timed), _slower(timed)),
        Check("peak memory not above ZODB's, all told", len(both), _larger(both)),
        Check("peak memory not above ZODB's, without imports", len(both), _net_larger(both)),
        Check(
            f"at ten times the size at most {GROWTH_MAX} times the cost of each",
            len(grown),
            _growing(grown),
        ),
        *_joint(outcomes),
    ]


def as_markdown(checks: list[Check]) -> str:
    """Return the table of the promises."""
    rows = "\n".join(check.as_markdown() for check in checks)
    return f"| promised | kept | not kept |\n| --- | ---: | --- |\n{rows}\n"


def _slower(outcomes: list[Outcome]) -> list[str]:
    return [
        f"{each.name}: {each.ratio():.2f} ({min(each.ratios()):.2f} to {max(each.ratios()):.2f})"
        for each in outcomes
        if each.ratio() < RATIO_MIN
    ]


def _larger(outcomes: list[Outcome]) -> list[str]:
    return [
        f"{each.name}: {each.peak_share():.0%}"
        for each in outcomes
        if each.peak_share() > MEMORY_SHARE_MAX
    ]


def _net_larger(outcomes: list[Outcome]) -> list[str]:
    broken = []
    for each in outcomes:
        own, stock = (statistics.median(each.net_peaks_bytes[peer]) for peer in (OWN, STOCK))
        if own > max(stock * MEMORY_SHARE_MAX, stock + NET_NOISE_BYTES):
            broken.append(f"{each.name}: {own / 1e6:,.1f} MB, ZODB {stock / 1e6:,.1f} MB")
    return broken


def _growing(grown: list[Growth]) -> list[str]:
    broken = []
    for each in grown:
        if each.factors[OWN] > GROWTH_MAX:
            stock = f", ZODB {each.factors[STOCK]:.2f}" if STOCK in each.factors else ""
            place = f"{each.name}, {each.smaller:,} to {each.larger:,}"
            broken.append(f"{place}: {each.factors[OWN]:.2f}{stock}")
    return broken


def _joint(outcomes: list[Outcome]) -> list[Check]:
    found = [each for each in outcomes if each.workload.unit == "x"]
    broken = [
        f"{each.name}: {each.median(OWN):.2f}" for each in found if each.median(OWN) > JOINT_MAX
    ]
    return [
        Check(
            f"a joint commit at most {JOINT_MAX} syncs, or single ones in memory",
            len(found),
            broken,
        )
    ]
