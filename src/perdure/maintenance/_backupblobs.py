"""The blob files of a backup."""

import contextlib
import re
import stat
from collections.abc import Container, Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from perdure._folders import sync_folder
from perdure.blob import auto_layout_select
from perdure.errors import StorageError
from perdure.ids import Tid
from perdure.maintenance._backupfiles import copy_file, digest_of, new_digest, write_durably
from perdure.maintenance._manifests import Chunk

__all__ = ["BLOBS", "add_blobs", "listed_blobs", "restore_blobs", "write_list"]

BLOBS: Final = "blobs"
_LAYOUT: Final = ".layout"
_BLOB: Final = re.compile(r"(?:[\w.-]+/)*0x([0-9a-f]{1,16})\.blob", re.ASCII)
"""The path of a blob file in its folder; what else there is, somebody has put there."""


def _tid_in(name: str) -> int | None:
    """Return the tid in the path of a blob file; None: it isn't one."""
    found = _BLOB.fullmatch(name)
    return int(found[1], 16) if found else None


def _blobs_up_to(last: Tid, folder: Path, known: Container[str] = ()) -> Iterator[str]:
    """Give the paths of the blob files of transactions up to *last* that aren't *known*.

    Raises StorageError for one that is no file: what a link leads to may be anything.
    """
    limit = int.from_bytes(last, "big")
    for path in sorted(folder.rglob("*.blob")):
        name = path.relative_to(folder).as_posix()
        tid = _tid_in(name)
        if tid is None or tid > limit or name in known:
            continue
        if not stat.S_ISREG(path.lstat().st_mode):
            raise StorageError(f"{path} isn't a regular file: put the blob itself there")
        yield name


def add_blobs(source: Path, folder: Path, known: Mapping[str, str], last: Tid) -> dict[str, str]:
    """Copy the blob files of transactions up to *last* that aren't *known* yet.

    Returns the SHA-256 of each by its path. Raises StorageError for one that vanishes meanwhile.
    """
    target = folder / BLOBS
    if not source.is_dir():
        raise StorageError(f"{source} is no folder of blobs")
    added: dict[str, str] = {}
    try:
        for name in _blobs_up_to(last, source, known):
            added[name] = copy_file(source / name, target / name)
    except FileNotFoundError as error:
        raise StorageError(
            f"{error.filename} was removed while the backup was made (a pack?): make the backup "
            "again"
        ) from error
    _copy_layout(source, target)
    _sync_folders(target, added)
    return added


def _copy_layout(source: Path, target: Path) -> None:
    if (source / _LAYOUT).is_file():
        copy_file(source / _LAYOUT, target / _LAYOUT)
        sync_folder(target)


def _sync_folders(top: Path, names: Iterable[str]) -> None:
    """Make the names in all folders durable that lead to these files."""
    folders = {top / folder for name in names for folder in Path(name).parents}
    for folder in sorted(folders, reverse=True):
        sync_folder(folder)
    if folders:
        sync_folder(top.parent)


def write_list(path: Path, added: Mapping[str, str]) -> str:
    """Write down which blobs were copied; return the list's SHA-256."""
    content = "".join(f"{sha256}  {name}\n" for name, sha256 in added.items()).encode()
    write_durably(path, content)
    return new_digest(content).hexdigest()


def listed_blobs(folder: Path, chunks: list[Chunk], problems: list[str]) -> dict[str, str]:
    """Return the SHA-256 of each blob that was copied with *chunks*, by its path.

    What is wrong with the lists is added to *problems*.
    """
    found: dict[str, str] = {}
    for chunk in chunks:
        if chunk.blobs is None:
            continue
        path = folder / chunk.blobs
        if not path.is_file():
            problems.append(f"{path} is missing")
        elif digest_of(path) != chunk.blobs_sha256:
            problems.append(f"{path} is damaged: its SHA-256 isn't the one it was written with")
        else:
            # Earlier versions took every file along that ends with ".blob".
            lines = (line.partition("  ") for line in path.read_text("utf-8").split("\n"))
            found.update((name, sha256) for sha256, _, name in lines if _BLOB.fullmatch(name))
    return found


def restore_blobs(
    folder: Path, listed: Mapping[str, str], target: Path, last: Tid, undo: ExitStack
) -> int:
    """Copy the blob files of transactions up to *last*; return how many.

    Raises StorageError for one that is missing or isn't as it was, and where the target keeps
    blobs in another layout. *undo* gets what removes again what is made.
    """
    source, limit = folder / BLOBS, int.from_bytes(last, "big")
    names = set(_blobs_up_to(last, source))
    wanted = names.union(name for name in listed if (_tid_in(name) or 0) <= limit)
    if wanted:
        _require_layout(source, target)
    for name in sorted(wanted):
        if name not in names:
            raise StorageError(f"{source / name} is missing in the backup")
        if _restore_blob(source / name, target / name, listed.get(name)):
            undo.callback(_take_back, target, name)
    if wanted:
        if not (target / _LAYOUT).exists():
            undo.callback((target / _LAYOUT).unlink, missing_ok=True)
            _copy_layout(source, target)
        _sync_folders(target, wanted)
    return len(wanted)


def _require_layout(source: Path, target: Path) -> None:
    """Raise StorageError where blobs are in the target, which another layout wouldn't find."""
    if not (target / _LAYOUT).exists() and not any(target.rglob("*.blob")):
        return
    given, found = auto_layout_select(str(source)), auto_layout_select(str(target))
    if given != found:
        raise StorageError(
            f"the blobs in {target} have the layout {found!r}, and those of the backup {given!r}: "
            "restore to a new folder"
        )


def _take_back(target: Path, name: str) -> None:
    (target / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # one that isn't empty
        for folder in Path(name).parents[:-1]:
            (target / folder).rmdir()


def _restore_blob(source: Path, target: Path, sha256: str | None) -> bool:
    """Copy a blob file, and tell whether it wasn't there; one that is has to be the same."""
    if target.exists():
        if digest_of(target) != digest_of(source):
            raise StorageError(f"{target} exists already, and is another blob: move it away first")
        return False
    found = copy_file(source, target)
    if sha256 is not None and found != sha256:
        target.unlink()
        raise StorageError(f"{source} is damaged: its SHA-256 isn't the one it was written with")
    return True
