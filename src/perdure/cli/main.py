"""The command line: `perdure COMMAND ...`."""

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="perdure", message="perdure %(version)s")
def main() -> None:
    """Look at and work with perdure databases."""
