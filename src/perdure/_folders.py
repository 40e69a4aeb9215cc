"""Folders whose names, and those in them, a power loss can't take away."""

import os

__all__ = ["make_folders", "sync_folder"]

_Path = str | os.PathLike[str]


def sync_folder(folder: _Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def make_folders(folder: _Path, mode: int = 0o777) -> None:
    """Make a folder, and those around it, where there are none; its name is durable then.

    *mode* is that of the folder itself. FileExistsError where something else has its name.
    """
    path = os.path.abspath(folder)  # noqa: PTH100 - pathlib takes memory
    around = os.path.dirname(path)  # noqa: PTH120
    if not os.path.isdir(around):  # noqa: PTH112
        make_folders(around)
    try:
        os.mkdir(path, mode)  # noqa: PTH102
    except FileExistsError:
        if not os.path.isdir(path):  # noqa: PTH112
            raise
    # Who made it may have died before this.
    sync_folder(around)
