"""The group `relgrade`: finds commands by name without importing them, and turns every error into one line.

It knows what commands are called and where they live, and nothing of what they do.
"""

import importlib
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import click

from relgrade.cli import outcome
from relgrade.errors import MissingExtra, RelgradeError


@dataclass(frozen=True, slots=True)
class LazyCommand:
    """Where a command lives and what the list of commands says about it."""

    target: str  # "module:attribute"
    help: str  # one line
    extra: str | None = None  # the extra that brings what its module imports


COMMANDS: dict[str, LazyCommand] = {
    "audit": LazyCommand("relgrade.cli.audit:audit", "Hold a teacher's labels against people."),
    "bundle": LazyCommand("relgrade.cli.bundle:bundle", "Look into a bundle and check that it grades as it should."),
    "cache": LazyCommand("relgrade.cli.cache:cache", "Keep what the model read of documents, for other queries."),
    "calibrate": LazyCommand("relgrade.cli.calibrate:calibrate", "Fit the probability and find thresholds that hold."),
    "candidates": LazyCommand(
        "relgrade.cli.candidates:candidates", "Find documents for queries, as pairs to label.", extra="candidates"
    ),
    "card": LazyCommand("relgrade.cli.card:card", "Measure what grading is worth to a RAG system.", extra="candidates"),
    "cascade": LazyCommand("relgrade.cli.cascade:cascade", "Fit a first stage that settles what is hardly kept."),
    "distil": LazyCommand(
        "relgrade.cli.distil:distil", "Make a smaller encoder that imitates a larger one.", extra="train"
    ),
    "evaluate": LazyCommand("relgrade.cli.evaluate:evaluate", "Measure a grader on labelled pairs, with intervals."),
    "export": LazyCommand("relgrade.cli.export:export", "Write the ONNX graphs of a trained student.", extra="train"),
    "fit": LazyCommand("relgrade.cli.steps:fit", "Train a student on pairs.", extra="train"),
    "grade": LazyCommand("relgrade.cli.grade:grade", "Grade documents against a query, or a file of pairs."),
    "label": LazyCommand("relgrade.cli.label:label", "Label pairs by a teacher LLM, or import labels."),
    "mcp": LazyCommand("relgrade.cli.mcp:mcp", "Serve the grader as a tool for agents.", extra="mcp"),
    "pairs": LazyCommand("relgrade.cli.pairs:pairs", "Convert, divide, check, balance and count labelled pairs."),
    "paper": LazyCommand(
        "relgrade.cli.paper:paper", "Run the configurations of the paper as one table.", extra="train"
    ),
    "parity": LazyCommand("relgrade.cli.export:parity", "Hold graphs against their student.", extra="train"),
    "score": LazyCommand("relgrade.cli.steps:score", "Write the logit of each pair."),
    "serve": LazyCommand("relgrade.cli.serve:serve", "Serve graders over HTTP.", extra="serve"),
    "shadow": LazyCommand("relgrade.cli.shadow:shadow", "Hold an LLM grader's logged verdicts beside ours."),
    "train": LazyCommand("relgrade.cli.train:train", "Make a grader from labelled pairs.", extra="train"),
    "verify": LazyCommand("relgrade.cli.verify:verify", "Hold a server against a bundle.", extra="client"),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called, so that `--help` stays quick.

    Args:
        name: name of the group.
        lazy: name -> where it lives.
    """

    def __init__(
        self, name: str | None = None, lazy: Mapping[str, LazyCommand] | None = None, **attributes: Any
    ) -> None:
        super().__init__(name, **attributes)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in alphabetical order."""
        return sorted({*self._lazy, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, None when there is none of that name.

        Raises:
            MissingExtra: a package that its module imports is not installed.
        """
        lazy = self._lazy.get(cmd_name)
        if lazy is None:
            return super().get_command(ctx, cmd_name)
        module, attribute = lazy.target.split(":")
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if lazy.extra is None or error.name is None or error.name.startswith("relgrade"):
                raise
            raise MissingExtra(error.name, extra=lazy.extra, purpose=f"run relgrade {cmd_name}") from error
        assert isinstance(command, click.Command), f"{lazy.target} is not a command"
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands from the table, importing none of them."""
        rows = []
        for name in self.list_commands(ctx):
            lazy = self._lazy.get(name)
            command = None if lazy else super().get_command(ctx, name)
            rows.append((name, lazy.help if lazy else command.get_short_help_str() if command else ""))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever it raises leaves as one line and an exit code."""
        with one_line_errors(ctx, is_debug=bool(ctx.params.get("debug"))):
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a full disk or a closed pipe can still be told
            return result


@contextmanager
def one_line_errors(ctx: click.Context, *, is_debug: bool) -> Iterator[None]:
    """Turn exceptions into `Stop`, or a quiet exit; click's own pass through."""
    try:
        yield
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except BrokenPipeError:  # the reader has seen enough: `relgrade grade ... | head`
        outcome.silence_stdout()
        ctx.exit(outcome.BROKEN_PIPE)
    except KeyboardInterrupt:
        raise outcome.Interrupted("interrupted") from None
    except (Exception, RecursionError) as error:
        if is_debug:
            click.echo("".join(traceback.format_exception(error)), err=True)
        raise _explain(error) from error


def _explain(error: Exception) -> outcome.Stop:
    if isinstance(error, RelgradeError):
        return outcome.Stop(str(error))
    if isinstance(error, OSError):
        if outcome.is_full_disk(error):
            outcome.silence_stdout()
        return outcome.Stop(outcome.describe_os_error(error))
    if isinstance(error, MemoryError):
        return outcome.Fault("out of memory")
    return outcome.Fault(
        f"unexpected {type(error).__name__}: {error} (this is a fault of relgrade; "
        "`relgrade --debug ...` shows where it happened)"
    )


def _print_version(ctx: click.Context, _parameter: click.Parameter, is_wanted: bool) -> None:
    if not is_wanted:
        return
    from importlib.metadata import PackageNotFoundError, version  # slow to import, and needed here alone

    try:
        number = version("relgrade")
    except PackageNotFoundError:  # a source tree that was never installed
        number = "unknown"
    click.echo(f"relgrade {number}")
    ctx.exit()


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show where an error happened.")
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version, help="Show version."
)
def main(debug: bool) -> None:
    """Decide which retrieved documents are relevant to a query.

    Exit codes of every command: 0 done, 2 bad input or usage, 3 a fault of relgrade, 130 interrupted; what 1 means
    stands in the command's own help.
    """
