"""The `perdure` command."""

from typing import TYPE_CHECKING

from perdure._lazy import importing_late

if TYPE_CHECKING:
    from perdure.cli.commands import main

__all__ = ["main"]

__getattr__ = importing_late(__name__, {"main": "perdure.cli.commands"})
