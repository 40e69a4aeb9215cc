"""Find every place where some objects occur in a data file."""

from pathlib import Path
from typing import Any, NamedTuple

from perdure.compat._tool import reading
from perdure.ids import Oid, Tid
from perdure.serialize import get_refs
from perdure.timestamp import TimeStamp
from perdure.utils import get_pickle_metadata, oid_repr, p64, tid_repr

from ._iterator import FileIterator

__all__ = ["Tracer", "get_class", "shorten"]

_UNKNOWN = "<unknown>"


def get_class(pickle: bytes) -> str:
    """Return the full name of the class that a record describes."""
    return ".".join(get_pickle_metadata(pickle))


def shorten(s: Any, size: int = 50) -> Any:
    """Return *s*, with something taken out of its middle if it is longer than *size*."""
    if len(s) <= size:
        return s
    left = size - 5
    dots = b" ... " if isinstance(s, bytes) else " ... "
    return s[: left // 2] + dots + s[-(size - left // 2) :]


class _About(NamedTuple):
    """What is shown of a transaction."""

    status: str
    user: bytes
    description: bytes
    position: int


class Tracer:
    """Finds all revisions of some objects in the data file *path*, and all references.

    `register_oids` says which objects, `run` reads the file, `report` prints what was
    found.
    """

    def __init__(self, path: str) -> None:
        if not Path(path).is_file():
            raise ValueError("must specify an existing FileStorage")
        self.path = path
        self.tid2info: dict[Tid, _About] = {}
        self.msgs: list[tuple[Oid, Tid, str]] = []
        self.oids: dict[Oid, int] = {}
        self.oid2name: dict[Oid, str] = {}
        self._class_of: dict[Oid, str] = {}

    def register_oids(self, *oids: bytes | int) -> None:
        """Have these objects traced, given by their oids or the numbers of these."""
        for oid in oids:
            packed = p64(oid) if isinstance(oid, int) else oid
            if len(packed) != 8:
                raise ValueError(f"an oid has 8 bytes: {packed!r}")
            self.oids[Oid(packed)] = 0

    def run(self) -> None:
        """Read the file."""
        with FileIterator(self.path) as transactions:
            for transaction in transactions:
                before = len(self.msgs)
                self._trace(list(transaction))
                if len(self.msgs) > before:
                    self.tid2info[transaction.tid] = _About(
                        transaction.status,
                        transaction.user,
                        transaction.description,
                        transaction._tpos,
                    )

    def _say(self, oid: Oid, record: Any, message: str) -> None:
        self.msgs.append((oid, record.tid, f"{message} at {record.pos}"))

    def _trace(self, records: list[Any]) -> None:
        present = {record.oid: record.data for record in records if record.data}
        for record in records:
            if record.oid not in self.oids:
                continue
            if not record.data:
                self._say(record.oid, record, "creation undo")
                continue
            name = get_class(record.data)
            self._say(record.oid, record, f"new revision {name}")
            self.oids[record.oid] += 1
            self.oid2name[record.oid] = self._class_of[record.oid] = name
        for record in records:
            if record.data:
                self._trace_references(record, present)

    def _trace_references(self, record: Any, present: dict[Oid, bytes]) -> None:
        with reading(self.path, record.oid):
            references = get_refs(record.data)
        for oid, described in references:
            if oid in self.oids:
                source = self._class_of.setdefault(record.oid, get_class(record.data))
                self._say(oid, record, f"referenced by {oid_repr(record.oid)} {source}")
            if record.oid in self.oids:
                name = self._name(oid, described, present)
                self._say(record.oid, record, f"references {oid_repr(oid)} {name}")

    def _name(self, oid: Oid, described: Any, present: dict[Oid, bytes]) -> str:
        if isinstance(described, tuple):
            self._class_of[oid] = f"{described[0]}.{described[1]}"
        elif described is not None:
            self._class_of[oid] = f"{described.__module__}.{described.__name__}"
        elif oid not in self._class_of and oid in present:
            self._class_of[oid] = get_class(present[oid])
        return self._class_of.get(oid, _UNKNOWN)

    def report(self) -> None:
        """Print what was found, by oid and then by transaction."""
        found = sorted(self.msgs)
        for oid in sorted(self.oids):
            count = self.oids[oid]
            revisions = "revision" if count == 1 else "revisions"
            print("oid", oid_repr(oid), self.oid2name.get(oid, _UNKNOWN), count, revisions)
            if oid not in self.oid2name:
                print("    this oid was not defined (no data record for it found)")
            self._report_object([entry for entry in found if entry[0] == oid])

    def _report_object(self, found: list[tuple[Oid, Tid, str]]) -> None:
        shown = None
        for _oid, tid, message in found:
            if tid != shown:
                shown = tid
                about = self.tid2info[tid]
                print(f"    tid {tid_repr(tid)} offset={about.position} {TimeStamp(tid)}")
                print(f"        tid user={shorten(about.user)!r}")
                print(f"        tid description={shorten(about.description)!r}")
            print("       ", message)
