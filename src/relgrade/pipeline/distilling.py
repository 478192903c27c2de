"""A recipe's texts become windows, and a smaller encoder learns to read them as the original does."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from relgrade.encoding import TextEncoder, TextTemplate, clean_text
from relgrade.errors import InvalidSettings
from relgrade.formats import read_pairs
from relgrade.settings import SourceSettings, StudentSettings
from relgrade.student.distillation import Step, distil
from relgrade.student.distillation_settings import DistillationSettings
from relgrade.student.smaller_encoder import count_parameters, save_encoder
from relgrade.student.text_backbone import TextBackbone, load_text_backbone

ENCODER_FOLDER = "encoder"


def distil_texts(
    settings: DistillationSettings,
    sources: Sequence[SourceSettings],
    *,
    output: Path,
    states_folder: Path | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> list[str]:
    """Write `output/encoder`, a folder that `relgrade train --base` takes.

    All documents and queries of the sources are read, whatever their labels and caps.

    Args:
        settings: of the encoder and its training.
        sources: of the recipe that the encoder is for.
        output: folder of this run.
        states_folder: where the original's states lie; runs with the same texts, windows and batches may share it.
        on_step: is told each step.

    Returns:
        What was found, a line each.

    Raises:
        InvalidSettings: no sources.
        InvalidInput, InvalidData, TrainingError, OutputError: as `student.distillation.distil` and `read_pairs`.
    """
    backbone = load_text_backbone(_as_student(settings))
    windows = read_windows(sources, backbone, settings)
    report = distil(
        backbone.encoder.eval(), windows, settings, output=output, states_folder=states_folder, on_step=on_step
    )
    save_encoder(report.encoder, backbone.tokenizer, output / ENCODER_FOLDER)
    cosines = [f"{before:.3f} -> {after:.3f}" for before, after in zip(report.before, report.after, strict=True)]
    return [
        f"{report.n_windows:,} windows, {report.n_tokens:,} tokens, {report.steps:,} steps",
        f"{count_parameters(report.encoder):,} parameters, the original has {count_parameters(backbone.encoder):,}",
        f"cosine to the original on windows held out: token {cosines[0]}, mean {cosines[1]}",
    ]


def read_windows(
    sources: Sequence[SourceSettings], backbone: TextBackbone, settings: DistillationSettings
) -> list[tuple[int, ...]]:
    """Token ids of the windows of every distinct document and query of the sources, documents first.

    Raises:
        InvalidSettings: no sources.
        InvalidData: a file or line is not as it should be.
    """
    if not sources:
        raise InvalidSettings("the recipe names no sources; add a [[sources]] table with name and path")
    documents: dict[str, None] = {}
    queries: dict[str, None] = {}
    for source in sources:
        for pair in read_pairs(source.path, source=source.name, split=source.split):
            documents[clean_text(pair.document)] = queries[clean_text(pair.query)] = None
    n_special = len(backbone.prefix) + len(backbone.suffix)
    template = TextTemplate(
        prefix=backbone.prefix,
        suffix=backbone.suffix,
        max_query_tokens=settings.max_query_tokens,
        window_tokens=settings.max_tokens - n_special,
        max_windows=settings.max_windows,
    )
    encoder = TextEncoder(backbone.tokenizer, template)
    windows: list[tuple[int, ...]] = []
    kinds: tuple[tuple[Literal["document", "query"], dict[str, None]], ...] = (
        ("document", documents),
        ("query", queries),
    )
    for kind, texts in kinds:
        encoded = encoder.encode([text for text in texts if text.strip()], kind=kind)
        windows += [tuple(window) for text in encoded for window in text.windows]
    return windows


def _as_student(settings: DistillationSettings) -> StudentSettings:
    return StudentSettings(
        architecture="interaction",
        base=settings.original,
        revision=settings.revision,
        max_tokens=settings.max_tokens,
        max_query_tokens=settings.max_query_tokens,
        max_windows=settings.max_windows,
    )
