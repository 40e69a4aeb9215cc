"""The kept form of an index of references: pairs of oids, sorted, in a file beside the data file."""

import functools
import json
import mmap
import os
import struct
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from perdure.ids import Oid, Tid
from perdure.maintenance._places import written_privately

__all__ = ["Base", "Pairs", "Stamp", "keep", "kept"]

_MAGIC: Final = b"perdure references 3\n"
_HEADER: Final = struct.Struct(">L8sQQ")
"""The CRC-32 of all that follows it, the stamp, the length of the directory."""
_CRC_BYTES: Final = 4
_PAIR_BYTES: Final = 16


class Stamp(NamedTuple):
    """What a data file has when an index of it is made."""

    tid: Tid
    """Its last transaction."""
    size_bytes: int

    def to_bytes(self) -> bytes:
        """Return it as 16 bytes."""
        return self.tid + self.size_bytes.to_bytes(8, "big")


class Pairs:
    """Pairs of a referred object's and a referrer's oid, sorted, 16 bytes a pair, in a buffer."""

    def __init__(self, buffer: Any, start: int = 0, length_bytes: int | None = None) -> None:
        self._buffer = buffer
        self._start = start
        self._count = (len(buffer) if length_bytes is None else length_bytes) // _PAIR_BYTES

    def __len__(self) -> int:
        return self._count

    def to_bytes(self) -> bytes:
        """Return all of them."""
        return bytes(self._buffer[self._start : self._start + self._count * _PAIR_BYTES])

    def _pair(self, number: int) -> bytes:
        start = self._start + number * _PAIR_BYTES
        return bytes(self._buffer[start : start + _PAIR_BYTES])

    def referrers(self, oid: Oid) -> Iterator[Oid]:
        """Return the objects that refer to *oid*, in the order of oids."""
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if self._pair(middle)[:8] < oid:
                low = middle + 1
            else:
                high = middle
        while low < self._count:
            pair = self._pair(low)
            if pair[:8] != oid:
                return
            yield Oid(pair[8:])
            low += 1


class Base(NamedTuple):
    """All references of the current records of a storage, as they were at a time."""

    stamp: Stamp
    own: Pairs
    """References within the database."""
    others: Mapping[str, Pairs]
    """References to other members, by name."""

    def __len__(self) -> int:
        return len(self.own) + sum(map(len, self.others.values()))

    @classmethod
    def of(cls, stamp: Stamp, own: bytes, others: Mapping[str, bytes]) -> "Base":
        """Return one of the bytes of pairs."""
        return cls(stamp, Pairs(own), {name: Pairs(pairs) for name, pairs in others.items()})


def kept(path: Path) -> Base | None:
    """Return what is kept at *path*; None where there is nothing that can be used."""
    try:
        with path.open("rb") as file:
            # Written whole and replaced by rename, never changed in place.
            buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return _parsed(buffer)
    except (OSError, ValueError, TypeError, IndexError, RecursionError):
        return None


def _parsed(buffer: mmap.mmap) -> Base | None:
    start = len(_MAGIC) + _HEADER.size
    if len(buffer) < start or buffer[: len(_MAGIC)] != _MAGIC:
        return None
    crc, tid, size, length = _HEADER.unpack_from(buffer, len(_MAGIC))
    with memoryview(buffer) as view, view[len(_MAGIC) + _CRC_BYTES :] as covered:
        if zlib.crc32(covered) != crc:
            return None
    directory = json.loads(buffer[start : start + length])
    start += length
    sections: list[Pairs] = []
    for _name, length in directory:
        if length % _PAIR_BYTES or not 0 <= length <= len(buffer) - start:
            return None
        sections.append(Pairs(buffer, start, length))
        start += length
    names = [name for name, _length in directory]
    return Base(Stamp(Tid(tid), size), sections[0], dict(zip(names[1:], sections[1:], strict=True)))


def keep(path: Path, base: Base) -> None:
    """Keep *base* at *path*, in place of what was there. OSError is raised where that fails."""
    sections = [("", base.own), *base.others.items()]
    contents = [pairs.to_bytes() for _name, pairs in sections]
    directory = json.dumps(
        [(name, len(pairs)) for (name, _), pairs in zip(sections, contents, strict=True)]
    ).encode()
    stamp = _HEADER.pack(0, *base.stamp, len(directory))[_CRC_BYTES:]
    crc = functools.reduce(
        lambda crc, part: zlib.crc32(part, crc), [stamp, directory, *contents], 0
    )
    written = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        with written_privately(written) as file:
            file.writelines([_MAGIC, crc.to_bytes(_CRC_BYTES, "big"), stamp, directory, *contents])
            file.flush()
            os.fsync(file.fileno())
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)
