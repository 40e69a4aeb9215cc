"""What transactions were annotated with."""

import pickle

import pytest

from perdure.storage._extension import extension_of

NOTES = {"request": "/orders/7", "count": 3}


@pytest.mark.parametrize(
    "behind",
    [
        b"",
        b"PDS1",
        # The session's random bytes, read as opcodes: a line that ends, and a number of 4 bytes.
        b"PDS1abc\nr\xff\xff\xff\xff" + bytes(24),
        b"PDS1ab\np99999999999\n" + bytes(16),
        b"PDS1\n\n.}q\xff\xff\xff\xff" + bytes(20),
    ],
)
def test_annotations_are_read_whatever_stands_behind_them(behind: bytes) -> None:
    for protocol in range(4):
        assert extension_of(pickle.dumps(NOTES, protocol) + behind) == NOTES


def test_a_pickle_that_would_take_all_memory_is_no_annotation() -> None:
    assert extension_of(b"}r\xff\xff\xff\xff.") == {}


HUGE = b"\x8a\x06" + (1 << 40).to_bytes(6, "little")


@pytest.mark.parametrize(
    "value",
    [
        b"cbuiltins\nbytearray\nJ\0\0\0\x01\x85R",
        b"cbuiltins\nbytearray\n" + HUGE + b"\x85R",
        b"czodbpickle\nbinary\n" + HUGE + b"\x85R",
        b"cdatetime\ntimedelta\n" + HUGE + b"\x85R",
        b"cdecimal\nDecimal\nX\4\0\0\0junk\x85R",
        b"\x8e" + b"\xff" * 8,
    ],
)
def test_a_value_that_no_pickler_writes_is_no_annotation(value: bytes) -> None:
    assert extension_of(b"\x80\x03}X\1\0\0\0a" + value + b"s.") == {}


def test_bytes_are_annotations() -> None:
    notes = {"changed": bytearray(b"abc"), "empty": bytearray(), "bytes": b"\xff"}
    assert extension_of(pickle.dumps(notes, 3)) == notes
