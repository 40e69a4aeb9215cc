"""The files that a backup is made of.

A backup's folder holds parts of the data file, in the order that they were copied in, and lists of
the blob files that were copied with them. A manifest names them with their SHA-256. It is replaced
by rename, after all that it names is on disk: a backup that dies leaves the former one as it was.
"""

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from perdure._folders import make_folders, sync_folder
from perdure.errors import StorageError
from perdure.maintenance._following import Follower
from perdure.maintenance._places import written_privately

if TYPE_CHECKING:
    import hashlib

__all__ = [
    "MANIFEST",
    "MOMENTS",
    "append_chunk",
    "copied",
    "copy_file",
    "digest_of",
    "locked",
    "new_digest",
    "tail_digest",
    "write_durably",
]

Progress = Callable[[int, int], object]

MANIFEST: Final = "manifest.json"
MOMENTS: Final = "collection.json"
_KINDS: Final = {MANIFEST: "one data file", MOMENTS: "a collection"}
_LOCK: Final = "backup.lock"
_OF_THE_SYSTEM: Final = frozenset({"lost+found"})
"""What an empty disk may have."""
_BLOCK_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 1 << 16
"""How much before the end of the last backup has to be the same for the next to go on there."""


@contextmanager
def locked(folder: Path, index: str, other_index: str) -> Iterator[None]:
    """Keep others from writing to a backup's folder; StorageError while one does.

    StorageError, too, where the folder holds something else: it is made where there is none, and is
    empty or has one of the files *index* and the lock in it. *other_index* is that of backups
    of the other kind.
    """
    make_folders(folder)
    _require_own(folder, index, other_index)
    with written_privately(folder / _LOCK) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(f"another process is writing to the backup in {folder}") from error
        if not (folder / index).exists():
            # By the lock, the next one knows the folder as its own if this one is cut short.
            sync_folder(folder)
        yield


def _require_own(folder: Path, index: str, other_index: str) -> None:
    found = {each.name for each in folder.iterdir()} - _OF_THE_SYSTEM
    if other_index in found:
        raise StorageError(
            f"{folder} holds the backup of {_KINDS[other_index]}, not of {_KINDS[index]}: back up "
            "to another folder"
        )
    # The first backup may have been cut short: then there is only the lock.
    if found and not found & {index, _LOCK}:
        raise StorageError(
            f"{folder} holds no backup but something else, such as {min(found)}: back up to a new "
            "or empty folder"
        )


def write_durably(path: Path, content: bytes) -> None:
    """Put a file in place of an older one, once all in its folder is on disk."""
    written = path.with_name(f"{path.name}.new")
    with written_privately(written) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)
    written.replace(path)
    sync_folder(path.parent)


def new_digest(data: bytes = b"") -> "hashlib._Hash":
    """Return the SHA-256 of *data*, which can be gone on with."""
    # Late: it brings OpenSSL, some megabytes, which only backups and encryption need.
    from hashlib import sha256

    return sha256(data)


def copied(source: Follower, target: Path, start: int, end: int, progress: Progress | None) -> str:
    """Copy a part of a data file into a file of its own, durably; return its SHA-256."""
    digest, done = new_digest(), 0
    with written_privately(target) as writing:
        while done < end - start:
            block = source.read(start + done, min(_BLOCK_BYTES, end - start - done))
            if not block:
                raise StorageError(f"{source.path} became shorter while it was copied")
            digest.update(block)
            writing.write(block)
            done += len(block)
            if progress is not None:
                progress(done, end - start)
        writing.flush()
        os.fsync(writing.fileno())
    return digest.hexdigest()


def tail_digest(source: Follower, end: int) -> str:
    """Return the SHA-256 of the last bytes before *end*."""
    start = max(0, end - _TAIL_BYTES)
    return new_digest(source.read(start, end - start)).hexdigest()


def digest_of(path: Path, into: IO[bytes] | None = None) -> str:
    """Return a file's SHA-256; copy it *into* another if that is given."""
    digest = new_digest()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
            if into is not None:
                into.write(block)
    return digest.hexdigest()


def copy_file(source: Path, target: Path) -> str:
    """Copy a file durably, so that it is whole or not there; return its SHA-256."""
    make_folders(target.parent)
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=target.name, suffix=".new")
    try:
        with os.fdopen(handle, "wb") as file:
            digest = digest_of(source, file)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(target)
    finally:
        Path(name).unlink(missing_ok=True)
    return digest


def append_chunk(path: Path, sha256: str, file: IO[bytes], length: int) -> None:
    """Append the first bytes of a part to a file; StorageError where it isn't as it was."""
    begin = file.tell()
    try:
        found = digest_of(path, file)
    except FileNotFoundError as error:
        raise StorageError(f"{path} is missing in the backup") from error
    if found != sha256:
        raise StorageError(f"{path} is damaged: its SHA-256 isn't the one it was written with")
    if file.tell() < begin + length:
        raise StorageError(f"{path} is shorter than the manifest of the backup says")
    file.truncate(begin + length)
    file.seek(begin + length)
