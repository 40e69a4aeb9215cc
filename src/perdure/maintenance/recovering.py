"""Salvaging what is whole from a damaged data file."""

import os
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from perdure import _native
from perdure._folders import sync_folder
from perdure._targets import require_folder
from perdure.blob import copyTransactionsFromTo
from perdure.errors import POSKeyError, StorageError
from perdure.ids import NO_TID, Oid, Tid, oid_repr, tid_repr
from perdure.maintenance._imaging import Part, image_of, is_read_failure
from perdure.maintenance._salvage import Broken, DamagedRecord, Gap, Salvage
from perdure.maintenance.checking import check
from perdure.maintenance.report import CheckReport
from perdure.storage.file import FileStorage

__all__ = ["DamagedRecord", "Lost", "Recovered", "recover"]

Progress = Callable[[int, int], object]

_BEGINNING: Final = b"FS21"
"""Of a data file; others begin with FS30, which makes no difference here."""


@dataclass(frozen=True)
class Lost:
    """A part of the file that could not be salvaged."""

    start: int
    """Where it begins, in bytes."""
    end: int
    """Where it ends."""
    problem: str
    tid: Tid | None
    """The transaction that seems to begin there."""
    oids: tuple[Oid, ...]
    """The objects that seem to have had records in it."""
    kept: int = 0
    """How many records in it were salvaged: they are what was written, by their checksums."""

    def __str__(self) -> str:
        tid = f" of transaction {tid_repr(self.tid)}" if self.tid else ""
        objects = ", ".join(map(oid_repr, self.oids))
        of = f"; records of {objects}" if objects else ""
        kept = f"; of these {self.kept} were whole, and are salvaged" if self.kept else ""
        return f"bytes {self.start} to {self.end}{tid}{of}: {self.problem}{kept}"


@dataclass(frozen=True)
class Recovered:
    """What was salvaged, and what was not."""

    transactions: int
    """How many transactions the result has."""
    records: int
    lost: list[Lost] = field(default_factory=list)
    """The parts of the file that are no whole transactions."""
    lost_records: list[DamagedRecord] = field(default_factory=list)
    """Records that aren't what was written, or whose data are lost: they were left out."""
    doubtful: list[DamagedRecord] = field(default_factory=list)
    """What was copied although it may not be what was written: records of a transaction of which
    only the whole is known to be damaged, and transactions' user, description and extension."""
    remaining: CheckReport | None = None
    """What a check of the result finds: unreadable records, references to lost objects."""
    unread: list[Part] = field(default_factory=list)
    """The parts of the file that the device doesn't give."""

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and the result is sound."""
        sound = self.remaining is None or self.remaining.ok
        lost = self.lost or self.lost_records or self.doubtful or self.unread
        return sound and not lost


def recover(
    source: str | os.PathLike[str], target: Any, progress: Progress | None = None
) -> Recovered:
    """Copy what is whole in the damaged file *source* into *target*.

    The source is only read. Where its device doesn't give all of it (EIO), what it gives is copied
    beside the target first, and what stood in the other parts is lost. It is compared with its
    checksums, where it has any: a record that isn't what was written is left out, with the others
    of its transaction being kept, and told in the result. *target* is the path of a new file, or an empty storage. Blob files stay where they
    are: copy their folder, if there is one. *progress* is called with how many of how many bytes
    are looked at, to find what is whole, to compare checksums, and then to copy. What it raises
    stops the recovery. A new file has its name only when it is whole: after an error there is none,
    and a process that is killed leaves a file `.recovering`, which the next one writes anew.

    Raises StorageError where the target isn't empty, FileNotFoundError where its folder isn't there,
    NotADatabase where the source is no data file.
    """
    if isinstance(target, (str, os.PathLike)):
        return _into_file(Path(source), Path(target), progress)
    storage = getattr(target, "storage", target)
    if storage.lastTransaction() not in (NO_TID, None):
        raise StorageError(f"{storage!r} isn't empty: recover into a new storage")
    with TemporaryDirectory() as folder:
        image = Path(folder, Path(source).name)
        return _into_storage(Path(source), image, storage, progress)


def _into_storage(source: Path, image: Path, storage: Any, progress: Progress | None) -> Recovered:
    """Recover from a file; *image* is where one is copied to that can't be read everywhere."""
    try:
        return _into(source, storage, progress)
    except OSError as error:
        if not is_read_failure(error) or storage.lastTransaction() not in (NO_TID, None):
            raise
    sums = Path(f"{image}.psums")
    try:
        unread = image_of(source, image, progress, beginning=_BEGINNING)
        with suppress(FileNotFoundError):
            image_of(source.with_name(f"{source.name}.psums"), sums)
        return _into(image, storage, progress, unread)
    finally:
        image.unlink(missing_ok=True)
        sums.unlink(missing_ok=True)


