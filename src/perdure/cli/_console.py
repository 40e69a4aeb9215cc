"""Where tables are printed."""

import os
from typing import Any

from rich.console import Console as _RichConsole

__all__ = ["Console"]


_WIDTH_FOR_PROGRAMS = 1_000
"""Of what no terminal shows: nothing has to be folded or cut."""


class Console(_RichConsole):
    """Lets the command's end be the same wherever nobody reads on: rich has its own."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        if not self.is_terminal and "COLUMNS" not in os.environ:
            self.width = _WIDTH_FOR_PROGRAMS

    def on_broken_pipe(self) -> None:
        """Raise BrokenPipeError again."""
        raise BrokenPipeError
