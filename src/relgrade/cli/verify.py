"""`relgrade verify`: does a server, ours or another's, still judge as the bundle did when it was made?"""

from __future__ import annotations

import os
from typing import Any

import click

from relgrade.cli import outcome
from relgrade.cli.bundle_folder import bundle_folder

KEY_VARIABLE = "RELGRADE_API_KEY"
LOGIT_TOLERANCE, SIGMOID_TOLERANCE = 0.1, 0.02
DIALECTS = ("relgrade", "tei", "vllm", "infinity", "llama.cpp")  # as in client.verifying, which a test compares

_HELP = f"""Send the golden pairs of a bundle to a server and compare its answers with the bundle's.

Works with any server of the same model: relgrade, Text Embeddings Inference, vLLM, infinity, llama.cpp. A key is read
from {KEY_VARIABLE}.

\b
Exit codes:
  0  every verdict is the same, and no score is further off than the tolerance
  1  a verdict or a score differs
  2  the server or the bundle cannot be read
"""  # \b keeps the lines of a paragraph as they are


@click.command(help=_HELP)
@click.option("--url", required=True, help="Of the server, without a route: http://host:port.")
@click.option("--bundle", "bundle_path", type=click.Path(), help="Folder.  [default: the embedded one]")
@click.option("--dialect", type=click.Choice(DIALECTS), default="relgrade", show_default=True, help="Of the server.")
@click.option(
    "--tolerance",
    type=click.FloatRange(min=0),
    help=f"Largest difference; of logits, default {LOGIT_TOLERANCE:g}, of vLLM's scores, {SIGMOID_TOLERANCE:g}.",
)
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, help="Seconds."
)
def verify(url: str, bundle_path: str | None, dialect: Any, tolerance: float | None, timeout: float) -> None:
    """Ask, compare, print; `_HELP` is what the user reads."""
    from relgrade.bundle import load_bundle
    from relgrade.client.verifying import verify_server

    bundle = load_bundle(bundle_folder(bundle_path))
    key = os.environ.get(KEY_VARIABLE) or None
    report = verify_server(url, bundle, dialect=dialect, api_key=key, timeout_s=timeout)
    allowed = tolerance
    if allowed is None:
        allowed = LOGIT_TOLERANCE if report.scale == "logit" else SIGMOID_TOLERANCE
    n_off = sum(difference > allowed for difference in report.differences)
    click.echo(
        f"{report.n_pairs} golden pairs, largest {report.scale} difference {report.largest_difference:.2g} "
        f"(pair {report.worst}), {len(report.flips)} verdicts flipped"
    )
    for row in report.flips:
        golden = bundle.goldens[row]
        click.echo(f"  pair {row}: {outcome.one_line(golden.query)[:80]}")
    if n_off or report.flips:
        outcome.warn(f"{n_off} of {report.n_pairs} are more than {allowed:g} off; this server judges differently")
        click.get_current_context().exit(outcome.NOT_FOUND)
