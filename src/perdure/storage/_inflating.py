"""Decompressing what zlib compressed, up to a bound."""

import zlib
from typing import Final

from perdure.errors import UnreadableRecord

__all__ = ["RECORD_BYTES_MAX", "inflated", "require_bounded"]

RECORD_BYTES_MAX: Final = 1 << 30
"""How large a record may become when it is decompressed, unless the caller says otherwise."""


def inflated(data: bytes, bytes_max: int) -> bytes:
    """Return *data* decompressed; UnreadableRecord if it is damaged or would become larger."""
    stream = zlib.decompressobj()
    try:
        found = stream.decompress(data, bytes_max)
    except zlib.error as error:
        raise UnreadableRecord(f"a compressed record is damaged: {error}") from error
    if not stream.eof:
        require_bounded(len(found) + bool(stream.unconsumed_tail), bytes_max)
        raise UnreadableRecord("a compressed record is damaged: its end is missing")
    return found


def require_bounded(length: int, bytes_max: int) -> None:
    """Raise UnreadableRecord unless a record of *length* bytes may be decompressed."""
    if not 0 <= length <= bytes_max:
        raise UnreadableRecord(
            f"a record isn't decompressed: it would be larger than {bytes_max} bytes "
            "(record_bytes_max)"
        )
