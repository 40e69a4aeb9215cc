"""Which records are those of blobs."""

import pickle

__all__ = ["is_blob_record"]

_NAME = "ZODB.blob Blob"


def is_blob_record(record: bytes | None) -> bool:
    """Tell whether a record is that of a blob, without loading anything."""
    if not record or b"ZODB.blob" not in record:
        return False
    # Late: it is large, and rarely needed.
    import pickletools

    try:
        for opcode, argument, _position in pickletools.genops(record):
            if opcode.name == "GLOBAL":
                return bool(argument == _NAME)
    except (ValueError, pickle.UnpicklingError):
        return False
    return False
