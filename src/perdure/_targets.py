"""Where new files are to be made."""

import errno
import os

__all__ = ["require_folder"]


def require_folder(path: str | os.PathLike[str]) -> None:
    """Raise FileNotFoundError, which names the folder, where that of *path* isn't there."""
    folder = os.path.dirname(os.fspath(path)) or "."  # noqa: PTH120 - pathlib takes memory
    if not os.path.exists(folder):  # noqa: PTH110
        problem = "there is no such folder: make it first, or choose another place"
        raise FileNotFoundError(errno.ENOENT, problem, folder)
