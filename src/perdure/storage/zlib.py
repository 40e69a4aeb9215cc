"""Records compressed with zlib, as the package zc.zlibstorage keeps them."""

import zlib
from typing import Any

from perdure.errors import UnreadableRecord
from perdure.ids import Oid, Tid
from perdure.storage._inflating import RECORD_BYTES_MAX, inflated
from perdure.storage._transforming import RecordTransform, TransformingStorage

__all__ = ["ServerZlibStorage", "ZlibStorage"]

_MARK = b".z"
_SMALLEST_BYTES = 20


class _Zlib(RecordTransform):
    def __init__(self, *, compress: bool, record_bytes_max: int) -> None:
        self._compress = compress
        self._bytes_max = record_bytes_max

    def encode(self, data: bytes) -> bytes:
        """Return *data* compressed, or as it is where that isn't smaller."""
        if not self._compress or not _SMALLEST_BYTES < len(data) <= self._bytes_max:
            return data
        if data.startswith(_MARK):
            return data
        compressed = _MARK + zlib.compress(data)
        return compressed if len(compressed) < len(data) else data

    def decode(self, data: bytes) -> bytes:
        """Return *data* as it was before `encode`."""
        return inflated(data[len(_MARK) :], self._bytes_max) if data.startswith(_MARK) else data

    def decode_for(self, data: bytes, oid: Oid, serial: Tid) -> bytes:
        """Return *data* as it was before `encode`; errors name the revision."""
        try:
            return self.decode(data)
        except UnreadableRecord as error:
            error.oid, error.tid = oid, serial
            raise


class ZlibStorage(TransformingStorage):
    """A storage that keeps its records compressed in *base*.

    Records in *base* that aren't compressed are read as they are, so the layer can be
    put over a database that exists. With *compress* False, records are written
    uncompressed and both kinds are read. A record that is damaged, or that would become
    larger than *record_bytes_max* bytes, is an UnreadableRecord.
    """

    def __init__(
        self, base: Any, compress: bool = True, *, record_bytes_max: int = RECORD_BYTES_MAX
    ) -> None:
        super().__init__(base, _Zlib(compress=compress, record_bytes_max=record_bytes_max))


class ServerZlibStorage(TransformingStorage):
    """The layer for a server whose clients compress: records pass through as they are.

    Only what has to look into records (packing, resolving conflicts) reads them
    uncompressed.
    """

    def __init__(
        self, base: Any, compress: bool = True, *, record_bytes_max: int = RECORD_BYTES_MAX
    ) -> None:
        transform = _Zlib(compress=compress, record_bytes_max=record_bytes_max)
        super().__init__(base, transform, encoded_above=True)
