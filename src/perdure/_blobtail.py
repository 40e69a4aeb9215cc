"""How long a blob's file has to be: kept behind the pickles of the blob's record.

There it goes wherever the record goes: into other layers and storages, copies, exports and
undone revisions. A pickle ends at its stop opcode, so who doesn't know of it reads the same
blob; a record of theirs has none. `crates/format/src/pickle/tail.rs` knows it, too.
"""

import os
from typing import Final

from perdure.ids import p64, u64

__all__ = ["length_in", "with_length"]

_MARK: Final = b"PBL1"
"""Ends the tail: the last byte of any other record is a stop opcode."""
_NUMBER_BYTES: Final = 8
_TAIL_BYTES: Final = 8 + _NUMBER_BYTES + len(_MARK)
_STOP: Final = b"."


def with_length(record: bytes, length: int) -> bytes:
    """Return the record of a blob whose file has *length* bytes.

    No two are the same: undoing must not take one revision of a blob for another.
    """
    return _without(record) + p64(length) + os.urandom(_NUMBER_BYTES) + _MARK


def length_in(record: bytes) -> int | None:
    """Return how many bytes the file of a blob's record has to have; None: it doesn't say."""
    return u64(record[-_TAIL_BYTES:][:8]) if _has_tail(record) else None


def _has_tail(record: bytes) -> bool:
    return record.endswith(_MARK) and record[-_TAIL_BYTES - 1 : -_TAIL_BYTES] == _STOP


def _without(record: bytes) -> bytes:
    return record[:-_TAIL_BYTES] if _has_tail(record) else record
