"""The comparison with stock ZODB runs, and compares the same work."""

import json
from pathlib import Path

from tests.interop.programs import checked, run

TOP = Path(__file__).parents[2]


def test_the_comparison_runs_and_counts_the_same_for_both(tmp_path: Path) -> None:
    arguments = ["--scale", "0.0001", "--repeat", "2", "--json", "--only", "records"]
    places = ["--memory", str(tmp_path), "--disk", str(tmp_path)]
    printed = checked(run("-m", "benchmarks", *arguments, *places, directory=TOP))
    found = {each["name"]: each for each in json.loads(printed)["workloads"]}
    assert {"load records", "iterate records"} <= set(found)
    for each in found.values():
        assert {peer: len(amounts) for peer, amounts in each["amounts"].items()} == {
            "ZODB": 2,
            "perdure": 2,
        }
        assert each["ratio"] > 0


def test_the_names_of_the_workloads_can_be_listed() -> None:
    names = checked(run("-m", "benchmarks", "--list", directory=TOP)).splitlines()
    assert {"cold load", "bulk add, commit alone", "small commits", "pack"} <= set(names)
