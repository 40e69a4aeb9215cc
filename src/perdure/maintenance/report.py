"""What a check found."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from perdure.ids import Oid, Tid, oid_repr, tid_repr

__all__ = ["CheckReport", "Finding", "OtherReference", "Step"]


class Step(NamedTuple):
    """An object on the way from the root to another."""

    oid: Oid
    class_name: str
    member: str = ""
    """The member that it belongs to, where the way leads through several."""

    def __str__(self) -> str:
        place = f"{self.member}:" if self.member else ""
        return f"{place}{oid_repr(self.oid)} {self.class_name.rpartition('.')[2]}".rstrip()


class OtherReference(NamedTuple):
    """A reference to an object of another member, and one of the objects that have it."""

    database: str
    oid: Oid
    referrer: Oid


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    `kind` is `damaged` (bytes that are no whole transaction), `lost` (a record that can be made out
    in these), `unfinished` (a transaction that was voted and not finished), `previous` and `data-position` (a wrong position inside the file),
    `checksum` (a transaction isn't what was written), `unreadable` (the record isn't made of
    pickles), `missing` (an object that is referred to does not exist) or `blob` (the file of a
    blob is not there, or was cut, or has grown).
    """

    kind: str
    problem: str
    position: int | None
    """Where in the file, in bytes; None where there is no file."""
    oid: Oid | None = None
    """The object whose record it is."""
    class_name: str = ""
    tid: Tid | None = None
    target: Oid | None = None
    """The object that is missing."""
    target_database: str | None = None
    """The member that the missing object should be in; None: the same."""
    path: tuple[Step, ...] = ()
    """The objects that lead from the root to this one, which is the last; empty: none do."""
    encoding: str | None = None
    """What a layer seems to have done to an unreadable record, such as `encrypted`: the layer can
    read it."""

    def __str__(self) -> str:
        where = f"at position {self.position}: " if self.position is not None else ""
        if self.oid is None:
            return f"{where}{self.problem}"
        cls = f" ({self.class_name})" if self.class_name else ""
        tid = f", written by {tid_repr(self.tid)}" if self.tid else ""
        return f"{where}{oid_repr(self.oid)}{cls}{tid}: {self.problem}{self._reached()}"

    def _reached(self) -> str:
        if not self.path:
            return "; nothing leads to it from the root"
        return f"; reached by {' > '.join(map(str, self.path))}"


@dataclass(frozen=True)
class CheckReport:
    """What a check read and found."""

    name: str
    """The path or name of what was checked."""
    transactions: int
    records: int
    objects: int
    """How many objects exist, reachable or not."""
    bytes_read: int = 0
    findings: list[Finding] = field(default_factory=list)
    """What is wrong; of very much only the first 10,000."""
    findings_total: int = 0
    references_to_others: list[OtherReference] = field(default_factory=list)
    """The objects of other databases that this one refers to; in a check of a collection
    of files or storages of perdure's own, those that no member has."""
    verified: int = 0
    """How many transactions were compared with their checksums and found to be as written."""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings_total

    def with_findings(self, more: Iterable[Finding]) -> "CheckReport":
        """Return the report with more findings."""
        added = list(more)
        return replace(
            self,
            findings=[*self.findings, *added],
            findings_total=self.findings_total + len(added),
        )

    def __str__(self) -> str:
        wrong = "nothing is wrong" if self.ok else f"{self.findings_total:,} findings"
        return (
            f"{self.name}: {self.objects:,} objects, {self.records:,} records in "
            f"{self.transactions:,} transactions; {wrong}"
        )
