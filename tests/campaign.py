"""How much a campaign does, where it begins, and what it reached."""

import json
import os
from pathlib import Path

__all__ = ["CAMPAIGN", "SEED", "report"]

CAMPAIGN = int(os.environ.get("PERDURE_CAMPAIGN") or "1")
"""How many times as much as in a usual run."""

SEED = int(os.environ.get("PERDURE_SEED") or "1")
"""The seed of the first run; the following ones count up."""


def report(campaign: str, **figures: object) -> None:
    """Add what was reached to the file that PERDURE_FIGURES names, if it does."""
    if path := os.environ.get("PERDURE_FIGURES"):
        with Path(path).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"campaign": campaign, "seed": SEED, **figures}) + "\n")
