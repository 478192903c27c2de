"""`relgrade bundle`: look into a bundle, check that it is whole and still grades as it did, make one of its parts.

It shows whatever the manifest holds, and knows none of its fields.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import click

from relgrade.cli import outcome
from relgrade.cli.bundle_folder import bundle_folder
from relgrade.cli.grading import load_grader
from relgrade.errors import BundleCorrupt, BundleIncomplete, GradingError, ParityError, UnsafeBundle
from relgrade.settings import BundleSettings

MAX_SHOWN = 8  # values of a list; templates are long lists of token ids

_VERIFY_HELP = """Check the hash of every file, then score the golden pairs again.

\b
Exit codes:
  0  every file is the one that was hashed, and every golden pair has its logit
  1  a file or a logit differs, or a file is missing
  2  there is no bundle there, or this relgrade is too old to read it
"""  # \b keeps the lines of a paragraph as they are

_MAKE_HELP = """Write a bundle of exported graphs, a calibration and golden pairs.

GRAPHS is the folder that `relgrade export` wrote. The bundle names no training data, since nothing here knows it;
`relgrade train` writes bundles that do.

\b
Exit codes:
  0  the bundle is written
  2  bad input or usage
"""

_MISMATCHES = (BundleCorrupt, BundleIncomplete, UnsafeBundle, GradingError, ParityError)
_FOLDER = click.argument("path", required=False, metavar="[PATH]")


@click.group()
def bundle() -> None:
    """Look into a bundle, check that it grades as it should, or make one.

    PATH is the folder of a bundle, or `nano` for the smaller embedded one; without it, the embedded default is meant.
    """


@bundle.command()
@_FOLDER
def show(path: str | None) -> None:
    """Print the manifest: what the bundle is, at which thresholds it judges, and the evidence for them."""
    bundle_folder(path)  # refuses what is none
    loaded = load_grader(path, operating_point=None, revision=None, threads=1).bundle
    click.echo(f"hash: {loaded.hash}")
    for line in describe(loaded.manifest):
        click.echo(line)


@bundle.command(help=_VERIFY_HELP)
@_FOLDER
def verify(path: str | None) -> None:
    """Load, which checks the hashes, and grade the golden pairs; `_VERIFY_HELP` is what the user reads."""
    bundle_folder(path)  # refuses what is none
    try:
        report = load_grader(path, operating_point=None, revision=None, threads=1).verify_goldens()
    except _MISMATCHES as error:
        outcome.warn(str(error))
        click.get_current_context().exit(outcome.NOT_FOUND)
    where = outcome.one_line(path or "embedded bundle")
    click.echo(
        f"{where}: files and {report.n_pairs} golden pairs are as they were made, "
        f"largest logit difference {report.largest_difference:.2g}"
    )


@bundle.command(help=_MAKE_HELP)
@click.argument("graphs_folder", metavar="GRAPHS", type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder; a bundle there is replaced.")
@click.option("--calibration", "calibration_path", required=True, type=click.Path(), help="Of `relgrade calibrate`.")
@click.option("--goldens", "goldens_path", required=True, type=click.Path(), help="Pairs whose logits travel along.")
@click.option("--name", required=True, help="Of the grader.")
@click.option("--description", default="", help="One line for the card.")
@click.option("--rubric", default=BundleSettings().rubric, show_default=True, help="What relevant means here.")
@click.option("--licence", default="unknown", show_default=True, help="SPDX identifier.")
@click.option("--base-licence", default="unknown", show_default=True, help="Of the pretrained model.")
def make(graphs_folder: str, output: str, calibration_path: str, goldens_path: str, **named: Any) -> None:
    """Write a bundle of parts; `_MAKE_HELP` is what the user reads."""
    from relgrade.formats import read_pairs
    from relgrade.pipeline.bundling import make_bundle
    from relgrade.pipeline.calibrating import read_decision

    made = make_bundle(
        Path(graphs_folder),
        Path(output),
        settings=BundleSettings(**named),
        decision=read_decision(Path(calibration_path)),
        goldens=list(read_pairs(goldens_path)),
        provenance={},
    )
    click.echo(f"{outcome.one_line(output)}: hash {made.hash}")


def describe(value: Any, *, indent: int = 0) -> Iterator[str]:
    """Lines of `name: value`, one level deeper for what is nested.

    Args:
        value: a dataclass or mapping.
        indent: levels, two spaces each.
    """
    for name, item in _items(value):
        label = "  " * indent + outcome.one_line(str(name)) + ":"
        if is_dataclass(item) or isinstance(item, Mapping):
            yield label
            yield from describe(item, indent=indent + 1)
        elif isinstance(item, Sequence) and not isinstance(item, str | bytes):
            if any(is_dataclass(entry) or isinstance(entry, Mapping) for entry in item):
                yield label
                for entry in item:
                    lines = list(describe(entry, indent=indent + 2))
                    if lines:
                        yield "  " * (indent + 1) + "- " + lines[0].lstrip()
                        yield from lines[1:]
            else:
                more = f" ... ({len(item)} in all)" if len(item) > MAX_SHOWN else ""
                yield f"{label} {', '.join(outcome.one_line(str(entry)) for entry in item[:MAX_SHOWN])}{more}".rstrip()
        else:
            yield f"{label} {'-' if item is None else outcome.one_line(str(item))}"


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return list(value.items())
    if is_dataclass(value):
        return [(item.name, getattr(value, item.name)) for item in fields(value)]
    return [("", value)]
