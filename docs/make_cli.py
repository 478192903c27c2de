"""Writes docs/cli.md from the `--help` of every command; tests/test_cli_docs.py fails while the page is out of date.

Run it with `python docs/make_cli.py`.
"""

from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from relgrade.cli import main

PAGE = Path(__file__).with_name("cli.md")
HEAD = """# Command line

Written by `docs/make_cli.py` from the commands themselves; do not edit.
"""


def commands(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The path of a command and of everything below it, in alphabetical order."""
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            if below is not None and not below.hidden:
                yield from commands(below, (*path, name))


def page() -> str:
    """The whole page."""
    parts = [HEAD]
    for path in commands(main, ("relgrade",)):
        result = CliRunner(env={"COLUMNS": None}).invoke(
            main, [*path[1:], "--help"], prog_name="relgrade", terminal_width=100, catch_exceptions=False
        )
        if result.exit_code != 0:
            raise click.ClickException(f"{' '.join(path)} --help failed: {result.output}")
        parts.append(f"\n## {' '.join(path)}\n\n```text\n{result.output.rstrip()}\n```\n")
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
