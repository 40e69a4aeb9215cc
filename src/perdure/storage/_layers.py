"""Stacks of perdure's layers over a storage of perdure's own."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from perdure.ids import NO_TID, Oid, Tid
from perdure.storage.engine import EngineStorage
from perdure.storage.packing import Decode

if TYPE_CHECKING:
    from perdure.storage._transforming import TransformingStorage

__all__ = ["decoder_of", "draft_decoder_of", "engine_below", "transforming_layers"]

_PASSED_BY = ("load", "loadBefore", "lastTransaction", "new_oid", "getTid", "__getattr__")
"""What connections do without a layer: it must not have methods of its own for it."""


def _layers(storage: Any) -> Iterator[Any]:
    if isinstance(storage, EngineStorage):
        return  # Most databases have no layers, nor need their code.
    from perdure.blob import BlobStorage
    from perdure.storage._transforming import TransformingStorage

    while isinstance(storage, TransformingStorage | BlobStorage):
        yield storage
        storage = storage.base


def engine_below(storage: Any) -> EngineStorage | None:
    """Return the storage of perdure's own that *storage*, a layer, and others stand on.

    None where it is another one, or where somebody replaced a method on the way.
    """
    from perdure.blob import BlobStorage
    from perdure.storage._transforming import TransformingStorage

    below = storage
    for layer in _layers(storage):
        known = TransformingStorage if isinstance(layer, TransformingStorage) else BlobStorage
        for name in _PASSED_BY:
            own = getattr(type(layer), name, None)
            if name in vars(layer) or own is not getattr(known, name, None):
                return None
        below = layer.base
    is_engine = isinstance(below, EngineStorage) and below.is_plain()
    return below if is_engine else None


def transforming_layers(storage: Any) -> "list[TransformingStorage]":
    """Return the layers that keep records in another form, the lowest first."""
    layers = list(_layers(storage))
    if not layers:
        return []
    from perdure.storage._transforming import TransformingStorage

    found = [layer for layer in layers if isinstance(layer, TransformingStorage)]
    return found[::-1]


def decoder_of(storage: Any) -> Decode | None:
    """Return what decodes the records below *storage*; None where they are kept as they are."""
    layers = transforming_layers(storage)
    if not layers:
        return None

    def decode(data: bytes, oid: Oid, tid: Tid) -> bytes:
        for layer in layers:
            data = layer.decode_for(data, oid, tid)
        return data

    return decode


def draft_decoder_of(storage: Any) -> Decode | None:
    """Return what decodes the records of a transaction below *storage*, as `decoder_of` does.

    Those that are new in it have tid zero.
    """
    layers = transforming_layers(storage)
    decode_old = decoder_of(storage)
    if decode_old is None:
        return None

    def decode(data: bytes, oid: Oid, tid: Tid) -> bytes:
        if tid != NO_TID:
            return decode_old(data, oid, tid)
        for layer in layers:
            data = layer.decode_new(data)
        return data

    return decode
