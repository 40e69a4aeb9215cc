"""The comparison with stock ZODB and others runs, and compares the same work."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from benchmarks.checks import check_all
from benchmarks.job import Workload
from benchmarks.measure import Outcome
from benchmarks.sweep import Sweep, growths
from benchmarks.workloads import WORKLOADS
from tests.interop.programs import checked

TOP = Path(__file__).parents[2]
TIMEOUT_S = 900
"""Some dozens of processes are started one after the other, on a machine that may be busy."""


def run(*arguments: str) -> str:
    return checked(
        subprocess.run(
            [sys.executable, "-m", "benchmarks", *arguments],
            check=False,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            cwd=TOP,
        )
    )


def _benchmarks(place: Path, *arguments: str) -> str:
    places = ["--memory", str(place), "--disk", str(place), "--scale", "0.0001"]
    return run(*places, *arguments)


def test_the_comparison_runs_and_counts_the_same_for_both(tmp_path: Path) -> None:
    asked = ["--repeat", "2", "--json", "--only", "load records", "--sizes", "", "--threads", ""]
    found = {each["name"]: each for each in json.loads(_benchmarks(tmp_path, *asked))["workloads"]}
    assert set(found) == {"load records"}
    for each in found.values():
        assert {peer: len(amounts) for peer, amounts in each["amounts"].items()} == {
            "ZODB": 2,
            "perdure": 2,
        }
        assert min(each["ratios"]["ZODB"]) > 0


def test_a_server_and_relational_databases_are_measured_beside(tmp_path: Path) -> None:
    asked = ["--repeat", "1", "--only", "traverse a past", "--sizes", "", "--threads", ""]
    printed = _benchmarks(tmp_path, *asked, "--peers", "perdure,ZODB,ZEO,RelStorage,shelve")
    (row,) = [line for line in printed.splitlines() if "(" in line and "| traverse" in line]
    assert row.count("µs") + row.count("ms") == 4, "shelve has no past, which leaves four"


def test_the_cost_is_measured_and_drawn_by_size_and_by_threads(tmp_path: Path) -> None:
    asked = ["--repeat", "1", "--only", "cold load", "--sizes", "100,1000", "--threads", "1,2"]
    drawing = importlib.util.find_spec("matplotlib") is not None  # `make bench` installs it
    plots = ["--plots", str(tmp_path / "to")] if drawing else []
    printed = json.loads(_benchmarks(tmp_path, *asked, *plots, "--peers", "perdure", "--json"))
    assert [each["size"] for each in printed["by_size"]] == [100, 1_000]
    assert [each["threads"] for each in printed["by_threads"]] == [1, 2]
    assert [each["larger"] for each in printed["growth"]] == [1_000]
    for name in ("cost-by-size.png", "cost-by-threads.png") if drawing else ():
        assert (tmp_path / "to" / name).read_bytes().startswith(b"\x89PNG")


def test_rows_of_a_relational_database_are_as_many_as_objects(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="only `make bench` installs it")
    asked = ["--repeat", "1", "--only", "change all", "--sizes", "", "--threads", "", "--json"]
    printed = json.loads(_benchmarks(tmp_path, *asked, "--peers", "perdure,SQLAlchemy"))
    assert {"perdure", "SQLAlchemy"} == set(printed["workloads"][0]["amounts"])


def test_the_names_of_the_workloads_can_be_listed() -> None:
    names = run("--list").splitlines()
    assert {"cold load", "bulk add, commit alone", "small commits", "pack"} <= set(names)


def _outcome(own: float, stock: float, *, own_mb: int = 50, **columns: Any) -> Outcome:
    workload = Workload("work", {}, "It works.", "nothing", 100, **{"per": "object", **columns})
    outcome = Outcome(workload, 100, 100, 1)
    for peer, amount, megabytes in (("perdure", own, own_mb), ("ZODB", stock, 50)):
        outcome.amounts[peer] = [amount] * 3
        outcome.peaks_bytes[peer] = [megabytes * 1_000_000] * 3
        outcome.net_peaks_bytes[peer] = [(megabytes - 30) * 1_000_000] * 3
    return outcome


def _broken(*outcomes: Outcome) -> dict[str, list[str]]:
    return {check.promise: check.broken for check in check_all(list(outcomes), [])}


def test_a_workload_that_is_slower_than_stock_is_named() -> None:
    assert _broken(_outcome(2.0, 1.0), _outcome(1.0, 2.0))["no workload slower than ZODB"] == [
        "work: 0.50 (0.50 to 0.50)"
    ]


def test_memory_above_stocks_is_named_with_and_without_imports() -> None:
    broken = _broken(_outcome(1.0, 1.0, own_mb=60), _outcome(1.0, 1.0))
    assert broken["peak memory not above ZODB's, all told"] == ["work: 120%"]
    assert broken["peak memory not above ZODB's, without imports"] == [
        "work: 30.0 MB, ZODB 20.0 MB"
    ]


def test_a_joint_commit_is_held_to_its_bound() -> None:
    promise = "a joint commit at most 2.2 syncs, or single ones in memory"
    assert _broken(_outcome(2.3, 1.0, unit="x"))[promise] == ["work: 2.30"]
    assert _broken(_outcome(2.1, 1.0, unit="x"))[promise] == []


def test_what_costs_more_in_a_larger_database_is_named() -> None:
    smaller, larger = _outcome(1.0, 1.0), _outcome(1.3, 1.0)
    whole = {**larger.__dict__, "objects": 1_000, "count": 1_000}
    grown = growths(Sweep([smaller, Outcome(**whole)]))
    (check,) = [each for each in check_all([], grown) if each.promise.startswith("at ten times")]
    assert check.broken == ["work, 100 to 1,000: 1.30, ZODB 1.00"]


def test_what_has_no_operation_may_take_ten_times_as_long_for_ten_times_as_much() -> None:
    smaller, larger = _outcome(1.0, 1.0, per=""), _outcome(10.0, 1.0, per="")
    whole = {**larger.__dict__, "objects": 1_000, "count": 1_000}
    (growth,) = growths(Sweep([smaller, Outcome(**whole)]))
    assert growth.factors["perdure"] == 1.0


def test_every_workload_is_done_by_perdure_and_stock() -> None:
    assert all({"perdure", "ZODB"} <= set(each.measures) for each in WORKLOADS.values())
