"""How perdure's classes are named to the outside while the alias is installed.

Servers, clients and pickles name a class by its module. What they name has to exist
at the other end, where stock ZODB may be installed and perdure isn't.
"""

from typing import Any


def known_as(module: str, *members: Any) -> None:
    """Give *members* (classes, functions) the module name that ZODB has them under."""
    for member in members:
        member.__module__ = module
