"""Imported first by a process that measures perdure: it is to be without stock ZODB.

BTrees imports all of ZODB where that is installed, and perdure would be measured with it.
"""

import json
import sys

__all__: list[str] = []


def _measures_perdure(arguments: list[str]) -> bool:
    if not arguments or not arguments[-1].startswith("{"):
        return False
    task = json.loads(arguments[-1])
    return bool(task["what"] == "measure" and task["peer"] == "perdure")


if _measures_perdure(sys.argv[1:]):
    sys.modules["ZODB"] = None  # type: ignore[assignment]
