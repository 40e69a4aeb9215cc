"""What the sections of a configuration become: factories with a method `open`.

ZConfig calls a factory's class with the section's values. The factories are named as
their sections' kinds are in ZODB, because packages ask for them by these names.
"""

import contextlib
import importlib
from collections.abc import Callable, MutableMapping
from typing import TYPE_CHECKING, Any

from perdure.sources import ConfigurationError

if TYPE_CHECKING:
    from perdure.db import DB

_FILE_OPTIONS = (
    "blob_dir",
    "create",
    "read_only",
    "quota",
    "pack_gc",
    "pack_keep_old",
    "verify_reads",
    "record_bytes_max",
)

_ZEO_OPTIONS = (
    "blob_dir",
    "shared_blob_dir",
    "storage",
    "cache_size",
    "name",
    "client",
    "var",
    "min_disconnect_poll",
    "max_disconnect_poll",
    "wait",
    "read_only",
    "read_only_fallback",
    "drop_cache_rather_verify",
    "username",
    "password",
    "realm",
)


def importable_name(name: str) -> Any:
    """Return the object at the dotted *name*, importing the modules on the way.

    Raises ValueError, with the cause, where there is no such object: to ZConfig that
    is an error in the configuration.
    """
    parts = name.split(".")
    try:
        found: Any = importlib.import_module(parts[0])
        for end, part in enumerate(parts[1:], 2):
            try:
                found = getattr(found, part)
            except AttributeError:  # noqa: PERF203 - each name has few parts
                found = importlib.import_module(".".join(parts[:end]))
    except ImportError as error:
        raise ValueError(f"{name!r} names nothing that can be imported: {error}") from error
    return found


def route_name(name: str) -> str:
    """Return *name*, which a route may have; raises ValueError for what names no class or module."""
    from perdure.db.routes import route_name as checked

    return checked(name)


class Factory:
    """A section of the configuration, which `open` makes a storage or a database.

    ``config`` has the section's values, ``name`` is the section's name or None.
    """

    def __init__(self, config: Any) -> None:
        self.config = config
        self.name: str | None = config.getSectionName()

    def open(self) -> Any:
        """Return what the section describes, opened."""
        raise NotImplementedError


class ZODBDatabase(Factory):
    """A ``zodb`` section."""

    @property
    def database_name(self) -> str:
        """The name of the database: what the section says, or the section's own, or none."""
        name: str = self.config.database_name or self.name or ""
        return name

    def open(self, databases: MutableMapping[str, Any] | None = None) -> "DB":
        """Return the database, opened as a member of the collection *databases*.

        The storage is closed again when the database can't be made on it; ValueError
        where *databases* has a member of the same name.
        """
        from perdure.db import DB  # what opens databases is loaded when one is opened

        storage = self.config.storage.open()
        try:
            return DB(storage, databases=databases, **self._options())
        except BaseException:
            storage.close()
            raise

    def _options(self) -> dict[str, Any]:
        section = self.config
        always = {
            "pool_size": section.pool_size,
            "cache_size": section.cache_size,
            "cache_size_bytes": section.cache_size_bytes,
            "historical_pool_size": section.historical_pool_size,
            "historical_cache_size": section.historical_cache_size,
            "historical_cache_size_bytes": section.historical_cache_size_bytes,
            "historical_timeout": section.historical_timeout,
            "database_name": self.database_name,
        }
        where_given = {
            "pool_timeout": section.pool_timeout,
            "xrefs": section.allow_implicit_cross_references,
            "large_record_size": section.large_record_size,
            "class_factory": section.class_factory,
        }
        given = {name: value for name, value in where_given.items() if value is not None}
        return {**always, **given}