def _into(
    path: Path, storage: Any, progress: Progress | None, unread: Sequence[Part] = ()
) -> Recovered:
    found = _native.check_file(path, progress)
    gaps = [Gap(*gap) for gap in found["gaps"]]
    broken = [Broken(**each) for each in _native.find_broken(path, found["gaps"], progress)]
    with closing(Salvage(path, found["bytes"], gaps, broken, progress, unread)) as salvage:
        copyTransactionsFromTo(salvage, storage)
        return Recovered(
            transactions=salvage.transactions,
            records=salvage.records,
            lost=[Lost(*gap, *salvage.traces(gap), salvage.kept_in(gap)) for gap in gaps]
            + [
                _never_whole(each)
                for each in broken
                if each.is_unfinished and not salvage.is_in_gap(each.position)
            ],
            lost_records=[_with_revisions(each, storage) for each in salvage.lost_records],
            doubtful=[_with_revisions(each, storage) for each in salvage.doubtful],
            remaining=check(storage),
            unread=list(unread),
        )


def _into_file(source: Path, target: Path, progress: Progress | None) -> Recovered:
    """Recover into a file that gets its name when it is whole, whatever ends the process before."""
    _require_new(target)
    partial = target.with_name(f"{target.name}.recovering")
    if partial.exists() and partial.samefile(source):
        raise StorageError(
            f"{source} has the name of what is written on the way to {target}: rename it first"
        )
    # Nobody else is at work on it while it is open, and what was left of it is overwritten.
    storage = FileStorage(partial, create=True)
    try:
        with closing(storage):
            done = _into_storage(source, Path(f"{partial}.image"), storage, progress)
        _require_new(target)
        for suffix in ("", ".psums", ".pindex"):
            written = Path(f"{partial}{suffix}")
            if written.exists():
                written.replace(f"{target}{suffix}")
        sync_folder(target.parent)
    finally:
        for suffix in ("", ".psums", ".pindex", ".lock"):
            Path(f"{partial}{suffix}").unlink(missing_ok=True)
    checked = done.remaining and replace(done.remaining, name=str(target))
    return replace(done, remaining=checked)


def _require_new(path: Path) -> None:
    if path.exists() and path.stat().st_size > 0:
        raise StorageError(f"{path} exists already: recover into a new file")
    require_folder(path)


def _never_whole(broken: Broken) -> Lost:
    problem = "it isn't what was written, by its checksums, and may never have been whole"
    return Lost(
        broken.position, broken.end, problem, broken.tid, tuple(o for _, o in broken.damaged)
    )


def _with_revisions(record: DamagedRecord, storage: Any) -> DamagedRecord:
    """Say which revisions of the object there are in the result."""
    if record.oid is None:
        return record
    earlier, current = _earlier(storage, record.oid, record.tid), _current(storage, record.oid)
    if current is None:
        rest = "no revision of it is left"
    elif current > record.tid:
        rest = f"a later revision, written by {tid_repr(current)}, is current"
    elif current == record.tid:
        return replace(record, earlier=earlier, current=current)
    else:
        rest = f"the revision written by {tid_repr(current)} is current now"
    problem = f"{record.problem}; {rest}"
    return replace(record, problem=problem, earlier=earlier, current=current)


def _earlier(storage: Any, oid: Oid, tid: Tid) -> Tid | None:
    try:
        found = storage.loadBefore(oid, tid)
    except POSKeyError:
        return None
    return Tid(found[1]) if found else None


def _current(storage: Any, oid: Oid) -> Tid | None:
    try:
        return Tid(storage.load(oid)[1])
    except POSKeyError:
        return None
