"""What the `perdure` command begins with: before anything large is imported."""

from perdure._ending import ending_quietly

__all__ = ["run"]


def run() -> None:
    """Run the command line, and exit."""
    with ending_quietly("perdure"):
        from perdure.cli.commands import main

        main(prog_name="perdure")
