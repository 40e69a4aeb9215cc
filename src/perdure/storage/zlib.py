"""Records compressed with zlib, as the package zc.zlibstorage keeps them."""

import zlib
from typing import Any

from perdure.storage._transforming import RecordTransform, TransformingStorage

__all__ = ["ServerZlibStorage", "ZlibStorage"]

_MARK = b".z"
_SMALLEST_BYTES = 20


class _Zlib(RecordTransform):
    def __init__(self, *, compress: bool) -> None:
        self._compress = compress

    def encode(self, data: bytes) -> bytes:
        """Return *data* compressed, or as it is where that isn't smaller."""
        if not self._compress or len(data) <= _SMALLEST_BYTES or data.startswith(_MARK):
            return data
        compressed = _MARK + zlib.compress(data)
        return compressed if len(compressed) < len(data) else data

    def decode(self, data: bytes) -> bytes:
        """Return *data* as it was before `encode`."""
        return zlib.decompress(data[len(_MARK) :]) if data.startswith(_MARK) else data


class ZlibStorage(TransformingStorage):
    """A storage that keeps its records compressed in *base*.

    Records in *base* that aren't compressed are read as they are, so the layer can be
    put over a database that exists. With *compress* False, records are written
    uncompressed and both kinds are read.
    """

    def __init__(self, base: Any, compress: bool = True) -> None:
        super().__init__(base, _Zlib(compress=compress))


class ServerZlibStorage(TransformingStorage):
    """The layer for a server whose clients compress: records pass through as they are.

    Only what has to look into records (packing, resolving conflicts) reads them
    uncompressed.
    """

    def __init__(self, base: Any, compress: bool = True) -> None:
        super().__init__(base, _Zlib(compress=compress), encoded_above=True)
