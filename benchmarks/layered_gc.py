"""What collecting garbage costs under layers: `python -m benchmarks.layered_gc [OBJECTS]`.

Two members with small objects, all reachable; the least CPU time of a dry run counts.
"""

import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transaction

import perdure
from perdure.storage.encrypting import EncryptingStorage
from perdure.storage.zlib import ZlibStorage

_OBJECTS = 200_000
_IN_A_MAPPING = 2_000
_ROUNDS = 3
_LAYERS: dict[str, Callable[[Any], Any]] = {
    "none": lambda base: base,
    "zlib": ZlibStorage,
    "encrypting": lambda base: EncryptingStorage(base, bytes(32)),
}


def _fill(collection: perdure.Collection, objects: int) -> None:
    with collection.transaction() as conn:
        for name in collection:
            conn[name].root.mappings = perdure.PersistentList()
    for first in range(0, objects // len(collection), _IN_A_MAPPING):
        with collection.transaction() as conn:
            for name in collection:
                mapping = perdure.PersistentMapping()
                conn[name].add(mapping)
                conn[name].root.mappings.append(mapping)
                for number in range(first, first + _IN_A_MAPPING):
                    text = f"object {number} of many, with a text"
                    mapping[number] = perdure.PersistentMapping(name=text, number=number)
            conn.cacheMinimize()


def measured(layer: str, objects: int) -> float:
    """Return the seconds of the processor that a dry run takes over *objects* objects."""
    with tempfile.TemporaryDirectory() as folder:
        wrap = _LAYERS[layer]
        files = {name: perdure.FileStorage(Path(folder) / f"{name}.fs") for name in ("one", "two")}
        with perdure.Collection({name: wrap(file) for name, file in files.items()}) as collection:
            _fill(collection, objects)
            return min(_once(collection) for _round in range(_ROUNDS))


def _once(collection: perdure.Collection) -> float:
    started = time.process_time()
    report = collection.gc(dry_run=True)
    took = time.process_time() - started
    assert report.total == 0
    return took


def main() -> None:
    """Print the times."""
    objects = int(sys.argv[1]) if len(sys.argv) > 1 else _OBJECTS
    transaction.begin()
    for layer in _LAYERS:
        print(f"{layer:12} {measured(layer, objects):6.2f} s for {objects:,} objects")


if __name__ == "__main__":
    main()
