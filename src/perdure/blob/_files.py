"""Moving, protecting and removing the files of blobs."""

import os
import stat
from collections.abc import Callable

from perdure.errors import BlobError, POSKeyError
from perdure.ids import Oid, Tid

__all__ = [
    "link_or_copy",
    "no_file",
    "remove_committed",
    "remove_committed_dir",
    "rename_or_copy_blob",
    "require_regular",
    "set_not_writable",
]

link_or_copy: Callable[[str, str], object] = os.link
remove_committed: Callable[[str], None] = os.remove

_WRITING = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH
_READING = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


def remove_committed_dir(path: str) -> None:
    """Remove the directory *path* with all that is in it."""
    import shutil

    shutil.rmtree(path)


def no_file(oid: Oid, serial: Tid, path: str) -> POSKeyError:
    """Return the error of a blob whose file is gone: the object may be there all the same."""
    missing = (
        f"the blob's file {path} is missing: restore it from a backup; "
        "perdure check --blob-dir names all that are missing or damaged"
    )
    return POSKeyError(oid, missing, tid=serial)


def require_regular(path: str | os.PathLike[str]) -> None:
    """Raise BlobError unless *path* is a file: what a link leads to others could change later."""
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise BlobError(f"{os.fspath(path)} isn't a regular file: give a file with a blob's data")


def rename_or_copy_blob(f1: str, f2: str, chmod: bool = True) -> None:
    """Move the file *f1* to *f2*, by copying where the two are on different devices.

    With *chmod*, it can't be written to any more afterwards.
    """
    try:
        os.rename(f1, f2)
    except OSError:
        # Late, here and above: it is large, and where blobs are only moved, not needed.
        import shutil

        shutil.copyfile(f1, f2)
        remove_committed(f1)
    if chmod:
        set_not_writable(f2)


def set_not_writable(path: str) -> None:
    """Take writing from the file's permissions, and give it its directory's reading."""
    mode = stat.S_IMODE(os.lstat(path).st_mode) & ~_WRITING
    mode |= stat.S_IMODE(os.lstat(os.path.dirname(path)).st_mode) & _READING
    os.chmod(path, mode)
