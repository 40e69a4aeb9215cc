"""Salvaging what is whole from a damaged data file."""

import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from perdure import _native
from perdure.blob import copyTransactionsFromTo
from perdure.errors import StorageError
from perdure.ids import NO_TID, Oid, Tid, oid_repr, tid_repr
from perdure.maintenance._salvage import Gap, Salvage
from perdure.maintenance.checking import check
from perdure.maintenance.report import CheckReport, Finding
from perdure.storage.file import FileStorage

__all__ = ["Lost", "Recovered", "recover"]

Progress = Callable[[int, int], object]


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

    def __str__(self) -> str:
        tid = f" of transaction {tid_repr(self.tid)}" if self.tid else ""
        objects = ", ".join(map(oid_repr, self.oids))
        of = f"; records of {objects}" if objects else ""
        return f"bytes {self.start} to {self.end}{tid}{of}: {self.problem}"


@dataclass(frozen=True)
class Recovered:
    """What was salvaged, and what was not."""

    transactions: int
    records: int
    lost: list[Lost] = field(default_factory=list)
    lost_records: list[Finding] = field(default_factory=list)
    """Records whose data stood in a lost part: they were left out."""
    remaining: CheckReport | None = None
    """What a check of the result finds: unreadable records, references to lost objects."""

    @property
    def ok(self) -> bool:
        """Whether nothing was lost and the result is sound."""
        sound = self.remaining is None or self.remaining.ok
        return sound and not self.lost and not self.lost_records


def recover(
    source: str | os.PathLike[str], target: Any, progress: Progress | None = None
) -> Recovered:
    """Copy every whole transaction of the damaged file *source* into *target*.

    The source is only read. *target* is the path of a new file, or an empty storage. Blob files
    stay where they are: copy their folder, if there is one. *progress* is called with how many of
    how many bytes are looked at, to find what is whole and then to copy it. What it raises stops
    the recovery, and no new file is left, as after any other error.

    Raises StorageError where the target isn't empty, NotADatabase where the source is no data file.
    """
    path = Path(source)
    with ExitStack() as stack:
        found = _native.check_file(path, progress)
        storage = _empty_target(target, stack)
        gaps = [Gap(*gap) for gap in found["gaps"]]
        salvage = stack.enter_context(closing(Salvage(path, found["bytes"], gaps, progress)))
        copyTransactionsFromTo(salvage, storage)
        return Recovered(
            transactions=salvage.transactions,
            records=salvage.records,
            lost=[Lost(*gap, *salvage.traces(gap)) for gap in gaps],
            lost_records=salvage.lost_records,
            remaining=check(storage),
        )


def _unless_done(path: Path) -> Callable[..., None]:
    """Return what removes a new data file, and what is beside it, after an error."""

    def remove(error_type: type[BaseException] | None, *_rest: object) -> None:
        if error_type is not None:
            for suffix in ("", ".lock", ".pindex", ".psums"):
                Path(f"{path}{suffix}").unlink(missing_ok=True)

    return remove


def _empty_target(target: Any, stack: ExitStack) -> Any:
    if isinstance(target, (str, os.PathLike)):
        path = Path(target)
        if path.exists() and path.stat().st_size > 0:
            raise StorageError(f"{path} exists already: recover into a new file")
        stack.push(_unless_done(path))
        storage = FileStorage(target)
        stack.callback(storage.close)
        return storage
    storage = getattr(target, "storage", target)
    if storage.lastTransaction() not in (NO_TID, None):
        raise StorageError(f"{storage!r} isn't empty: recover into a new storage")
    return storage
