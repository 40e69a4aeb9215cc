"""Stacks of perdure's layers over storages, for the suites that run over many storages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from perdure.blob import BlobStorage
from perdure.storage import FileStorage
from perdure.storage.before import BeforeStorage
from perdure.storage.demo import DemoStorage, DemoStorage2
from perdure.storage.zlib import ZlibStorage

__all__ = ["LAYERED_MEMBERS", "STACKS", "encrypting", "zstd"]


def zstd(base: Any) -> Any:
    """Return a layer that compresses with Zstandard, where that is installed."""
    pytest.importorskip("zstandard")
    from perdure.storage.zstd import ZstdStorage

    return ZstdStorage(base)


def encrypting(base: Any) -> Any:
    """Return a layer that encrypts, where what it needs is installed."""
    pytest.importorskip("cryptography")
    from perdure.storage.encrypting import EncryptingStorage

    return EncryptingStorage(base, bytes(32))


def _file(directory: Path, name: str) -> FileStorage:
    return FileStorage(str(directory / f"{name}.fs"), pack_keep_old=False)


def _demo_over_view(directory: Path) -> Any:
    view = BeforeStorage(_file(directory, "base"))
    return DemoStorage(base=view, changes=_file(directory, "changes"))


def _demo_of_layers(directory: Path) -> Any:
    base = zstd(_file(directory, "base"))
    return DemoStorage(base=base, changes=ZlibStorage(encrypting(_file(directory, "changes"))))


def _layers_over_demo2(directory: Path) -> Any:
    demo = DemoStorage2(_file(directory, "base"), _file(directory, "changes"))
    return encrypting(ZlibStorage(demo))


STACKS: dict[str, Callable[[Path], Any]] = {
    "demo": lambda where: DemoStorage(base=_file(where, "base"), changes=_file(where, "changes")),
    "demo-over-before": _demo_over_view,
    "demo2": lambda where: DemoStorage2(_file(where, "base"), _file(where, "changes")),
    "zlib": lambda where: ZlibStorage(_file(where, "data")),
    "zstd": lambda where: zstd(_file(where, "data")),
    "encrypting": lambda where: encrypting(_file(where, "data")),
    "blobs": lambda where: BlobStorage(str(where / "blobs"), _file(where, "data")),
    "zstd-over-encrypting": lambda where: zstd(encrypting(_file(where, "data"))),
    "demo-of-zstd-and-encrypting": _demo_of_layers,
    "encrypting-over-zlib-over-demo2": _layers_over_demo2,
}
"""Each makes an empty storage with files in the directory, or opens what was left there."""

LAYERED_MEMBERS: dict[str, Callable[[Path, str], Any]] = {
    "zlib": lambda where, name: ZlibStorage(_file(where, name)),
    "zstd": lambda where, name: zstd(_file(where, name)),
    "encrypting": lambda where, name: encrypting(_file(where, name)),
    "blobs": lambda where, name: BlobStorage(str(where / f"{name}.blobs"), _file(where, name)),
    "encrypting-over-zlib": lambda where, name: encrypting(ZlibStorage(_file(where, name))),
    "zstd-over-encrypting-with-blobs": lambda where, name: zstd(
        encrypting(BlobStorage(str(where / f"{name}.blobs"), _file(where, name)))
    ),
}
"""Each makes a member of a collection that takes part in joint commits, with its name."""
