"""`python -m perdure.cli`: the same as the `perdure` command."""

from perdure.cli.entry import run

if __name__ == "__main__":
    run()
