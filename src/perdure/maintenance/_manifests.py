"""The manifests of backups: which files there are, and what is in them.

The backup of a data file has a manifest of its parts, that of a collection one of the moments at
which its members were backed up. They are JSON. Whoever reads one gets what a backup can have
written, or StorageError: a manifest may be damaged, forged, or a later perdure's.
"""

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from types import UnionType
from typing import Any, Final, TypeVar, get_origin
from urllib.parse import quote

from perdure.errors import StorageError
from perdure.maintenance._backupfiles import MANIFEST, MOMENTS, write_durably

__all__ = [
    "BackupMoment",
    "Chunk",
    "MemberPlace",
    "folder_of",
    "read_generations",
    "read_moments",
    "write_generations",
    "write_moments",
]

_FORMAT: Final = 1
_FILE_BYTES_MIN: Final = 4
_NAME_BYTES_MAX: Final = 255
"""How long a file's name may be, on Linux."""

_T = TypeVar("_T")


@dataclass(frozen=True)
class Chunk:
    """A part of the data file, in a file of its own."""

    file: str
    start: int
    end: int
    sha256: str
    tail_sha256: str
    """Of the last bytes before `end`."""
    last_tid: str
    time: str
    blobs: str | None = None
    """The file that lists the blob files copied with it: SHA-256 and path of each."""
    blobs_sha256: str | None = None


@dataclass(frozen=True)
class MemberPlace:
    """How much of a member's backup belongs to a moment."""

    generation: int
    chunks: int
    """How many of its parts."""
    end: int
    """How many bytes of the data file."""
    last_tid: str


@dataclass(frozen=True)
class BackupMoment:
    """A moment at which all members of a collection were backed up."""

    tid: str
    time: str
    members: Mapping[str, MemberPlace]


def folder_of(member: str) -> str:
    """Return the name of the folder that a member's backup has in a collection's."""
    return f"{quote(member, safe='')}.member"


def read_generations(folder: Path) -> list[list[Chunk]]:
    """Return the parts of each whole copy and of what was added to it."""
    return _read(folder / MANIFEST, "generations", _generation)


def write_generations(folder: Path, generations: list[list[Chunk]]) -> None:
    """Put a new manifest in place of the old one."""
    _write(folder / MANIFEST, "generations", [list(map(asdict, each)) for each in generations])


def read_moments(folder: Path) -> list[BackupMoment]:
    """Return the moments at which a collection was backed up, in their order."""
    return _read(folder / MOMENTS, "moments", _moment)


def write_moments(folder: Path, moments: list[BackupMoment]) -> None:
    """Put a new list of moments in place of the old one."""
    _write(folder / MOMENTS, "moments", list(map(asdict, moments)))


def _read(path: Path, key: str, read: Callable[[Any], _T]) -> list[_T]:
    """Return the entries of a manifest, none where there is no file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise StorageError(
                f"{path} has format {content['format']!r}, and this perdure knows {_FORMAT}: read "
                "the backup with the perdure that made it"
            )
        return [read(each) for each in content[key]]
    except FileNotFoundError:
        return []
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise StorageError(
            f"{path} can't be read: {error!r}; it is damaged, or no backup wrote it"
        ) from error


def _write(path: Path, key: str, entries: list[Any]) -> None:
    content = {"format": _FORMAT, key: entries}
    write_durably(path, json.dumps(content, indent=1).encode())


def _generation(found: Any) -> list[Chunk]:
    chunks = [_made(Chunk, each) for each in found]
    bounds = [bound for chunk in chunks for bound in (chunk.start, chunk.end)]
    if not chunks or bounds[0] != 0 or not _follow_each_other(bounds):
        raise ValueError("the parts of a file don't follow one another")
    for chunk in chunks:
        _require_tid(chunk.last_tid)
        _require_own_file(chunk.file)
        if chunk.blobs is not None:
            _require_own_file(chunk.blobs)
    return chunks


def _follow_each_other(bounds: Sequence[int]) -> bool:
    """Whether each part begins where the one before it ends, and ends behind its beginning."""
    ascending = all(one <= other for one, other in pairwise(bounds))
    return ascending and bounds[1:-1:2] == bounds[2::2]


def _moment(found: Any) -> BackupMoment:
    moment = _made(BackupMoment, found)
    _require_tid(moment.tid)
    if not isinstance(moment.members, dict) or not moment.members:
        raise TypeError(f"members is {moment.members!r}")
    for name in moment.members:
        _require_own_file(folder_of(name))
    members = {name: _made(MemberPlace, each) for name, each in moment.members.items()}
    for place in members.values():
        _require_tid(place.last_tid)
        if place.generation < 0 or place.chunks < 1 or place.end < _FILE_BYTES_MIN:
            raise ValueError(f"no place in a backup: {place}")
    return dataclasses.replace(moment, members=members)


def _made(kind: type[_T], found: Any) -> _T:
    """Return one of what JSON holds; TypeError where a number or a text is something else."""
    made = kind(**found)
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        value: Any = getattr(made, field.name)
        kinds: Any = field.type
        if get_origin(kinds) in {None, UnionType} and not isinstance(value, kinds):
            raise TypeError(f"{field.name} is {value!r}")
    return made


def _require_tid(text: str) -> None:
    if len(bytes.fromhex(text)) != 8:
        raise ValueError(f"{text!r} is no transaction id")


def _require_own_file(name: str) -> None:
    """Refuse a name that leads out of the backup's folder."""
    is_too_long = len(os.fsencode(name)) > _NAME_BYTES_MAX
    if name in {"", ".", ".."} or "/" in name or "\0" in name or is_too_long:
        raise ValueError(f"{name!r} is no file in the backup's folder")
