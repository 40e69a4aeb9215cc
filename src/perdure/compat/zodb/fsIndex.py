"""A sorted mapping of 8-byte keys to file positions below 2**48, small in memory."""

import io
import pickle
import struct
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any

from BTrees.QQBTree import QQBTree

from perdure._native import verify_memo

__all__ = ["fsIndex"]

_POSITION_LIMIT = 1 << 48
_PREFIX_BYTES = 6
_SUFFIX_BYTES = 2
_MISSING = object()


def _number(key: bytes) -> int:
    if len(key) != 8:
        raise ValueError(f"a key is 8 bytes: {key!r}")
    return int.from_bytes(key, "big")


def _key(number: int) -> bytes:
    return number.to_bytes(8, "big")


def num2str(n: int) -> bytes:
    """Return a position as 6 bytes."""
    return n.to_bytes(6, "big")


def str2num(s: bytes) -> int:
    """Return the position in 6 bytes."""
    return int.from_bytes(s, "big")


def _as_bytes(value: bytes | str) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else value


class _IndexUnpickler(pickle.Unpickler):
    """Reads positions and bytes, and runs nothing that a file names."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"an index file names {module}.{name}")


class fsIndex:
    """A mapping of oids to positions in a file, in the order of the oids.

    It pickles as stock ZODB's does, and reads and writes stock's index files.
    """

    def __init__(self, data: Mapping[bytes, int] | None = None) -> None:
        self._tree = QQBTree()
        if data:
            self.update(data)

    def __getitem__(self, key: bytes) -> int:
        try:
            return int(self._tree[_number(key)])
        except KeyError:
            raise KeyError(key) from None

    def __setitem__(self, key: bytes, value: int) -> None:
        if not 0 <= value < _POSITION_LIMIT:
            raise ValueError(f"a position is in 0 .. 2**48 - 1: {value}")
        self._tree[_number(key)] = value

    def __delitem__(self, key: bytes) -> None:
        try:
            del self._tree[_number(key)]
        except KeyError:
            raise KeyError(key) from None

    def __contains__(self, key: bytes) -> bool:
        return _number(key) in self._tree

    has_key = __contains__

    def __len__(self) -> int:
        return len(self._tree)

    def __iter__(self) -> Iterator[bytes]:
        return (_key(number) for number in self._tree)

    iterkeys = __iter__

    def get(self, key: bytes, default: Any = None) -> Any:
        """Return the position of *key*, or *default*."""
        return self._tree.get(_number(key), default)

    def keys(self) -> list[bytes]:
        """Return the keys, in order."""
        return list(self)

    def iteritems(self) -> Iterator[tuple[bytes, int]]:
        """Return an iterator over pairs of key and position, in the keys' order."""
        return ((_key(number), position) for number, position in self._tree.items())

    def items(self) -> list[tuple[bytes, int]]:
        """Return the pairs of key and position, in the keys' order."""
        return list(self.iteritems())

    def itervalues(self) -> Iterator[int]:
        """Return an iterator over the positions, in the order of the keys."""
        return iter(self._tree.values())

    def values(self) -> list[int]:
        """Return the positions, in the order of the keys."""
        return list(self._tree.values())

    def update(self, mapping: Mapping[bytes, int]) -> None:
        """Set what *mapping* has."""
        for key, position in mapping.items():
            self[_as_bytes(key)] = position

    def clear(self) -> None:
        """Remove everything."""
        self._tree.clear()

    def minKey(self, key: bytes | None = None) -> bytes:
        """Return the first key, or the first from *key* on; ValueError for none."""
        return _key(self._tree.minKey() if key is None else self._tree.minKey(_number(key)))

    def maxKey(self, key: bytes | None = None) -> bytes:
        """Return the last key, or the last up to *key*; ValueError for none."""
        return _key(self._tree.maxKey() if key is None else self._tree.maxKey(_number(key)))

    def _buckets(self) -> Iterator[tuple[bytes, bytes]]:
        """Pairs of the first 6 bytes of some keys, and the rest of these and their values."""
        for prefix, group in groupby(self.iteritems(), lambda item: item[0][:_PREFIX_BYTES]):
            members = list(group)
            suffixes = b"".join(key[_PREFIX_BYTES:] for key, _ in members)
            positions = b"".join(position.to_bytes(6, "big") for _, position in members)
            yield prefix, suffixes + positions

    def _add_bucket(self, prefix: bytes, bucket: bytes) -> None:
        count, rest = divmod(len(bucket), _SUFFIX_BYTES + 6)
        if rest:
            raise ValueError(f"a part of the index has {len(bucket)} bytes, no multiple of 8")
        high, _ = struct.unpack(">QH", b"\0\0" + prefix + b"\0\0")
        for place in range(count):
            low = int.from_bytes(bucket[place * 2 : place * 2 + 2], "big")
            start = count * 2 + place * 6
            self._tree[high << 16 | low] = int.from_bytes(bucket[start : start + 6], "big")

    def __getstate__(self) -> dict[str, Any]:
        return {"state_version": 1, "_data": list(self._buckets())}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._tree = QQBTree()
        for prefix, bucket in state["_data"]:
            self._add_bucket(_as_bytes(prefix), _as_bytes(bucket))

    def save(self, pos: int, fname: str) -> None:
        """Write the index to the file *fname*, as valid up to position *pos* of its data."""
        with Path(fname).open("wb") as file:
            pickle.dump(pos, file, 3)
            for bucket in self._buckets():
                pickle.dump(bucket, file, 3)
            pickle.dump(None, file, 3)

    @classmethod
    def load(cls, fname: str) -> dict[str, Any]:
        """Return the index in the file *fname*: ``{"pos": position, "index": index}``.

        Raises ValueError where the file is damaged, or is none.
        """
        index = cls()
        data = Path(fname).read_bytes()
        try:
            verify_memo(data)
            unpickler = _IndexUnpickler(io.BytesIO(data), encoding="latin-1")
            pos = unpickler.load()
            while isinstance(pos, int) and (bucket := unpickler.load()):
                index._add_bucket(*map(_as_bytes, bucket))
        except Exception as error:  # garbage makes pickle raise anything
            raise ValueError(f"{fname} is damaged, or no index file: {error}") from error
        if not isinstance(pos, int):
            problem = f"{fname} is no index file, or one of a very old ZODB"
            raise ValueError(problem)  # noqa: TRY004 - bad data, not a bad argument
        return {"pos": pos, "index": index}
