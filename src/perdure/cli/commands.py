"""The command line: `perdure COMMAND ...`."""

from typing import Any

import click

from perdure._ending import INTERRUPTED, ending_quietly
from perdure.cli.analyzing import analyze, diff
from perdure.cli.backing import backup, restore
from perdure.cli.changing import pack, undo
from perdure.cli.checking import check, copy, recover, referrers
from perdure.cli.demo import demo
from perdure.cli.exporting import export, import_
from perdure.cli.indoubt import indoubt
from perdure.cli.info import info, log
from perdure.cli.repairing import repair
from perdure.cli.shell import shell
from perdure.cli.walking import ls, show


class _Commands(click.Group):
    """The commands; one that is interrupted says so."""

    def make_context(self, info_name: str | None, *arguments: Any, **options: Any) -> click.Context:
        """Look at the arguments, as click does, but for what ends that.

        Click would end with 1 where it is interrupted, or nobody reads the help of all commands.
        """
        with ending_quietly(info_name or "perdure"):
            return super().make_context(info_name, *arguments, **options)

    def invoke(self, ctx: click.Context) -> Any:
        # Here, too: click would end with codes of its own.
        with ending_quietly(ctx.info_name or "perdure"):
            try:
                return super().invoke(ctx)
            except KeyboardInterrupt:
                click.echo(f"{ctx.info_name} {ctx.invoked_subcommand}: interrupted", err=True)
                ctx.exit(INTERRUPTED)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="perdure", message="perdure %(version)s")
def main() -> None:
    """Look at and work with perdure databases."""


for command in (
    analyze,
    backup,
    check,
    copy,
    demo,
    diff,
    export,
    import_,
    indoubt,
    info,
    log,
    ls,
    pack,
    recover,
    referrers,
    repair,
    restore,
    shell,
    show,
    undo,
):
    main.add_command(command)
