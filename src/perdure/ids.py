"""The two kinds of id: of an object, and of the transaction that wrote it.

Both are 8 bytes.  They are packed with `p64`, read with `u64`, and shown in
messages by `oid_repr`, `tid_repr` and `readable_tid_repr`.
"""

import struct
from binascii import unhexlify
from typing import Final, NewType

from persistent.timestamp import TimeStamp

Oid = NewType("Oid", bytes)
"""An object's id in its database: 8 bytes, big-endian, given out once."""

Tid = NewType("Tid", bytes)
"""A transaction's id: 8 bytes that are a time stamp and increase with time."""

ROOT_OID: Final = Oid(b"\0" * 8)
"""The object that every other one is reached from."""

NO_TID: Final = Tid(b"\0" * 8)
"""The serial of an object that no transaction has written yet."""

MAX_TID: Final = Tid(b"\x7f" + b"\xff" * 7)
"""Later than every transaction that there will be."""

_UINT64 = struct.Struct(">Q")


def p64(value: int) -> bytes:
    """Return the 8 bytes (big-endian) of *value*; ValueError when it doesn't fit."""
    try:
        return _UINT64.pack(value)
    except struct.error as error:
        raise ValueError(str(error), value) from None


def u64(packed: bytes) -> int:
    """Return the integer in the 8 bytes *packed*; ValueError for any other length."""
    try:
        return int(_UINT64.unpack(packed)[0])
    except struct.error as error:
        raise ValueError(str(error), packed) from None


def oid_repr(oid: object) -> str:
    """Return *oid* as short hexadecimal, `0x2a`; anything but 8 bytes as its repr."""
    if not isinstance(oid, bytes) or len(oid) != 8:
        return repr(oid)
    digits = oid.lstrip(b"\0").hex() or "00"
    return "0x" + digits


tid_repr = oid_repr


def readable_tid_repr(tid: object) -> str:
    """Return *tid* in hexadecimal with the time it stands for behind."""
    if isinstance(tid, bytes) and len(tid) == 8:
        return f"{tid_repr(tid)} {TimeStamp(tid)}"
    return repr(tid)


def repr_to_oid(text: str | bytes) -> Oid:
    """Return the oid that *text*, as `oid_repr` makes it, stands for."""
    digits = text.encode("ascii") if isinstance(text, str) else text
    return Oid(unhexlify(digits.removeprefix(b"0x")).rjust(8, b"\0"))
