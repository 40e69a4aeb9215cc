"""The import machinery that lets the name ``ZODB`` stand for perdure.

The modules that stand in for ZODB's are ordinary files in the directory ``zodb``
beside this one. A finder at the front of `sys.meta_path` loads that directory as the
package ``ZODB``; nothing else makes it importable under that name. Of stock ZODB,
where it is installed, only the test helpers (``ZODB.tests``) are used.
"""

import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import ModuleType

ENVIRONMENT_NAME = "PERDURE_COMPAT"
"""Environment variable; ``"1"`` installs the alias in every Python started with it."""

_ALIAS = "ZODB"
_FACADE = Path(__file__).with_name("zodb")


class CompatError(ImportError):
    """The alias cannot be installed, because stock ZODB is already imported."""


class FacadeModule(ModuleType):
    """A module of the alias.

    ZODB has classes named like the module that holds them (``ZODB.DB``,
    ``ZODB.FileStorage.FileStorage``). Whichever of the two a package binds on purpose
    stays bound: the import system, which sets every module that it loads on the
    module's parent, does not replace it.
    """

    def __setattr__(self, name: str, value: object) -> None:
        """Set an attribute, unless a late import of a submodule would hide a class."""
        is_submodule = isinstance(value, ModuleType) and value.__name__ == f"{self.__name__}.{name}"
        if is_submodule and not isinstance(self.__dict__.get(name, value), ModuleType):
            return
        super().__setattr__(name, value)


class _FacadeLoader(SourceFileLoader):
    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return FacadeModule(spec.name)


class _AliasFinder(MetaPathFinder):
    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None = None,
        target: ModuleType | None = None,
    ) -> ModuleSpec | None:
        """Return the spec of a module of the alias, None for any other module."""
        del path, target
        if fullname != _ALIAS and not fullname.startswith(_ALIAS + "."):
            return None
        return find_alias(fullname)


_finder = _AliasFinder()


def find_alias(fullname: str) -> ModuleSpec | None:
    """Return the spec of the module *fullname*, ``ZODB`` or ``ZODB.…``, on perdure.

    None: the alias has no such module. This is what the start-up hook of a child
    process calls, so it installs the alias there.

    Raises CompatError where stock ZODB is imported already.
    """
    install()
    parts = fullname.split(".")[1:]
    for root in _roots(parts):
        location = root.joinpath(*parts)
        if location.is_dir():
            return _spec(fullname, location / "__init__.py", [str(location)])
        source = location.with_name(location.name + ".py")
        if source.is_file():
            return _spec(fullname, source, None)
    return None


def _roots(parts: list[str]) -> list[Path]:
    """The directories to look in for a module of the alias, best first."""
    if parts[:1] != ["tests"]:
        return [_FACADE]
    # Test suites of other packages build on stock's test helpers, which use nothing
    # but the modules of the alias: where stock is installed, they run on perdure.
    stock = PathFinder.find_spec(_ALIAS)
    found = stock.submodule_search_locations if stock is not None else None
    return [*map(Path, found or ()), _FACADE]


def _spec(fullname: str, source: Path, search: list[str] | None) -> ModuleSpec | None:
    return spec_from_file_location(
        fullname,
        source,
        loader=_FacadeLoader(fullname, str(source)),
        submodule_search_locations=search,
    )


def install() -> None:
    """Make ``import ZODB`` mean perdure, here and in child processes.

    A second call changes nothing. Child processes are reached through the environment
    variable `ENVIRONMENT_NAME`; take it out of the environment of a child that is to
    have stock ZODB.

    Raises CompatError where stock ZODB is imported already: objects of two packages
    under one name could not be told apart.
    """
    _refuse_stock()
    if _finder not in sys.meta_path:
        sys.meta_path.insert(0, _finder)
    os.environ[ENVIRONMENT_NAME] = "1"


def is_installed() -> bool:
    """Tell whether ``import ZODB`` gives perdure in this process."""
    return _finder in sys.meta_path


def _refuse_stock() -> None:
    for name, module in sorted(sys.modules.items()):
        if name != _ALIAS and not name.startswith(_ALIAS + "."):
            continue
        if isinstance(module, FacadeModule):
            continue
        where = getattr(module, "__file__", None) or "an unknown place"
        raise CompatError(
            f"stock ZODB is already imported ({name} from {where}): call "
            "perdure.compat.install() before the first import of ZODB, or start the "
            "program with python -m perdure.compat",
            name=name,
        )
