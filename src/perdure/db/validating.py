"""Looking for routes and references of a collection that contradict its settings."""

import importlib
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from perdure import _native
from perdure.broken import find_global
from perdure.db.routes import Routes
from perdure.ids import ROOT_OID, Oid, Tid
from perdure.interfaces import IStorageCurrentRecordIteration

__all__ = ["CollectionWarning", "Finding", "validate"]

Kind = Literal["no such class", "read-only", "closed off", "crossing", "refused", "misplaced"]


class CollectionWarning(UserWarning):
    """Something in a collection contradicts its routes or other settings."""


@dataclass(frozen=True)
class Finding:
    """One contradiction.

    `kind` is "no such class": a route names what can't be imported; "read-only": a route
    leads to a member that takes no changes; "closed off": to one that no other member may
    refer to; "crossing": a member with `xrefs=False` has references to another; "refused":
    objects of such a member refer to a class whose new objects go elsewhere, so that they
    couldn't be committed; "misplaced": objects are in another member than their route
    says.
    """

    kind: Kind
    member: str
    """The member concerned."""
    count: int
    """How many references or objects; 0 for what concerns a route itself."""
    text: str

    def __str__(self) -> str:
        return self.text


def validate(members: Mapping[str, Any], routes: Routes, *, warn: bool = True) -> list[Finding]:
    """Return all findings, and warn of each; see `Collection.validate`."""
    found = [*_of_routes(members, routes), *_Stored(members, routes).findings()]
    if warn:
        for finding in found:
            warnings.warn(str(finding), CollectionWarning, stacklevel=3)
    return found


def _of_routes(members: Mapping[str, Any], routes: Routes) -> Iterator[Finding]:
    for name, member in routes.items():
        if not _exists(name):
            text = f"the route of {name!r} to {member!r}: there is nothing of that name to import"
            yield Finding("no such class", member, 0, text)
    for member in dict.fromkeys(routes.values()):
        if members[member].storage.isReadOnly():
            text = f"routes lead to {member!r}, which is read-only"
            yield Finding("read-only", member, 0, text)
        others = [other for name, other in members.items() if name != member]
        if not any(other.xrefs for other in others):
            text = (
                f"routes lead to {member!r}, but no other member may refer to anything there, for "
                "all have xrefs=False: new objects can only be reached from itself"
            )
            yield Finding("closed off", member, 0, text)


def _exists(name: str) -> bool:
    """Tell whether there is a module, or something in one, of that name."""
    module = name
    attributes: list[str] = []
    while module:
        try:
            found: Any = importlib.import_module(module)
        except ImportError:
            module, _, rest = module.rpartition(".")
            attributes.insert(0, rest)
            continue
        for attribute in attributes:
            found = getattr(found, attribute, None)
        return found is not None
    return False


class _Stored:
    """What the records of all members say."""

    def __init__(self, members: Mapping[str, Any], routes: Routes) -> None:
        self._members = members
        self._routes = routes
        self._classes: dict[str, dict[Oid, str]] = {}
        """The classes of all objects, where references to them have to be known."""
        self._destinations: dict[str, str | None] = {}

    def findings(self) -> Iterator[Finding]:
        """Read all members."""
        closed = [name for name, member in self._members.items() if not member.xrefs]
        if not closed and not self._routes:
            return
        for name in self._members:
            self._classes[name] = {oid: _class_name(data) for oid, data in self._records(name)}
        for name, classes in self._classes.items():
            movable = (cls for oid, cls in classes.items() if oid != ROOT_OID)
            for cls, count in sorted(Counter(movable).items()):
                destination = self._destination(cls)
                if destination not in {None, name}:
                    text = (
                        f"objects of {cls} are in {name!r} ({count}), their route leads to "
                        f"{destination!r}: collection.move takes them there"
                    )
                    yield Finding("misplaced", name, count, text)
        for name in closed:
            yield from self._of_closed(name)

    def _of_closed(self, name: str) -> Iterator[Finding]:
        """Find what contradicts that a member doesn't refer to others."""
        crossing: Counter[tuple[str, str, str]] = Counter()
        refused: Counter[tuple[str, str, str]] = Counter()
        for oid, data in self._records(name):
            by = self._classes[name].get(oid, "unknown")
            for kind, target, other in _references(data):
                member = name if other is None else other
                if kind == "weak" and member == name:
                    continue
                cls = self._classes.get(member, {}).get(target, "unknown")
                if member != name:
                    crossing[by, cls, member] += 1
                    continue
                destination = self._destination(cls)
                if destination not in {None, name}:
                    refused[by, cls, str(destination)] += 1
        for (by, cls, member), count in sorted(crossing.items()):
            text = (
                f"references lead from {by} in {name!r} (xrefs=False) to {cls} in {member!r} "
                f"({count}): the objects that have them can't be changed"
            )
            yield Finding("crossing", name, count, text)
        for (by, cls, member), count in sorted(refused.items()):
            text = (
                f"references lead from {by} to {cls} in {name!r} (xrefs=False; {count}): new "
                f"objects of {cls} go to {member!r}, and references to them are refused"
            )
            yield Finding("refused", name, count, text)

    def _destination(self, class_name: str) -> str | None:
        """Return the member that new objects of a class go to, if a route holds for it."""
        if class_name not in self._destinations:
            module, _, name = class_name.rpartition(".")
            cls = find_global(module, name) if module else None
            found = self._routes.member_for(cls) if isinstance(cls, type) else None
            self._destinations[class_name] = found
        return self._destinations[class_name]

    def _records(self, name: str) -> Iterator[tuple[Oid, bytes]]:
        """Give the current records of a member; none where the storage can't list them."""
        storage = self._members[name].storage
        if not IStorageCurrentRecordIteration.providedBy(storage):
            return
        following: Oid | None = None
        while True:
            record: tuple[Oid, Tid, bytes, Oid | None]
            record = storage.record_iternext(following)
            yield record[0], record[2]
            following = record[3]
            if following is None:
                return


def _class_name(data: bytes) -> str:
    try:
        found = _native.class_name(data)
    except ValueError:
        found = None
    return "unknown" if found is None else ".".join(found)


def _references(data: bytes) -> list[tuple[str, Oid, str | None]]:
    try:
        return list(_native.all_references(data))
    except ValueError:
        return []