class FileStorage(Factory):
    """A ``filestorage`` section."""

    def open(self) -> Any:
        """Return the file storage."""
        from perdure.storage.file import FileStorage as Storage

        return Storage(self.config.path, **self.options())

    def options(self) -> dict[str, Any]:
        """Return the constructor's arguments that the section gives, but the path."""
        given = {name: getattr(self.config, name, None) for name in _FILE_OPTIONS}
        options = {name: value for name, value in given.items() if value is not None}
        packer = getattr(self.config, "packer", None)
        if packer:
            options["packer"] = _packer(packer)
        return options


class MappingStorage(Factory):
    """A ``mappingstorage`` section."""

    def open(self) -> Any:
        """Return a new storage in memory."""
        from perdure.storage.mapping import MappingStorage as Storage

        return Storage(self.config.name)


class DemoStorage(Factory):
    """A ``demostorage`` section."""

    def open(self) -> Any:
        """Return the overlay; ValueError for a third section, or two of one kind."""
        from perdure.storage.demo import DemoStorage as Storage

        base, changes = open_layers(self.config.factories)
        return Storage(self.config.name, base=base, changes=changes)


class BlobStorage(Factory):
    """A ``blobstorage`` section."""

    def open(self) -> Any:
        """Return the storage of the section inside, with blobs."""
        from perdure.blob import BlobStorage as Storage

        return Storage(self.config.blob_dir, self.config.base.open())


class ZstdStorage(Factory):
    """A ``zstdstorage`` section."""

    def open(self) -> Any:
        """Return the layer over the storage of the section inside."""
        from perdure.storage.zstd import ZstdStorage as Storage

        section = self.config
        options = {"level": section.level, "compress": section.compress}
        if section.record_bytes_max is not None:
            options["record_bytes_max"] = section.record_bytes_max
        return _over(
            section.base, lambda base: Storage(base, section.dictionaries or (), **options)
        )


class EncryptingStorage(Factory):
    """An ``encryptingstorage`` section."""

    def open(self) -> Any:
        """Return the layer over the storage of the section inside."""
        from perdure.storage.encrypting import EncryptingStorage as Storage

        section = self.config
        options = {
            "read_unencrypted": section.read_unencrypted,
            "clear_directory": section.clear_directory,
        }
        return _over(section.base, lambda base: Storage(base, section.key_files, **options))


class ZEOClient(Factory):
    """A ``zeoclient`` section."""

    def open(self) -> Any:
        """Return a ZEO client storage; ImportError where ZEO isn't installed."""
        from ZEO.ClientStorage import ClientStorage

        options = {name: getattr(self.config, name) for name in _ZEO_OPTIONS}
        for name in ("blob_cache_size", "blob_cache_size_check", "client_label"):
            if getattr(self.config, name) is not None:
                options[name] = getattr(self.config, name)
        return ClientStorage([server.address for server in self.config.server], **options)


def open_layers(factories: list[Any]) -> tuple[Any, Any]:
    """Open the sections of an overlay; return (base, changes), None where not given.

    The section named ``changes`` is the changes, the other one the base. Raises
    ValueError where there is more than one of a kind, with nothing left open.
    """
    layers: dict[str, Any] = {}
    with contextlib.ExitStack() as on_failure:
        for factory in factories:
            kind = "changes" if factory.name == "changes" else "base"
            if kind in layers:
                raise ConfigurationError(
                    f"more than one storage section is the {kind} of an overlay"
                )
            layers[kind] = factory.open()
            on_failure.callback(layers[kind].close)
        on_failure.pop_all()
    return layers.get("base"), layers.get("changes")


def _over(section: Any, layer: Callable[[Any], Any]) -> Any:
    """Open *section* and return *layer* of it; close it again when that fails."""
    base = section.open()
    try:
        return layer(base)
    except BaseException:
        base.close()
        raise


def _packer(name: str) -> Any:
    if ":" not in name:
        return importable_name(name)
    module, expression = name.split(":", 1)
    # Such configurations exist, with calls in them: `zc.FileStorage:Packer(...)`. Who
    # writes the configuration chooses the code that runs, in either form.
    return eval(expression, vars(importlib.import_module(module)))  # noqa: S307
