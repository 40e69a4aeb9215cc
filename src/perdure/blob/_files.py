"""Moving, protecting, syncing and removing the files of blobs."""

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from time import perf_counter

__all__ = [
    "link_or_copy",
    "remove_committed",
    "remove_committed_dir",
    "rename_or_copy_blob",
    "set_not_writable",
    "sync_all",
]

link_or_copy: Callable[[str, str], object] = os.link
remove_committed: Callable[[str], None] = os.remove
remove_committed_dir: Callable[[str], None] = shutil.rmtree

_WRITING = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_SYNCS_AT_ONCE_MAX = 16
_SLOW_SECONDS = 0.0002
"""A sync that takes longer has waited for a disk: threads cost less than waiting for each."""

_READING = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


def rename_or_copy_blob(f1: str, f2: str, chmod: bool = True) -> None:
    """Move the file *f1* to *f2*, by copying where the two are on different devices.

    With *chmod*, it can't be written to any more afterwards.
    """
    try:
        os.rename(f1, f2)
    except OSError:
        shutil.copyfile(f1, f2)
        remove_committed(f1)
    if chmod:
        set_not_writable(f2)


def set_not_writable(path: str) -> None:
    """Take writing from the file's permissions, and give it its directory's reading."""
    mode = stat.S_IMODE(os.lstat(path).st_mode) & ~_WRITING
    mode |= stat.S_IMODE(os.lstat(os.path.dirname(path)).st_mode) & _READING
    os.chmod(path, mode)


def sync_all(paths: Sequence[str]) -> None:
    """Wait until the files' data, and the names in the directories, are on the disk.

    Where that takes time, several are synced at once: a file system writes its journal once
    for all that wait for it, and otherwise once for each. Raises OSError if any can't be synced.
    """
    for number, path in enumerate(paths, 1):
        began = perf_counter()
        _sync(path)
        if perf_counter() - began > _SLOW_SECONDS:
            _sync_together(paths[number:])
            return


def _sync_together(paths: Sequence[str]) -> None:
    if len(paths) <= 1:
        _sync_each(paths)
        return
    shares = [paths[first::_SYNCS_AT_ONCE_MAX] for first in range(_SYNCS_AT_ONCE_MAX)]
    try:
        # Late: only who stores blobs pays for it.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(paths), _SYNCS_AT_ONCE_MAX)) as pool:
            for _ in pool.map(_sync_each, shares):
                pass
    except RuntimeError:
        # No thread can be had: there are too many, or the process is about to end.
        _sync_each(paths)


def _sync_each(paths: Sequence[str]) -> None:
    for path in paths:
        _sync(path)


def _sync(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
