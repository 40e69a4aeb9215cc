"""Tests that ask for `storage` run over perdure's storages, and over stock's file storage.

Stock's is the control: what it does is what callers expect. Where it is known to fail, the
test has the mark `fault_of_stock` and has to fail there.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.layers import STACKS

import perdure


@dataclass(frozen=True)
class RecordStore:
    """A kind of storage, and how to get an empty one."""

    name: str
    make: Callable[[Path], Any]
    """Makes an empty storage, with files in the directory given, if it has any."""

    @property
    def is_ours(self) -> bool:
        """Tell whether the storage is one of perdure's."""
        return self.name.startswith("perdure")


def _stock(directory: Path) -> Any:
    from ZODB.FileStorage import FileStorage

    return FileStorage(str(directory / "stock.fs"))


LAYERS = ("zlib", "zstd", "encrypting", "blobs", "zstd-over-encrypting")
"""What keeps records of its own in no other storage: overlays have tests of their own."""

STORES = [
    RecordStore("perdure-file", lambda where: perdure.FileStorage(str(where / "own.fs"))),
    RecordStore("perdure-mapping", lambda _: perdure.MappingStorage("mapping")),
    *(RecordStore(f"perdure-{name}", STACKS[name]) for name in LAYERS),
    RecordStore("stock-file", _stock),
]
OURS = [store for store in STORES if store.is_ours]


def pytest_configure(config: pytest.Config) -> None:
    """Make the marks known."""
    config.addinivalue_line("markers", "fault_of_stock(why): stock's storage fails this test")
    config.addinivalue_line("markers", "sizes: what is kept has the size of what was given")
    config.addinivalue_line("markers", "shares: what undoing brings back is kept once")
    config.addinivalue_line("markers", "ours: perdure's storages promise this, stock's doesn't")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run over the storages that the test is about."""
    if "store" not in metafunc.fixturenames:
        return
    marks = {mark.name: mark for mark in metafunc.definition.iter_markers()}
    stores: list[Any] = []
    for store in OURS if "ours" in marks else STORES:
        if "sizes" in marks and store.name.removeprefix("perdure-") in LAYERS:
            continue
        if "shares" in marks and "encrypting" in store.name:
            continue
        fails = not store.is_ours and "fault_of_stock" in marks
        why = marks["fault_of_stock"].args[0] if fails else ""
        found = [pytest.mark.xfail(reason=why, strict=True)] if fails else []
        stores.append(pytest.param(store, id=store.name, marks=found))
    metafunc.parametrize("store", stores)


@pytest.fixture
def storage(store: RecordStore, tmp_path: Path) -> Iterator[Any]:
    """An empty storage."""
    made = store.make(tmp_path)
    yield made
    made.close()


@pytest.fixture
def another(store: RecordStore, tmp_path: Path) -> Iterator[Any]:
    """Another empty storage of the same kind."""
    directory = tmp_path / "another"
    directory.mkdir()
    made = store.make(directory)
    yield made
    made.close()
