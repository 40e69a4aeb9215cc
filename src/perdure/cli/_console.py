"""Where tables are printed."""

from rich.console import Console as _RichConsole

__all__ = ["Console"]


class Console(_RichConsole):
    """Lets the command's end be the same wherever nobody reads on: rich has its own."""

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError again."""
        raise BrokenPipeError
