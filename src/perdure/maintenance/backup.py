"""Backups: what was added to a data file since the last one, verifiable, while it is in use."""

import datetime as dt
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from perdure.errors import StorageError
from perdure.ids import Tid
from perdure.storage.file import FileStorage

__all__ = ["BackedUp", "backup", "restore", "verify_backup"]

Progress = Callable[[int, int], object]

_MANIFEST: Final = "manifest.json"
_BLOBS: Final = "blobs"
_BLOCK_BYTES: Final = 1 << 20
_TAIL_BYTES: Final = 1 << 16
"""How much before the end of the last backup has to be the same for the next to go on there."""


@dataclass(frozen=True)
class _Chunk:
    """A part of the data file, in a file of its own."""

    file: str
    start: int
    end: int
    sha256: str
    tail_sha256: str
    """Of the last bytes before `end`."""
    last_tid: str
    time: str


@dataclass(frozen=True)
class BackedUp:
    """What a backup added."""

    file: str | None
    """The new file in the backup's folder; None: nothing was new."""
    bytes_added: int
    full: bool
    """Whether the whole data file was copied: the first time, and after it was packed."""
    last_tid: Tid
    blobs: int
    """How many blob files were added."""


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
    backup can't be used; the backup is then as it was.
    """
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    generations = _generations(target)
    with closing(FileStorage(source, read_only=True)) as storage:
        end, last_tid = storage.getSize(), storage.lastTransaction()
    path = Path(source)
    chunks = [] if full else _to_go_on(generations, path, end)
    blobs = _copy_blobs(Path(blob_dir), target / _BLOBS, last_tid) if blob_dir else 0
    start = chunks[-1].end if chunks else 0
    if chunks and start == end:
        return BackedUp(None, 0, full=False, last_tid=last_tid, blobs=blobs)
    if not chunks:
        generations.append(chunks)
    name = f"{len(generations):04}-{start:016x}.part"
    digest = _copy_range(path, target / name, start, end, progress)
    now = dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds")
    tail = _tail_digest(path, end)
    chunks.append(_Chunk(name, start, end, digest, tail, last_tid.hex(), now))
    _write_manifest(target, generations)
    return BackedUp(name, end - start, full=start == 0, last_tid=last_tid, blobs=blobs)


def verify_backup(folder: str | os.PathLike[str], progress: Progress | None = None) -> list[str]:
    """Read all of a backup, and return what is wrong with it."""
    target = Path(folder)
    problems = []
    chunks = [chunk for generation in _generations(target) for chunk in generation]
    if not chunks:
        return [f"{target} holds no backup"]
    for number, chunk in enumerate(chunks):
        path = target / chunk.file
        if not path.is_file():
            problems.append(f"{path} is missing")
        elif _digest(path) != chunk.sha256:
            problems.append(f"{path} is damaged: its SHA-256 isn't the one it was written with")
        if progress is not None:
            progress(number + 1, len(chunks))
    return problems


def restore(
    folder: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    at: Tid | None = None,
    blob_dir: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Tid:
    """Make the data file *target* from a backup; return its last transaction.

    With *at*, it ends with the last transaction up to that one. *blob_dir* is the folder for its
    blobs. Raises StorageError where the backup is damaged or empty, doesn't reach back so far, or
    the target exists; there is no target then.
    """
    source, path = Path(folder), Path(target)
    if path.exists():
        raise StorageError(f"{path} exists already: restore to a new file")
    chunks = _generation_for(_generations(source), source, at)
    partial = path.with_name(path.name + ".restoring")
    try:
        with partial.open("wb") as file:
            for number, chunk in enumerate(chunks):
                _append(source / chunk.file, chunk, file)
                if progress is not None:
                    progress(number + 1, len(chunks))
            file.flush()
            os.fsync(file.fileno())
        last = _cut_after(partial, at)
        if blob_dir is not None and (source / _BLOBS).is_dir():
            _copy_blobs(source / _BLOBS, Path(blob_dir), last)
        partial.replace(path)
        _sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)
        Path(f"{partial}.lock").unlink(missing_ok=True)
    return last


# The manifest.


def _generations(folder: Path) -> list[list[_Chunk]]:
    try:
        content = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        return [[_Chunk(**chunk) for chunk in each] for each in content["generations"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise StorageError(f"{folder / _MANIFEST} can't be read: {error}") from error


def _write_manifest(folder: Path, generations: list[list[_Chunk]]) -> None:
    content = {"format": 1, "generations": [list(map(asdict, each)) for each in generations]}
    written = folder / f"{_MANIFEST}.new"
    with written.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    written.replace(folder / _MANIFEST)
    _sync_folder(folder)


def _to_go_on(generations: list[list[_Chunk]], path: Path, end: int) -> list[_Chunk]:
    """Return the last generation's chunks if the file still begins as they do, else none."""
    if not generations:
        return []
    chunks = generations[-1]
    last = chunks[-1]
    same = last.end <= end and _tail_digest(path, last.end) == last.tail_sha256
    return chunks if same else []


