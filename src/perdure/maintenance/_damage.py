"""Telling whose records are damaged in a file that can't be opened."""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from perdure import _native
from perdure.maintenance._salvage import Broken, DamagedRecord, Gap, Salvage
from perdure.maintenance.report import Finding, Step

__all__ = ["damage_findings"]

_RECORDS_MAX = 1000
"""How many records of one damaged part are told."""


def damage_findings(
    path: Path, found: dict[str, Any], progress: Callable[[int, int], object] | None
) -> list[Finding]:
    """Tell each damaged record that can be made out, and how its object is reached.

    *found* is what a check of the file's structure found.
    """
    gaps = [Gap(*gap) for gap in found["gaps"]]
    broken = [Broken(**each) for each in _native.find_broken(path, found["gaps"], progress)]
    with closing(Salvage(path, found["bytes"], gaps, broken)) as salvage:
        damaged = {each["position"] for each in found["findings"] if each["kind"] == "damaged"}
        parts = [gap for gap in gaps if gap.start in damaged]
        records = list(_records(salvage, parts, broken))
    oids = list({each.oid for _, each in records if each.oid is not None})
    ways = _native.check_file(path, progress, oids)["ways"] if oids else {}
    return [
        Finding(
            kind=kind,
            problem=each.problem,
            position=each.position,
            oid=each.oid,
            class_name=each.class_name,
            tid=each.tid,
            path=tuple(Step(*step) for step in ways.get(each.oid, ())),
        )
        for kind, each in records
    ]


def _records(
    salvage: Salvage, gaps: list[Gap], broken: list[Broken]
) -> Iterator[tuple[str, DamagedRecord]]:
    told = set()
    for each in broken:
        for record in salvage.damaged_in(each)[:_RECORDS_MAX]:
            told.add(record.position)
            yield "checksum", record
    for gap in gaps:
        for record in salvage.seen_in(gap, _RECORDS_MAX):
            if record.position not in told:
                yield "lost", record
