"""Backups: what was added to a data file since the last one, verifiable, while it is in use."""

import contextlib
import os
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO

from perdure.errors import StorageError
from perdure.ids import NO_TID, Tid, tid_repr
from perdure.maintenance._backupfiles import MANIFEST, MOMENTS, locked
from perdure.maintenance._following import Follower
from perdure.maintenance._places import take_name, written_privately
from perdure.maintenance._series import BackedUp, Series
from perdure.timestamp import Moment, tid_of

__all__ = ["BackedUp", "backup", "restore", "verify_backup"]

Progress = Callable[[int, int], object]


def backup(
    source: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    blob_dir: str | os.PathLike[str] | None = None,
    full: bool = False,
    progress: Progress | None = None,
) -> BackedUp:
    """Add what is new in the data file *source* to the backup in *folder*.

    The file is only read, and may be in use. The first backup, one after a pack, and one with
    *full* copy all of it. *blob_dir* is the database's folder of blobs. *progress* is called with
    how many of how many bytes are copied. Raises StorageError or OSError where the file or the
    backup can't be used, or the folder holds something else; all there is then as it was.
    """
    target = Path(folder)
    with closing(Follower(source)) as file, locked(target, MANIFEST, MOMENTS):
        return Series(target).add(
            file,
            file.end,
            file.last_tid,
            blob_dir=Path(blob_dir) if blob_dir else None,
            full=full,
            progress=progress,
        )


def verify_backup(folder: str | os.PathLike[str], progress: Progress | None = None) -> list[str]:
    """Read all of a backup, and return what is wrong with it."""
    return Series(Path(folder)).problems(progress)


def restore(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    at: Moment | None = None,
    blob_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Tid:
    """Make the data file *target* from a backup; return its last transaction.

    With *at* (a tid or a datetime), it ends with the last transaction up to then. *blob_dir* is the folder for its
    blobs. Raises StorageError where the backup is damaged or empty, doesn't reach back so far, or
    the target exists, or its blobs have another layout; there is then no target, and no new blob.
    """
    series, path = Series(Path(folder)), Path(target)
    until = None if at is None else tid_of(at)
    if path.exists():
        raise StorageError(f"{path} exists already: restore to a new file")
    partial = path.with_name(path.name + ".restoring")
    with ExitStack() as stack:
        stack.callback(Path(f"{partial}.lock").unlink, missing_ok=True)
        stack.callback(partial.unlink, missing_ok=True)
        undo = stack.enter_context(ExitStack())
        with written_privately(partial, path) as file:
            last = _written(series, until, file, progress)
        if last == NO_TID:
            wanted = f" up to {tid_repr(until)}" if until else ""
            raise StorageError(f"the backup has no transaction{wanted}")
        if blob_dir is not None:
            series.write_blobs(Path(blob_dir), last, undo)
        undo.callback(path.unlink, missing_ok=True)
        take_name(partial, path)
        undo.pop_all()
    return last


def _written(series: Series, until: Tid | None, file: IO[bytes], progress: Progress | None) -> Tid:
    """Write the data file; from a newer generation where an older one is damaged."""
    first, *others = series.places_for(until)
    try:
        return series.write(first, until, file, progress)
    except StorageError:
        for place in others:
            file.seek(0)
            file.truncate()
            with contextlib.suppress(StorageError):
                return series.write(place, until, file, progress)
        raise
