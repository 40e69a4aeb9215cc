"""Backups of a collection: all its members, at one moment, while they are in use.

Each member's backup has a folder in the collection's. What makes them one is the list of moments
that is written last, and names a place in each: a backup that dies before that leaves the list, and
all that it names, as they were.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perdure._folders import make_folders, sync_folder
from perdure.errors import StorageError
from perdure.ids import NO_TID, Tid, tid_repr
from perdure.maintenance._backupfiles import MANIFEST, MOMENTS, locked
from perdure.maintenance._following import Follower, common_cut
from perdure.maintenance._manifests import (
    BackupMoment,
    MemberPlace,
    folder_of,
    read_moments,
    write_moments,
)
from perdure.maintenance._places import (
    DataFile,
    data_files,
    require_names,
    take_name,
    written_privately,
)
from perdure.maintenance._series import BackedUp, Place, Series, now
from perdure.timestamp import Moment, tid_of

__all__ = [
    "CollectionBackedUp",
    "CollectionRestored",
    "backup_collection",
    "is_backup_of_collection",
    "restore_collection",
    "verify_collection_backup",
]

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class CollectionBackedUp:
    """What a backup of a collection added."""

    tid: Tid
    """The moment: the last transaction of any member that is in it."""
    members: Mapping[str, BackedUp]
    """What was added for each member."""


@dataclass(frozen=True)
class CollectionRestored:
    """What was restored."""

    tid: Tid
    """The last transaction of any member."""
    files: Mapping[str, Path]
    """The data file of each member."""
    last_tids: Mapping[str, Tid]
    """The last transaction of each member; zeros: it had none yet, and is empty."""


def backup_collection(
    members: Mapping[str, Any],
    folder: str | os.PathLike[str],
    *,
    full: bool = False,
    progress: Progress | None = None,
) -> CollectionBackedUp:
    """Add what is new in all *members* to the backup in *folder*, up to one moment.

    A transaction that changed several members is in the backup of all of them, or of none. The
    files are only read, and may be in use, by any process.

    Args:
        members: databases, storages with a data file, paths or `DataFile`s, by name.
        folder: where the backup is, or is made.
        full: copy everything, not only what is new.
        progress: called with how many of how many bytes are copied, member by member.

    Raises:
        Unsupported: a member has no data file.
        StorageError, OSError: a file or the backup can't be used, or the folder holds something else. What was backed up before can
            be restored as before.
    """
    files, target = data_files(members), Path(folder)
    with ExitStack() as stack:
        followers = {
            name: stack.enter_context(closing(Follower(file.path))) for name, file in files.items()
        }
        stack.enter_context(locked(target, MOMENTS, MANIFEST))
        moments = read_moments(target)
        cut = common_cut(followers)
        added: dict[str, BackedUp] = {}
        places: dict[str, MemberPlace] = {}
        for name, (end, last) in cut.ends.items():
            series = _series(target, name)
            done = series.add(
                followers[name],
                end,
                last,
                blob_dir=files[name].blob_dir,
                full=full,
                progress=progress,
            )
            file = done.file and f"{series.folder.name}/{done.file}"
            added[name] = replace(done, file=file)
            places[name] = MemberPlace(*series.last_place(end), last.hex())
        sync_folder(target)
        moments.append(BackupMoment(cut.tid.hex(), now(), places))
        write_moments(target, moments)
    return CollectionBackedUp(cut.tid, added)


def is_backup_of_collection(folder: str | os.PathLike[str]) -> bool:
    """Tell whether a folder holds the backup of a collection."""
    return (Path(folder) / MOMENTS).is_file()


def verify_collection_backup(
    folder: str | os.PathLike[str], progress: Progress | None = None
) -> list[str]:
    """Read all of a collection's backup, and return what is wrong with it."""
    source = Path(folder)
    moments = read_moments(source)
    if not moments:
        return [f"{source} holds no backup of a collection"]
    problems: list[str] = []
    names = dict.fromkeys(name for moment in moments for name in moment.members)
    for name in names:
        series = _series(source, name)
        problems += series.problems(progress)
        problems += [
            f"{series.folder} lacks a part of what was backed up at {moment.time}"
            for moment in moments
            if name in moment.members and not series.holds(_place(moment, name))
        ]
    return problems


