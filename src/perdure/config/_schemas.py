"""The ZConfig schemas, and how a configuration is read with them.

The section types of databases and storages are ``ZODB.storage`` and ``ZODB.database``:
the names that the components of other packages (``%import ZEO``) extend. Such a
component asks for the package ``ZODB`` to have them defined; here that request finds
perdure's own definitions, whether stock ZODB is installed or not.
"""

import contextlib
import functools
from collections.abc import Iterator
from typing import IO, Any

import ZConfig
import ZConfig.info
import ZConfig.loader
import ZConfig.schema

_PACKAGE = "perdure.config"

_OWN_COMPONENTS = {
    "ZODB": "component.xml",
    "cipher.encryptingstorage": "imported.xml",
    "zc.beforestorage": "beforestorage.xml",
    "zc.demostorage2": "demostorage2.xml",
    "zc.zlibstorage": "zlibstorage.xml",
}
"""Packages whose component is perdure's own, and the file here that holds it."""


class _SchemaLoader(ZConfig.loader.SchemaLoader):
    """Reads schemas; finds the components that perdure serves in its own files."""

    def schemaComponentSource(self, package: str, filename: str) -> str:
        if package in _OWN_COMPONENTS and filename in {"", "component.xml"}:
            return f"package:{_PACKAGE}:{_OWN_COMPONENTS[package]}"
        return str(super().schemaComponentSource(package, filename))


class _ConfigLoader(ZConfig.loader.ConfigLoader):
    """Reads one configuration, extending its schema with what it imports."""

    def __init__(self, schema: Any) -> None:
        super().__init__(ZConfig.info.createDerivedSchema(schema))
        self._components = _SchemaLoader(schema.registry)

    def importSchemaComponent(self, pkgname: str) -> None:
        url = self._components.schemaComponentSource(pkgname, "")
        if self.schema.hasComponent(url):
            return
        self.schema.addComponent(url)
        with self._components.openResource(url) as resource:
            ZConfig.schema.parseComponent(resource, self._components, self.schema)


@functools.cache
def getDbSchema() -> Any:
    """Return the schema of a configuration of one or more ``zodb`` sections.

    It is for ``ZConfig.loadConfigFile``; the configuration loaded has the database
    factories as ``database``.
    """
    return _load_schema("database.xml")


@functools.cache
def getStorageSchema() -> Any:
    """Return the schema of a configuration of one storage section.

    It is for ``ZConfig.loadConfigFile``; the configuration loaded has the storage
    factory as ``storage``.
    """
    return _load_schema("storage.xml")


def load_file(schema: Any, file: IO[str]) -> Any:
    """Return the configuration in *file*, read by *schema*."""
    with _saying_where():
        config, _ = _ConfigLoader(schema).loadFile(file)
    return config


def load_url(schema: Any, url: str) -> Any:
    """Return the configuration at *url*, a URL or path, read by *schema*."""
    with _saying_where():
        config, _ = _ConfigLoader(schema).loadURL(url)
    return config


@contextlib.contextmanager
def _saying_where() -> Iterator[None]:
    """Have the message of an error say where in the configuration it is."""
    try:
        yield
    except ZConfig.ConfigurationError as error:
        line = getattr(error, "lineno", None)
        if line is not None and line > 0 and f"line {line}" not in str(error):
            of = f", {error.url}" if error.url else ""
            error.message = f"{error.message} (line {line}{of})"
        raise


def _load_schema(name: str) -> Any:
    schema = _SchemaLoader().loadURL(f"package:{_PACKAGE}:{name}")
    # With ZConfig's own loader too, a component that imports the package ZODB must
    # not define the section types a second time.
    schema.addComponent("package:ZODB:component.xml")
    return schema
