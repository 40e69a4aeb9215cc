"""What the `perdure` command begins with: before anything large is imported."""

import sys

__all__ = ["run"]


def run() -> None:
    """Run the command line, and exit."""
    try:
        from perdure._ending import ending_quietly
    except KeyboardInterrupt:
        sys.stderr.write("perdure: interrupted\n")
        raise SystemExit(130) from None
    with ending_quietly("perdure"):
        from perdure.cli.commands import main

        main(prog_name="perdure")
