"""Reading `perdure.toml`: its text, what is wrong with it and where."""

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from perdure.config._validate import Problem, problems
from perdure.sources import ConfigurationError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["read"]

_TABLE = re.compile(r"\s*\[+\s*(?P<name>[^\]]+?)\s*\]+\s*(#.*)?$")
_PART = re.compile(r"""\s*"[^"]*"\s*|\s*'[^']*'\s*|[^.]+""")
_KEY = re.compile(r"""\s*(?P<name>[\w.\-"' ]+?)\s*=""")


def read(path: Path) -> dict[str, Any]:
    """Return what the file says.

    Raises ConfigurationError, with the first that is wrong, and OSError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"this is no text in UTF-8: {error}", str(path)) from error
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except RecursionError as error:
        raise ConfigurationError("values are nested too deeply", str(path)) from error
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"line (\d+)", str(error))
        number = int(line[1]) if line else len(text.splitlines())
        raise ConfigurationError(str(error), str(path), number) from error
    for problem in problems(content):
        raise _error(problem, path, text)
    if ("database" in content) == bool(content.get("databases")):
        message = "give either one [database], or [databases.NAME] for each of several"
        raise ConfigurationError(message, str(path))
    return content


def _error(problem: Problem, path: Path, text: str) -> ConfigurationError:
    lines = _lines(text)
    keys = problem.keys
    while keys and keys not in lines:
        # Inside an inline table: the line of what it belongs to.
        keys = keys[:-1]
    return ConfigurationError(
        problem.message, str(path), lines.get(keys), ".".join(problem.keys) or ""
    )


def _lines(text: str) -> Mapping[tuple[str, ...], int]:
    """Return on which line each key stands."""
    found: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        header, key = _TABLE.match(line), _KEY.match(line)
        if header is not None:
            table = _names(header["name"])
            place = table
        elif key is not None:
            place = (*table, *_names(key["name"]))
        else:
            continue
        for depth in range(1, len(place) + 1):
            found.setdefault(place[:depth], number)
    return found


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(name.strip().strip("\"'") for name in _PART.findall(dotted) if name.strip())
