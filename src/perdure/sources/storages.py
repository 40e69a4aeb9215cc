"""Making storages, layer over layer, of what describes them."""

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from perdure.blob import BlobStorage
from perdure.storage.before import BeforeStorage
from perdure.storage.demo import DemoStorage, DemoStorage2
from perdure.storage.encrypting import EncryptingStorage
from perdure.storage.file import FileStorage
from perdure.storage.mapping import MappingStorage
from perdure.storage.zlib import ZlibStorage
from perdure.storage.zstd import ZstdStorage

__all__ = ["open_storage"]


def open_storage(options: Mapping[str, Any], folder: Path = Path()) -> Any:
    """Open a storage with the layers below it; where one can't be opened, close the others.

    *options* are the keys of a storage in `perdure.toml`; paths are relative to *folder*.
    """
    with ExitStack() as on_failure:
        layers: dict[str, Any] = {}
        for name in ("base", "changes"):
            if name in options:
                layers[name] = open_storage(options[name], folder)
                on_failure.callback(layers[name].close)
        rest = {key: value for key, value in options.items() if key not in ("type", *layers)}
        storage = _layer(options["type"], layers, rest, folder)
        on_failure.pop_all()
    return storage


def _layer(kind: str, layers: Mapping[str, Any], rest: dict[str, Any], folder: Path) -> Any:
    if "blob_dir" in rest:
        rest["blob_dir"] = str(folder / rest["blob_dir"])
    if kind == "file":
        return FileStorage(str(folder / rest.pop("path")), **rest)
    if kind == "memory":
        return MappingStorage(**rest)
    if kind == "demo":
        return DemoStorage(**layers, **rest)
    if kind == "demo2":
        return DemoStorage2(**layers)
    return _over(kind, layers["base"], rest, folder)


def _over(kind: str, base: Any, rest: dict[str, Any], folder: Path) -> Any:
    if kind == "blobs":
        return BlobStorage(rest["blob_dir"], base)
    if kind == "before":
        return BeforeStorage(base, rest.get("before"))
    if kind == "zlib":
        return ZlibStorage(base, **rest)
    if kind == "encrypting":
        return _encrypting(base, rest, folder)
    if "dictionaries" in rest:
        rest["dictionaries"] = folder / rest["dictionaries"]
    return ZstdStorage(base, **rest)


def _encrypting(base: Any, rest: dict[str, Any], folder: Path) -> EncryptingStorage:
    keys = [folder / name for name in (rest.pop("key_file"), *rest.pop("old_key_files", ()))]
    if "clear_directory" in rest:
        rest["clear_directory"] = folder / rest["clear_directory"]
    return EncryptingStorage(base, keys, **rest)
