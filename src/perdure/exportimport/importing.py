"""Reading export files."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from perdure import _native
from perdure.errors import DanglingReferenceError, ExportError
from perdure.exportimport.format import Entry, entries, entries_of_members
from perdure.ids import NO_TID, Oid, oid_repr
from perdure.interfaces import IBlobStorage
from perdure.serialize.rewriting import Reference, parsed_references, rewrite_references
from perdure.utils import cp, mktemp

__all__ = ["Import", "Target"]


@dataclass
class Target:
    """A member that objects are imported into."""

    name: str
    storage: Any
    """Takes records and, where it keeps blobs, files."""
    new_oid: Callable[[], Oid]
    xrefs: bool = True
    """Whether its objects may refer to those of other members."""
    stored: list[Oid] = field(default_factory=list)
    """The new oids of what was imported."""


class Import:
    """Stores the objects of one export file under new oids.

    *home* takes the exported object, and all others of a file that doesn't tell their members.
    *targets* are by the names that members have in the file; *names* are new names for those that
    objects only refer to. *exists* tells whether a member has an object that is referred to; it
    raises ExportError for a member that isn't there.
    """

    def __init__(
        self,
        home: Target,
        targets: Mapping[str, Target],
        names: Mapping[str, str],
        exists: Callable[[str, Oid], bool],
    ) -> None:
        self._home = home
        self._targets = targets
        self._names = names
        self._exists = exists
        self._oids: dict[tuple[str | None, Oid], Oid] = {}
        self.first: Oid | None = None
        """The new oid of the exported object."""

    def run(self, file: IO[bytes], members: Sequence[str] | None = None) -> None:
        """Store all objects of the file, which is read from behind its header.

        *members* are the names in the header, None for a file without one. Raises ExportError for
        a file that is cut off, garbled or incomplete, and for a reference to a member that isn't
        there; DanglingReferenceError for one to an object that a member doesn't have. What was
        stored so far is for the caller to take back.
        """
        found: Iterator[Entry] = (
            entries(file) if members is None else entries_of_members(file, members)
        )
        for entry in found:
            if self.first is None and members and entry.member != members[0]:
                raise ExportError(
                    f"the export file is garbled: its first object is {entry.member!r}'s, not "
                    f"{members[0]!r}'s"
                )
            if self.first is not None and (entry.member, entry.oid) not in self._oids:
                raise ExportError(
                    f"the export file is garbled: nothing in it refers to {oid_repr(entry.oid)}"
                )
            self._store(entry, file)

    def _target(self, member: str | None) -> Target:
        return self._home if member is None else self._targets[member]

    def _replacement(self, member: str | None, oid: Oid) -> Oid:
        new = self._oids.get((member, oid))
        if new is None:
            new = self._oids[member, oid] = self._target(member).new_oid()
        return new

    def _store(self, entry: Entry, file: IO[bytes]) -> None:
        target = self._target(entry.member)
        oid = self._replacement(entry.member, entry.oid)
        if self.first is None:
            self.first = oid
        try:
            data = self._with_new_references(entry, oid)
        except ValueError as error:
            raise ExportError(
                f"the record of {oid_repr(entry.oid)} in the export file can't be read: {error}"
            ) from error
        if entry.blob_bytes is None:
            target.storage.store(oid, NO_TID, data, "", None)
        else:
            _store_blob(target.storage, oid, data, entry, file)
        target.stored.append(oid)

    # References.

    def _with_new_references(self, entry: Entry, oid: Oid) -> bytes:
        def own(target: Oid) -> Oid:
            return self._replacement(entry.member, target)

        if all(database is None for _kind, _oid, database in _native.all_references(entry.data)):
            return _native.replace_references(entry.data, own)
        new = {each: self._new_reference(each, entry, oid) for each in _distinct(entry.data)}
        return rewrite_references(entry.data, new.__getitem__)

    def _new_reference(self, reference: Reference, entry: Entry, oid: Oid) -> Reference:
        target = self._target(entry.member)
        member = entry.member if reference.database is None else reference.database
        if reference.database is None or member in self._targets:
            name = self._target(member).name
            new = self._replacement(member, reference.oid)
        else:
            name, new = self._names.get(str(member), str(member)), reference.oid
            self._require(name, reference, oid, entry)
        if name == target.name:
            return reference._replace(oid=new, database=None)
        if not target.xrefs:
            raise ExportError(
                f"{oid_repr(entry.oid)} in the export file refers to an object in {name!r}, and "
                f"database {target.name!r} holds no references to others (xrefs=False)"
            )
        return reference._replace(oid=new, database=name)

    def _require(self, name: str, reference: Reference, oid: Oid, entry: Entry) -> None:
        """Raise unless the member *name* has what is referred to."""
        if not self._exists(name, reference.oid) and not reference.weak:
            cls = ".".join(_native.class_name(entry.data) or ())
            raise DanglingReferenceError(
                oid, reference.oid, {"class_name": cls, "path": "", "database": name}
            )


def _distinct(data: bytes) -> dict[Reference, None]:
    return dict.fromkeys(parsed_references(data))


def _store_blob(storage: Any, oid: Oid, data: bytes, entry: Entry, file: IO[bytes]) -> None:
    if not IBlobStorage.providedBy(storage):
        raise ExportError(
            f"the export file has a blob ({oid_repr(entry.oid)}), and this database keeps "
            "none: open it with a blob_dir"
        )
    path = mktemp(storage.temporaryDirectory())
    try:
        with Path(path).open("wb") as target:
            cp(file, target, entry.blob_bytes)
        if os.path.getsize(path) != entry.blob_bytes:  # noqa: PTH202 - paths of blobs are text
            raise ExportError(f"Truncated export file: the blob {oid_repr(entry.oid)} is cut")
        storage.storeBlob(oid, NO_TID, data, path, "", None)
    finally:
        Path(path).unlink(missing_ok=True)