def _generation_for(generations: list[list[_Chunk]], folder: Path, at: Tid | None) -> list[_Chunk]:
    if not generations:
        raise StorageError(f"{folder} holds no backup")
    if at is None:
        return generations[-1]
    for chunks in generations:
        for number, chunk in enumerate(chunks):
            if bytes.fromhex(chunk.last_tid) >= at:
                return chunks[: number + 1]
    return generations[-1]


# Bytes.


def _copy_range(source: Path, target: Path, start: int, end: int, progress: Progress | None) -> str:
    digest = hashlib.sha256()
    done = 0
    with source.open("rb") as reading, target.open("wb") as writing:
        reading.seek(start)
        while done < end - start:
            block = reading.read(min(_BLOCK_BYTES, end - start - done))
            if not block:
                raise StorageError(f"{source} became shorter while it was copied: was it packed?")
            digest.update(block)
            writing.write(block)
            done += len(block)
            if progress is not None:
                progress(done, end - start)
        writing.flush()
        os.fsync(writing.fileno())
    return digest.hexdigest()


def _tail_digest(path: Path, end: int) -> str:
    with path.open("rb") as file:
        file.seek(max(0, end - _TAIL_BYTES))
        return hashlib.sha256(file.read(min(end, _TAIL_BYTES))).hexdigest()


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _append(path: Path, chunk: _Chunk, file: Any) -> None:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as reading:
            while block := reading.read(_BLOCK_BYTES):
                digest.update(block)
                file.write(block)
    except FileNotFoundError as error:
        raise StorageError(f"{path} is missing in the backup") from error
    if digest.hexdigest() != chunk.sha256:
        raise StorageError(f"{path} is damaged: its SHA-256 isn't the one it was written with")


def _cut_after(path: Path, at: Tid | None) -> Tid:
    """Cut a data file off behind the last transaction up to *at*; return that one."""
    last, end = None, 0
    with closing(FileStorage(path, read_only=True)) as storage:
        if at is None or storage.lastTransaction() <= at:
            return storage.lastTransaction()
        for transaction in storage._native.transactions(None, at):
            last, end = transaction[0], transaction[6]
    if last is None:
        raise StorageError(f"the backup has no transaction up to {at.hex()}")
    os.truncate(path, end)
    return last


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


# Blobs.


def _copy_blobs(source: Path, target: Path, last: Tid) -> int:
    """Copy the blob files of transactions up to *last* that aren't there yet."""
    count = 0
    for path in source.rglob("*"):
        copy = target / path.relative_to(source)
        if path.name == ".layout":
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        if path.suffix != ".blob" or copy.exists():
            continue
        if path.stem.startswith("0x") and int(path.stem, 16) > int.from_bytes(last, "big"):
            continue
        copy.parent.mkdir(parents=True, exist_ok=True)
        written = copy.with_name(copy.name + ".new")
        shutil.copyfile(path, written)
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(copy)
        count += 1
    return count
