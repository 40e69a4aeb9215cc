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
