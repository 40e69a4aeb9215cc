"""The `perdure` command."""

from perdure._lazy import importing_late

# Not from `typing`, here and above: the sooner it is imported, the sooner Ctrl-C ends quietly.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from perdure.cli.commands import main

__all__ = ["main"]

__getattr__ = importing_late(__name__, {"main": "perdure.cli.commands"})
