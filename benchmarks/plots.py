"""Pictures of cost against size, and against the number of threads (with `matplotlib`)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib import pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator

from benchmarks.measure import Outcome
from benchmarks.peers import OWN, PEERS
from benchmarks.sweep import Sweep, size_of

mpl.use("Agg")

_COLUMNS = 3
_PANEL_INCHES = (4.2, 3.1)
_COLOURS = dict(
    zip(
        (OWN, *(peer for peer in PEERS if peer != OWN)),
        ("#c1272d", "#1f4e79", "#2e8b57", "#8a5fbf", "#c98a1b", "#777777"),
        strict=True,
    )
)
_MARKERS = dict(zip(_COLOURS, "osD^vx", strict=True))


def draw(found: Sweep, directory: Path) -> list[Path]:
    """Write the pictures that there is something to show in; return their paths."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    if found.by_size:
        path = directory / "cost-by-size.png"
        _Picture(found.by_size, size_of, "objects or keys in the database").write(path)
        written.append(path)
    if found.by_threads:
        path = directory / "cost-by-threads.png"
        _Picture(found.by_threads, lambda each: each.threads, "threads").write(path)
        written.append(path)
    return written


class _Picture:
    """A panel for each workload, in each a line for each peer."""

    def __init__(
        self, outcomes: list[Outcome], place: Callable[[Outcome], int], across: str
    ) -> None:
        self._names = list(dict.fromkeys(each.name for each in outcomes))
        self._outcomes, self._place, self._across = outcomes, place, across

    def write(self, path: Path) -> None:
        """Draw it into a PNG file."""
        columns = 2 if len(self._names) in {2, 4} else min(_COLUMNS, len(self._names))
        rows = -(-len(self._names) // columns)
        size = (_PANEL_INCHES[0] * columns, _PANEL_INCHES[1] * rows + 0.4)
        figure, panels = plt.subplots(rows, columns, figsize=size, squeeze=False)
        for panel in panels.flat[len(self._names) :]:
            panel.set_axis_off()
        lines: dict[str, Any] = {}
        for name, panel in zip(self._names, panels.flat, strict=False):
            lines.update(self._draw_panel(name, panel))
        figure.legend(
            lines.values(), lines.keys(), loc="upper center", ncols=len(lines), frameon=False
        )
        figure.tight_layout(rect=(0, 0, 1, 1 - 0.35 / size[1]))
        figure.savefig(path, dpi=110)
        plt.close(figure)

    def _draw_panel(self, name: str, panel: Any) -> dict[str, Any]:
        mine = sorted((each for each in self._outcomes if each.name == name), key=self._place)
        workload, lines = mine[0].workload, {}
        for peer in _COLOURS:
            points = [each for each in mine if peer in each.amounts]
            if points:
                lines[peer] = self._draw_line(peer, points, panel)
        panel.set_xscale("log", base=10 if self._place(mine[-1]) > 100 else 2)
        panel.set_yscale("log")
        panel.set_xticks([self._place(each) for each in mine], minor=False)
        panel.yaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
        panel.minorticks_off()
        panel.xaxis.set_major_formatter(FuncFormatter(_plainly))
        panel.yaxis.set_major_formatter(FuncFormatter(_with_unit))
        panel.set_title(name, fontsize=10)
        panel.set_xlabel(self._across, fontsize=8)
        panel.set_ylabel(f"time per {workload.per}" if workload.per else "time", fontsize=8)
        panel.tick_params(labelsize=8)
        panel.grid(visible=True, which="major", alpha=0.3)
        return lines

    def _draw_line(self, peer: str, points: list[Outcome], panel: Any) -> Any:
        places = [self._place(each) for each in points]
        low = [min(each.amounts[peer]) for each in points]
        high = [max(each.amounts[peer]) for each in points]
        panel.fill_between(places, low, high, color=_COLOURS[peer], alpha=0.15, linewidth=0)
        medians = [each.median(peer) for each in points]
        (line,) = panel.plot(
            places, medians, color=_COLOURS[peer], marker=_MARKERS[peer], markersize=4
        )
        return line


def _plainly(value: float, _position: int) -> str:
    exponent = len(str(int(value))) - 1
    return f"$10^{exponent}$" if value >= 1_000 and value == 10**exponent else f"{value:g}"


def _with_unit(value: float, _position: int) -> str:
    for factor, unit in ((1, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1:
            return f"{value * factor:g} {unit}"
    return f"{value * 1e9:g} ns"
