"""Damaged input for the parsers that Python calls: an error of `perdure.errors`, nothing else.

`crates/sim` does the same for those of the engine, and `fuzz/` lets coverage choose the damage.
`make mutate` does it at length.
"""

import contextlib
import random
from pathlib import Path

import pytest
from tests.campaign import CAMPAIGN, SEED, report
from tests.fault import parsers
from tests.fault.parsers import PARSERS

TIMES = 300 * CAMPAIGN
FROZEN = sorted(
    path
    for name in PARSERS
    for path in (Path(__file__).parents[2] / "fuzz" / "seeds" / name).glob("*")
)


def mutated(data: bytes, dice: random.Random) -> bytes:
    """Change, cut, repeat or insert a few bytes."""
    changed = bytearray(data)
    for _ in range(dice.randrange(1, 5)):
        at = dice.randrange(len(changed) + 1)
        size = dice.randrange(1, 9)
        piece = dice.choice([dice.randbytes(size), bytes(size), b"\xff" * size])
        kind = dice.randrange(4)
        if kind == 0:
            changed[at : at + size] = piece
        elif kind == 1:
            del changed[at : at + dice.randrange(1, 40)]
        elif kind == 2:
            start = dice.randrange(len(changed) + 1)
            changed[at:at] = changed[start : start + dice.randrange(1, 60)]
        else:
            changed[at:at] = piece
    return bytes(changed)


@pytest.mark.parametrize("name", PARSERS)
def test_damaged_input_is_an_error_of_this_package(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dice = random.Random(SEED)
    known = PARSERS[name].seeds()
    with contextlib.closing(PARSERS[name].parser()) as parse:
        for number in range(TIMES):
            data = mutated(dice.choice(known), dice)
            try:
                parse(data)
            except BaseException as error:
                raise AssertionError(f"seed {SEED}, number {number}: {data!r}") from error
    report("mutations", parser=name, executions=TIMES)


@pytest.mark.parametrize("frozen", FROZEN, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_once_is_an_error_of_this_package(
    frozen: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(parsers, "USED_ONE_IN", 1)
    with contextlib.closing(PARSERS[frozen.parent.name].parser()) as parse:
        parse(frozen.read_bytes())
