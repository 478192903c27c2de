"""From the options of `relgrade card` to the card: which lists, which grader, and a bar for each stage."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from relgrade.card import (
    CardSettings,
    Case,
    Lists,
    Scored,
    build_card,
    read_cases,
    read_lists,
    retrieve_lists,
    score_lists,
    with_lists,
)
from relgrade.card.reading import cut_lists
from relgrade.cli import outcome
from relgrade.cli.bar import StageBars
from relgrade.encoding import TokenCounter
from relgrade.errors import BundleError, InvalidInput
from relgrade.grade.grader import Grader
from relgrade.grade.tokenizer import read_tokenizer

JOURNAL = "read.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class CardOptions:
    """The options of the command, by their names."""

    folder: Path  # keeps what is read
    queries: Path
    split: str | None
    corpus: Path | None
    method: Any
    top: int
    lists: Path | None
    calibration: Path | None
    calibration_lists: Path | None
    bundle: str | None
    point: str | None
    few: int
    max_keep: int | None
    no_compress: bool
    timed: int
    threads: int | None
    draws: int
    seed: int
    no_progress: bool


def make_card(options: CardOptions) -> dict[str, Any]:
    """The card as JSON.

    Raises:
        RelgradeError: questions, lists or grader cannot be read, or contradict each other.
    """
    if options.corpus is not None and (options.lists or options.calibration_lists):
        raise click.UsageError("--corpus retrieves the lists that --lists and --calibration-lists bring; give one")
    if options.calibration_lists is not None and options.calibration is None:
        raise click.UsageError("--calibration-lists belongs to --calibration")
    settings = CardSettings(n_few=options.few, max_keep=options.max_keep, n_draws=options.draws, seed=options.seed)
    reported = _cases(options.queries, options.lists, options, split=options.split)
    others = [] if options.calibration is None else _cases(options.calibration, options.calibration_lists, options)
    _check_apart(reported, others)
    grader = Grader.load(options.bundle, operating_point=options.point, n_threads=options.threads)
    with _Progress(has_bar=not options.no_progress) as progress:
        try:
            scored = _scored([*reported, *others], grader, options, progress)
            lists, calibration = _graded(scored, len(reported), grader, options, progress)
        except KeyboardInterrupt:
            kept = f"; what was read stays in {options.folder}" if options.folder.is_dir() else ""
            raise outcome.Interrupted(f"interrupted{kept}, and the same command with --work goes on") from None
    return build_card(
        lists,
        calibration,
        default_point=grader.operating_point.name,
        settings=settings,
        about={
            "queries": options.queries.name,
            "retriever": options.method if options.corpus else None,
            "n_documents": scored.n_documents if options.corpus else None,
            "grader": grader.bundle.manifest.name,
            "bundle_hash": grader.bundle.hash,
            "created": datetime.now(UTC).date().isoformat(),
        },
    ).plain


def _cases(path: Path, lists: Path | None, options: CardOptions, *, split: str | None = None) -> list[Case]:
    cases = read_cases(path, split=split)
    if options.corpus is not None:
        return cases
    if lists is not None:
        cases = with_lists(cases, lists)
    if not any(case.documents for case in cases):
        raise InvalidInput(
            f"{path}: no question has a list in `retrieved`; bring lists with --lists, or retrieve them from a --corpus"
        )
    return cut_lists(cases, n_top=options.top)


def _check_apart(reported: Sequence[Case], others: Sequence[Case]) -> None:
    """Before anything is graded; `build_card` checks ids once more."""
    texts = {case.query.casefold(): case.query_id for case in reported}
    for case in others:
        if case.query.casefold() in texts:
            raise InvalidInput(
                f"the calibration question {case.query_id!r} is the reported question "
                f"{texts[case.query.casefold()]!r}; a limit must be chosen on other questions"
            )


def _scored(cases: Sequence[Case], grader: Grader, options: CardOptions, progress: _Progress) -> Scored:
    encoder = _encoder(grader, options.threads)
    if options.corpus is None:
        return score_lists(cases, encoder=encoder, folder=options.folder, advance=progress.advance)
    return retrieve_lists(
        cases,
        options.corpus,
        encoder=encoder,
        folder=options.folder,
        method=options.method,
        n_top=options.top,
        advance=progress.advance,
    )


def _graded(
    scored: Scored, n_reported: int, grader: Grader, options: CardOptions, progress: _Progress
) -> tuple[Lists, Lists | None]:
    """The lists of the reported questions, and of the calibration questions where there are any."""
    count_tokens = token_counter(grader)
    made = []
    for part, is_reported in ((slice(None, n_reported), True), (slice(n_reported, None), False)):
        cases = scored.cases[part]
        if not cases:
            continue
        readings = read_lists(
            cases,
            grader,
            has_compression=is_reported and not options.no_compress,
            n_timed=options.timed if is_reported else 0,
            journal=options.folder / JOURNAL,
            advance=progress.advance if is_reported else progress.advance_calibration,
        )
        made.append(
            Lists.of(
                cases,
                scored.scores[part],
                readings,
                manifest=grader.bundle.manifest,
                count_tokens=count_tokens,
            )
        )
    return made[0], made[1] if len(made) > 1 else None


def token_counter(grader: Grader) -> Callable[[Sequence[str]], list[int]]:
    """Counts model tokens of texts."""
    return TokenCounter(read_tokenizer(grader.bundle)).count


def _encoder(grader: Grader, n_threads: int | None) -> Any:
    from relgrade.grade.text_vectors import TextVectors

    try:
        return TextVectors(grader.bundle, n_threads=n_threads)
    except BundleError:  # reads query and document together: the embedded encoder stands in for the cosine baseline
        return TextVectors.load(n_threads=n_threads)


class _Progress(StageBars):
    """The bars of the reported questions, and of those that choose limits."""

    def advance_calibration(self, stage: str, n_more: int, n_total: int | None) -> None:
        """Count for the calibration questions."""
        self.advance(f"{stage} (calibration)", n_more, n_total)
