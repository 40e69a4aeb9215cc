"""Copying all members of a collection, up to one moment."""

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from perdure._folders import make_folders
from perdure.ids import Tid
from perdure.interfaces import IBlobStorage
from perdure.maintenance._following import Follower, common_cut
from perdure.maintenance._places import DataFile, require_names
from perdure.maintenance.copying import Copied, copy
from perdure.storage.file import FileStorage

__all__ = ["CollectionCopied", "copy_collection"]

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class CollectionCopied:
    """What was copied."""

    tid: Tid
    """The moment: the last transaction of any member that the copies have."""
    members: Mapping[str, Copied]
    """What was copied for each member."""


def copy_collection(
    members: Mapping[str, Any],
    target: str | os.PathLike[str] | Mapping[str, Any],
    progress: Progress | None = None,
    *,
    until: Mapping[str, Tid] | None = None,
) -> CollectionCopied:
    """Copy all transactions of all *members*, with their ids and blobs, up to one moment.

    A joint transaction is in the copies of all the members that it changed, or of none. Where the
    target holds the first transactions already, only those that follow are copied; a copy that was
    interrupted is of no one moment until it is called again.

    Args:
        members: storages, databases, paths of data files or `DataFile`s, by name.
        target: a folder, in which the member NAME gets the file NAME.fs and, for its blobs, the
            folder NAME.blobs; or what each member is copied into.
        progress: as for `copy`, member by member.
        until: the last transaction to copy of each member. By default the newest moment that is
            whole where all members are data files, and else what each has.

    Raises:
        ValueError: *target* has other names.
        StorageError: a target holds something else.
        Unsupported: a member can't be copied.
    """
    with ExitStack() as stack:
        # Before the files are opened: what is opened has all up to the moment.
        last = _moment(members) if until is None else until
        sources = {name: _source(member, stack) for name, member in members.items()}
        if isinstance(target, Mapping):
            require_names(sources, target, "the targets of a copy")
            targets = dict(target)
        else:
            targets = _in_folder(Path(target), sources)
        copied: dict[str, Copied] = {}
        for name, source in sources.items():
            with ExitStack() as opened:
                destination = _opened(targets[name], opened)
                copied[name] = copy(source, destination, progress, until=last.get(name))
    return CollectionCopied(max(each.last for each in copied.values()), copied)


def _source(member: Any, stack: ExitStack) -> Any:
    if not isinstance(member, (str, os.PathLike, DataFile)):
        return getattr(member, "storage", member)
    file = DataFile.of(member)
    blob_dir = file.blob_dir if file.blob_dir is not None and file.blob_dir.is_dir() else None
    storage = FileStorage(file.path, read_only=True, blob_dir=str(blob_dir) if blob_dir else None)
    stack.callback(storage.close)
    return storage


def _moment(members: Mapping[str, Any]) -> Mapping[str, Tid]:
    """Return the last transaction to copy of each member."""
    if not all(isinstance(each, (str, os.PathLike, DataFile)) for each in members.values()):
        return {}
    with ExitStack() as stack:
        followers = {
            name: stack.enter_context(closing(Follower(DataFile.of(each).path)))
            for name, each in members.items()
        }
        return {name: last for name, (_end, last) in common_cut(followers).ends.items()}


def _in_folder(folder: Path, sources: Mapping[str, Any]) -> dict[str, DataFile]:
    make_folders(folder)
    targets: dict[str, DataFile] = {}
    for name, source in sources.items():
        plain = quote(name, safe="")
        has_blobs = IBlobStorage.providedBy(source)
        blob_dir = folder / f"{plain}.blobs" if has_blobs else None
        targets[name] = DataFile(folder / f"{plain}.fs", blob_dir)
    return targets


def _opened(target: Any, stack: ExitStack) -> Any:
    if not isinstance(target, DataFile):
        return target
    blob_dir = str(target.blob_dir) if target.blob_dir else None
    storage = FileStorage(target.path, blob_dir=blob_dir)
    stack.callback(storage.close)
    return storage
