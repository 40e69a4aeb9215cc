"""The order of Debian's version numbers: `[epoch:]upstream[-revision]`.

Two versions are compared by epoch, upstream version and revision. A part is compared in turns:
its next characters that are no digits, then its next digits as a number. Among the former a tilde
comes before the end of the part, the end before letters, letters before everything else.
"""

import operator
import re
from collections.abc import Callable

_PIECES = re.compile(r"(\D*)(\d*)")

PartKey = tuple[tuple[tuple[int, ...], int], ...]
VersionKey = tuple[int, PartKey, PartKey]

_RELATIONS: dict[str, Callable[[VersionKey, VersionKey], bool]] = {
    "<<": operator.lt,
    "<": operator.le,
    "<=": operator.le,
    "=": operator.eq,
    ">=": operator.ge,
    ">": operator.ge,
    ">>": operator.gt,
}


def version_key(version: str) -> VersionKey:
    """Return what sorts *version* among others."""
    epoch, colon, rest = version.rpartition(":") if ":" in version else ("", "", version)
    if colon and not epoch.isdecimal():
        epoch, rest = "", version
    upstream, dash, revision = rest.rpartition("-")
    if not dash:
        upstream, revision = rest, ""
    return int(epoch or 0), _part_key(upstream), _part_key(revision or "0")


def satisfies(version: str, relation: str, wanted: str) -> bool:
    """Tell whether *version* stands in *relation* (`<<`, `<=`, `=`, `>=`, `>>`) to *wanted*."""
    return _RELATIONS[relation](version_key(version), version_key(wanted))


def _part_key(part: str) -> PartKey:
    return tuple(
        ((*map(_weight, text), 0), int(number or 0)) for text, number in _PIECES.findall(part)
    )


def _weight(character: str) -> int:
    if character == "~":
        return -1
    return ord(character) if character.isalpha() else ord(character) + 0x110000
