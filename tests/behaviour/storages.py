"""The storages that the behaviour tests run over: perdure's own, and those of others."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.layers import STACKS

import perdure.storage.demo
import perdure.storage.file
import perdure.storage.mapping
import perdure.storage.zlib

__all__ = ["STORAGES", "StorageKind"]

Opener = Callable[[Path, str], AbstractContextManager[Any]]


@dataclass(frozen=True)
class StorageKind:
    """A kind of storage, and what can be expected of it."""

    name: str
    opened: Opener
    """Gives an empty storage of the given name in a directory; called again: the same one."""
    reopens: bool
    """Whether what was stored is there when it is opened again."""
    resolves: bool = True
    """Whether it resolves conflicts."""


@contextlib.contextmanager
def _own_file(directory: Path, name: str) -> Iterator[Any]:
    yield perdure.storage.file.FileStorage(str(directory / f"{name}.fs"))


@contextlib.contextmanager
def _own_mapping(_directory: Path, name: str) -> Iterator[Any]:
    yield perdure.storage.mapping.MappingStorage(name)


@contextlib.contextmanager
def _demo(_directory: Path, name: str) -> Iterator[Any]:
    yield perdure.storage.demo.DemoStorage(name)


@contextlib.contextmanager
def _demo_pushed(_directory: Path, name: str) -> Iterator[Any]:
    yield perdure.storage.demo.DemoStorage(f"{name} below").push()


@contextlib.contextmanager
def _zlib_over_demo(_directory: Path, name: str) -> Iterator[Any]:
    yield perdure.storage.zlib.ZlibStorage(perdure.storage.demo.DemoStorage(name))


def _stack(stack: str) -> Opener:
    @contextlib.contextmanager
    def opened(directory: Path, name: str) -> Iterator[Any]:
        folder = directory / f"{name}-{stack}"
        folder.mkdir(exist_ok=True)
        yield STACKS[stack](folder)

    return opened


@contextlib.contextmanager
def _stock_file(directory: Path, name: str) -> Iterator[Any]:
    from ZODB.FileStorage import FileStorage

    yield FileStorage(str(directory / f"{name}-stock.fs"))


@contextlib.contextmanager
def _stock_mapping(_directory: Path, name: str) -> Iterator[Any]:
    from ZODB.MappingStorage import MappingStorage

    yield MappingStorage(name)


@contextlib.contextmanager
def _stock_demo(_directory: Path, name: str) -> Iterator[Any]:
    from ZODB.DemoStorage import DemoStorage

    yield DemoStorage(name)


@contextlib.contextmanager
def _relstorage(directory: Path, name: str) -> Iterator[Any]:
    from relstorage.adapters.sqlite.adapter import Sqlite3Adapter
    from relstorage.options import Options
    from relstorage.storage import RelStorage

    options = Options(keep_history=True, name=name, cache_local_dir=None)
    data = directory / f"{name}-sqlite"
    data.mkdir(exist_ok=True)
    yield RelStorage(Sqlite3Adapter(str(data), pragmas={}, options=options), options=options)


@contextlib.contextmanager
def _zeo(directory: Path, name: str) -> Iterator[Any]:
    import ZEO

    address, stop = ZEO.server(str(directory / f"{name}-zeo.fs"))
    try:
        yield ZEO.client(address)
    finally:
        stop()


STORAGES = [
    StorageKind("perdure-file", _own_file, reopens=True),
    StorageKind("perdure-mapping", _own_mapping, reopens=False),
    StorageKind("perdure-demo-in-memory", _demo, reopens=False),
    StorageKind("perdure-demo-pushed", _demo_pushed, reopens=False),
    StorageKind("perdure-zlib-over-demo", _zlib_over_demo, reopens=False),
    *(StorageKind(f"perdure-{stack}", _stack(stack), reopens=True) for stack in STACKS),
    StorageKind("zodb-file", _stock_file, reopens=True),
    StorageKind("zodb-mapping", _stock_mapping, reopens=False, resolves=False),
    StorageKind("zodb-demo", _stock_demo, reopens=False),
    StorageKind("relstorage-sqlite", _relstorage, reopens=True),
    StorageKind("zeo", _zeo, reopens=True),
]
