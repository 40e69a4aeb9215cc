"""Names that packages offer and import only when they are used.

Who opens a database and packs it needs neither encryption nor backups: importing them
would take a program's time and memory.
"""

import sys
from importlib import import_module

# Not from `typing`: every program that uses perdure waits for this first.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from typing import Any

__all__ = ["importing_late"]


def importing_late(
    package: str, homes: "Mapping[str, str]", modules: "Collection[str]" = ()
) -> "Callable[[str], Any]":
    """Return the `__getattr__` of a package.

    It imports the names in *homes* from the modules that these give, and the package's own
    *modules*, when each is first asked for.
    """

    def find(name: str) -> "Any":
        if name in homes:
            value = getattr(import_module(homes[name]), name)
        elif name in modules:
            value = import_module(f"{package}.{name}")
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(sys.modules[package], name, value)
        return value

    return find
