"""Copying what can be read of a file on a device that fails."""

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from perdure.maintenance._places import written_privately

__all__ = ["Part", "image_of", "is_read_failure"]

Progress = Callable[[int, int], object]

_PIECE_BYTES: Final = 1 << 20
_BLOCK_BYTES: Final = 4096
"""What a device, and the system's cache of it, gives whole or not at all."""


class Part(NamedTuple):
    """A part of a file that can't be read."""

    start: int
    """Where it begins, in bytes."""
    end: int
    """Where it ends."""

    def __str__(self) -> str:
        return f"bytes {self.start} to {self.end} can't be read: {os.strerror(errno.EIO)}"


def is_read_failure(error: OSError) -> bool:
    """Tell whether it is the device that fails."""
    return error.errno == errno.EIO


def image_of(
    source: Path, image: Path, progress: Progress | None = None, *, beginning: bytes = b""
) -> list[Part]:
    """Copy *source* to *image*, with zeros for the parts that can't be read; return these.

    *beginning* is what the file begins with, where that can't be read. OSError is raised for
    whatever else goes wrong.
    """
    missing: list[Part] = []
    reading = os.open(source, os.O_RDONLY)
    try:
        size = os.fstat(reading).st_size
        with written_privately(image) as writing:
            for at, data, length in _pieces(reading, size):
                if data is not None:
                    writing.seek(at)
                    writing.write(data)
                elif missing and missing[-1].end == at:
                    missing[-1] = Part(missing[-1].start, at + length)
                else:
                    missing.append(Part(at, at + length))
                if progress is not None:
                    progress(at + length, size)
            writing.truncate(size)
            if missing and missing[0].start == 0 and beginning:
                writing.seek(0)
                writing.write(beginning)
    finally:
        os.close(reading)
    return missing


def _pieces(reading: int, size: int) -> Iterator[tuple[int, bytes | None, int]]:
    """Yield where each piece begins, its bytes (None: they can't be read), and how many these are."""
    for start in range(0, size, _PIECE_BYTES):
        length = min(_PIECE_BYTES, size - start)
        whole = _read(reading, start, length)
        if whole is not None:
            yield start, whole, length
            continue
        for at in range(start, start + length, _BLOCK_BYTES):
            block = min(_BLOCK_BYTES, size - at)
            yield at, _read(reading, at, block), block


def _read(reading: int, at: int, length: int) -> bytes | None:
    data = b""
    try:
        while len(data) < length:
            more = os.pread(reading, length - len(data), at + len(data))
            if not more:
                break
            data += more
    except OSError as error:
        if not is_read_failure(error):
            raise
        return None
    return data