def restore_collection(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str] | Mapping[str, Any],
    *,
    at: Moment | None = None,
    progress: Progress | None = None,
) -> CollectionRestored:
    """Make the data files of all members from a collection's backup.

    With *at* (a tid or a datetime), each ends with its last transaction up to then: the collection is as it was then.

    *target* is a new folder, in which the member NAME gets the file NAME.fs and the folder
    NAME.blobs for its blobs, and which appears when all is done; or it gives a path or `DataFile`
    for each member. *progress* is called with how many of how many parts are copied.

    Raises StorageError where the backup is damaged or empty, doesn't reach back so far, a target
    exists or is given twice, or blobs have another layout, ValueError where *target* has
    other names; nothing is restored then.
    """
    source = Path(folder)
    until = None if at is None else tid_of(at)
    moment = _moment_for(read_moments(source), source, until)
    if isinstance(target, Mapping):
        files = data_files(target)
        require_names(moment.members, files, "the targets of a restore")
        return _restore(source, moment, files, until, progress)
    new = Path(target)
    if new.exists():
        raise StorageError(f"{new} exists already: restore to a new folder")
    partial = new.with_name(f"{new.name}.restoring")
    if source.resolve().is_relative_to(partial.resolve()):
        raise StorageError(f"{partial} is needed while {new} is made: restore to another folder")
    shutil.rmtree(partial, ignore_errors=True)
    make_folders(partial)
    try:
        files = {name: _in_folder(partial, name) for name in moment.members}
        done = _restore(source, moment, files, until, progress)
        sync_folder(partial)
        partial.rename(new)
        sync_folder(new.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return CollectionRestored(
        done.tid, {name: _in_folder(new, name).path for name in done.files}, done.last_tids
    )


def _in_folder(folder: Path, name: str) -> DataFile:
    plain = quote(name, safe="")
    return DataFile(folder / f"{plain}.fs", folder / f"{plain}.blobs")


def _restore(
    source: Path,
    moment: BackupMoment,
    files: Mapping[str, DataFile],
    at: Tid | None,
    progress: Progress | None,
) -> CollectionRestored:
    for name, file in files.items():
        if file.path.exists():
            raise StorageError(f"{file.path} (member {name!r}) exists already: move it away first")
    _require_different(files)
    partial = {
        name: file.path.with_name(f"{file.path.name}.restoring") for name, file in files.items()
    }
    with ExitStack() as stack:
        for path in partial.values():
            stack.callback(path.unlink, missing_ok=True)
        undo = stack.enter_context(ExitStack())
        last_tids: dict[str, Tid] = {}
        for name, path in partial.items():
            series, place = _series(source, name), _place(moment, name)
            with written_privately(path, files[name].path) as written:
                last_tids[name] = series.write(place, at, written, progress)
            blob_dir = files[name].blob_dir
            if blob_dir is not None:
                series.write_blobs(blob_dir, last_tids[name], undo)
        tid = max(last_tids.values())
        if tid == NO_TID:
            raise StorageError(f"the backup in {source} has no transaction up to {tid_repr(at)}")
        for name, path in partial.items():
            undo.callback(files[name].path.unlink, missing_ok=True)
            take_name(path, files[name].path)
        undo.pop_all()
    return CollectionRestored(tid, {name: file.path for name, file in files.items()}, last_tids)


def _require_different(files: Mapping[str, DataFile]) -> None:
    """Raise StorageError where two members would be made in one place."""
    seen: set[Path] = set()
    for path in (path.resolve() for file in files.values() for path in file if path is not None):
        if path in seen:
            raise StorageError(f"{path} is given twice: each member has a place of its own")
        seen.add(path)


def _series(folder: Path, name: str) -> Series:
    return Series(folder / folder_of(name))


def _place(moment: BackupMoment, name: str) -> Place:
    found = moment.members[name]
    return Place(found.generation, found.chunks, found.end)


def _moment_for(moments: list[BackupMoment], folder: Path, at: Tid | None) -> BackupMoment:
    if not moments:
        raise StorageError(f"{folder} holds no backup of a collection")
    reaching = (each for each in moments if at is not None and bytes.fromhex(each.tid) >= at)
    return next(reaching, moments[-1])
