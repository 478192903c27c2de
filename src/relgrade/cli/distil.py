"""`relgrade distil`: a smaller encoder that reads texts as a larger one does.

It knows options and lines of text; what is done stands in `relgrade.pipeline.distilling`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from relgrade.cli import outcome
from relgrade.cli.bar import StageBars
from relgrade.settings import Recipe, read_settings

_HELP = """Make a smaller encoder that imitates the token states of a larger one.

The settings in --config name a recipe, whose documents and queries are read without their labels. Writes OUT/encoder,
the base of a faster grader:

\b
  relgrade distil --config recipes/nano-encoder.toml --output runs/nano-encoder
  relgrade train --config recipes/nano.toml --base runs/nano-encoder/encoder

OUT/journal.jsonl has a line per checkpoint with the cosine to the original on texts held out, token by token and in
the mean. The original's states are kept in OUT/states, 2 bytes a number (768 bytes a token of a 384-wide encoder), or
in --states, which several runs may share; remove them when you are done. Interrupted, the same command goes on from
the last checkpoint.

\b
Exit codes:
  0  the encoder is written
  2  bad input or usage, or training failed
"""  # \b keeps the lines of a paragraph as they are


@click.command(help=_HELP)
@click.option("--config", required=True, type=click.Path(), help="Settings of the encoder and its training, TOML.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder of the run.")
@click.option(
    "--data-folder",
    type=click.Path(),
    envvar="RELGRADE_DATA",
    show_envvar=True,
    help="Where relative paths of the sources start; default: the folder of the recipe.",
)
@click.option("--base", help="Encoder to imitate, in place of the settings' one: a folder, or a Hub id.")
@click.option("--states", type=click.Path(), help="Folder for the original's states.")
@click.option("--epochs", type=float, help="Passes over the texts.")
@click.option("--seed", type=int, help="Of new weights and batches.")
def distil(
    config: str, output: str, data_folder: str | None, base: str | None, states: str | None, **changes: Any
) -> None:
    """Run a distillation and say what it reached; `_HELP` is what the user reads."""
    from relgrade.cli.train import quiet_libraries

    quiet_libraries()
    from relgrade.pipeline.distilling import ENCODER_FOLDER, distil_texts
    from relgrade.student.distillation import Step
    from relgrade.student.distillation_settings import DistillationSettings

    settings: DistillationSettings = read_settings(DistillationSettings, config)
    recipe = Recipe.read(Path(config).parent / settings.recipe, data_folder=data_folder)
    given = {name: value for name, value in {**changes, "original": base}.items() if value is not None}
    folder = Path(output)
    with StageBars(has_bar=True) as bars:

        def advance(step: Step) -> None:
            bars.advance("distil", step.n_more, step.n_steps)

        try:
            lines = distil_texts(
                replace(settings, **given),
                recipe.sources,
                output=folder,
                states_folder=None if states is None else Path(states),
                on_step=advance,
            )
        except KeyboardInterrupt:
            raise outcome.Interrupted(f"interrupted; the same command goes on from {folder}") from None
    for line in lines:
        click.echo(outcome.one_line(line))
    click.echo(f"{outcome.one_line(str(folder / ENCODER_FOLDER))}: give it to relgrade train as --base")
