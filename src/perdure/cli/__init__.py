"""The `perdure` command."""

from perdure.cli.main import main

__all__ = ["main"]
