"""`relgrade label`: the group whose command `run` needs no name, and what its commands share.

It knows options and lines of text; what is done stands in `relgrade.label`.
"""

from __future__ import annotations

from collections.abc import Iterable

import click

from relgrade.cli.label_batch import export_batch, import_batch
from relgrade.cli.label_import import import_labels
from relgrade.cli.label_run import run


class DefaultRun(click.Group):
    """A group that takes `label PAIRS ...` for `label run PAIRS ...`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put `run` before arguments that do not begin with a command or ask for help."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Two lines: the short form, and that of the commands."""
        formatter.write_usage(ctx.command_path, "PAIRS -o LABELS --teacher URL --model NAME [OPTIONS]")
        formatter.write_usage(ctx.command_path, "COMMAND [ARGS]...")


@click.group(cls=DefaultRun)
def label() -> None:
    """Label pairs by a teacher LLM, or take labels that people already have.

    `relgrade label PAIRS ...` is short for `relgrade label run PAIRS ...`.
    """


_COMMANDS: Iterable[click.Command] = (run, export_batch, import_batch, import_labels)
for _command in _COMMANDS:
    label.add_command(_command)
