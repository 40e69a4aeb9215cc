"""Files in clear, for as long as somebody needs them."""

import collections
import contextlib
import fcntl
import os
import shutil
import tempfile
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final

from perdure.ids import Oid, Tid

__all__ = ["ClearFiles"]

_PREFIX: Final = "clear-"
_LOCK: Final = "lock"
_RECENT_MAX: Final = 8


class _Path(str):
    """The path of a file that is removed when nobody has its path any more."""

    __slots__ = ("__weakref__",)

    def __str__(self) -> str:
        return self


class ClearFiles:
    """A directory, in *parent*, that only this user can look into, removed at the end.

    What a process that died left in *parent* is removed when the next one needs its own.
    """

    def __init__(self, parent: Callable[[], str]) -> None:
        self._parent = parent
        # Guards all below.
        self._lock = threading.RLock()
        self._directory: str | None = None
        self._remove: weakref.finalize[[str, IO[bytes], int], ClearFiles] | None = None
        self._paths: weakref.WeakValueDictionary[tuple[Oid, Tid], _Path] = (
            weakref.WeakValueDictionary()
        )
        # Callers make other strings and paths of a path before they open the file.
        self._recent: collections.deque[_Path] = collections.deque(maxlen=_RECENT_MAX)

    def directory(self) -> str:
        """Return the directory, made when it is first asked for."""
        with self._lock:
            if self._directory is None:
                parent = self._parent()
                _remove_left_behind(Path(parent))
                self._directory = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
                # Held until the directory is removed.
                lock = open(os.path.join(self._directory, _LOCK), "wb")  # noqa: SIM115
                fcntl.flock(lock, fcntl.LOCK_EX)
                self._remove = weakref.finalize(self, _remove, self._directory, lock, os.getpid())
            return self._directory

    def path(self, oid: Oid, serial: Tid, write: Callable[[IO[bytes]], object]) -> str:
        """Return the path of a blob's revision in clear; *write* makes it if need be."""
        path = self._known(oid, serial) or self._made(write)
        with self._lock:
            # Of two that were made at a time, either will do.
            self._paths[oid, serial] = path
            self._recent.append(path)
        return path

    def _known(self, oid: Oid, serial: Tid) -> _Path | None:
        with self._lock:
            path = self._paths.get((oid, serial))
        return path if path is not None and os.path.exists(path) else None

    def _made(self, write: Callable[[IO[bytes]], object]) -> _Path:
        descriptor, name = tempfile.mkstemp(prefix="blob-", dir=self.directory())
        path = _Path(name)
        weakref.finalize(path, _unlink, name, os.getpid())
        with open(descriptor, "wb") as file:
            write(file)
        return path

    def remove(self) -> None:
        """Remove the directory with all files in it."""
        with self._lock:
            self._recent.clear()
            if self._remove is not None:
                self._remove()
            self._directory = self._remove = None


def _unlink(name: str, maker: int) -> None:
    # A process that was forked has copies of paths, not of files.
    if os.getpid() == maker:
        with contextlib.suppress(OSError):
            os.remove(name)


def _remove(directory: str, lock: IO[bytes], maker: int) -> None:
    if os.getpid() == maker:
        shutil.rmtree(directory, ignore_errors=True)
    lock.close()


def _remove_left_behind(parent: Path) -> None:
    for directory in parent.glob(f"{_PREFIX}*"):
        # Without its lock file it is just being made, or being removed.
        with contextlib.suppress(OSError), (directory / _LOCK).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(directory, ignore_errors=True)
