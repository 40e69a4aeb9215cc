"""The command line: `perdure COMMAND ...`."""

import click

from perdure.cli.demo import demo
from perdure.cli.indoubt import indoubt
from perdure.cli.info import info, log


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="perdure", message="perdure %(version)s")
def main() -> None:
    """Look at and work with perdure databases."""


main.add_command(demo)
main.add_command(indoubt)
main.add_command(info)
main.add_command(log)
