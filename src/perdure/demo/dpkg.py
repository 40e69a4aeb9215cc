"""Reading Debian's package database: the file `status` of dpkg.

The file is a sequence of stanzas (fields as in a mail's header, an empty line between stanzas).
A dependency is a list of relations separated by commas; a relation is alternatives separated by
`|`; an alternative is a package's name, or a name that packages *provide*, and maybe a version.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from perdure.demo.debversion import satisfies
from perdure.demo.sources import Facts, Need, Source, SourceError

STATUS_FILE = Path("/var/lib/dpkg/status")

_ALTERNATIVE = re.compile(
    r"(?P<name>[a-z0-9][a-z0-9+.-]*)(?::[a-z0-9-]+)?"
    r"(?:\s*\(\s*(?P<relation><<|<=|=|>=|>>|<|>)\s*(?P<version>[^\s)]+)\s*\))?"
    r"(?:\s*\[[^]]*\])?(?:\s*<[^>]*>)*"
)
_MAINTAINER = re.compile(r"(?P<name>.*?)\s*<(?P<email>[^<>]*)>\s*")

Stanza = dict[str, str]


class Alternative(NamedTuple):
    """A package's name (real or provided) and the version that it has to have, if any."""

    name: str
    relation: str | None
    version: str | None


class Offer(NamedTuple):
    """A package that goes by a name, and with which version (None: provided without one)."""

    key: str
    version: str | None


def read_status(path: Path = STATUS_FILE) -> Source:
    """Return the packages that dpkg's status file at *path* calls installed.

    Raises `SourceError` for a file that isn't one, naming the line; `OSError` when unreadable.
    """
    stanzas = [
        stanza
        for stanza in _stanzas(path)
        if stanza.get("status", "install ok installed").endswith(" installed")
    ]
    keys = _keys(stanzas)
    offers = _offers(zip(keys, stanzas, strict=True))
    facts = tuple(
        _facts(key, stanza, offers, path) for key, stanza in zip(keys, stanzas, strict=True)
    )
    return Source(f"Debian's package database, {path}", facts)


def _stanzas(path: Path) -> Iterator[Stanza]:
    stanza: Stanza = {}
    field = ""
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            text = line.rstrip("\n")
            if not text.strip():
                if stanza:
                    yield stanza
                stanza, field = {}, ""
            elif text[0] in " \t":
                if not field:
                    raise SourceError(f"{path}, line {number}: a continuation without its field")
                stanza[field] += "\n" + text.strip()
            else:
                name, colon, value = text.partition(":")
                if not colon or not name or " " in name:
                    raise SourceError(f"{path}, line {number}: expected `Field: value`")
                field = name.lower()
                stanza[field] = value.strip()
    if stanza:
        yield stanza


def _keys(stanzas: list[Stanza]) -> list[str]:
    """Name each stanza: the package's name, with its architecture where the name is not unique."""
    count: defaultdict[str, int] = defaultdict(int)
    for stanza in stanzas:
        count[stanza.get("package", "")] += 1
    return [
        name if count[name] == 1 else f"{name}:{stanza.get('architecture', 'all')}"
        for stanza in stanzas
        for name in [stanza.get("package", "")]
    ]


def _offers(named: Iterator[tuple[str, Stanza]]) -> dict[str, list[Offer]]:
    offers: defaultdict[str, list[Offer]] = defaultdict(list)
    for key, stanza in named:
        offers[stanza.get("package", "")].append(Offer(key, stanza.get("version", "")))
        for provided in _alternatives(stanza.get("provides", ""), ","):
            offers[provided.name].append(Offer(key, provided.version))
    return offers


def _facts(key: str, stanza: Stanza, offers: dict[str, list[Offer]], path: Path) -> Facts:
    if not key or "version" not in stanza:
        raise SourceError(f"{path}: a stanza without Package or Version: {stanza}")
    found = _MAINTAINER.fullmatch(stanza.get("maintainer", ""))
    name, email = found.group("name", "email") if found else (stanza.get("maintainer", ""), "")
    size = stanza.get("installed-size", "0")
    relations = [stanza.get(field, "") for field in ("pre-depends", "depends")]
    return Facts(
        name=key,
        version=stanza["version"],
        summary=stanza.get("description", "").partition("\n")[0],
        section=stanza.get("section", "unknown"),
        size_kib=int(size) if size.isdecimal() else 0,
        maintainer_name=name.strip('" ') or "unknown",
        maintainer_email=email.lower() or name or "unknown",
        needs=tuple(
            _need(text.strip(), offers)
            for relation in relations
            for text in relation.split(",")
            if text.strip()
        ),
    )


def _alternatives(text: str, separator: str) -> Iterator[Alternative]:
    for part in text.split(separator):
        found = _ALTERNATIVE.fullmatch(part.strip())
        if found:
            yield Alternative(*found.group("name", "relation", "version"))


def _need(asked: str, offers: dict[str, list[Offer]]) -> Need:
    names: dict[str, None] = {}
    for alternative in _alternatives(asked, "|"):
        for offer in offers.get(alternative.name, ()):
            if _fits(offer, alternative):
                names[offer.key] = None
    return Need(" ".join(asked.split()), tuple(names))


def _fits(offer: Offer, wanted: Alternative) -> bool:
    if wanted.relation is None or wanted.version is None:
        return True
    return offer.version is not None and satisfies(offer.version, wanted.relation, wanted.version)
