"""Step `split`: train, validation, calibration and test by query, checked for leaks, each as a file."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from relgrade.data import add_random_negatives, drop_leaks, find_leaks, split_by_query
from relgrade.errors import InvalidInput
from relgrade.formats import read_pairs, write_pairs
from relgrade.pipeline.ledger import write_json
from relgrade.records import Pair
from relgrade.settings import RandomNegativesSettings, SplitSettings

SPLITS = ("train", "validation", "calibration", "test")
LEAKS_NAME = "leaks.json"
NONE_ADDED = RandomNegativesSettings()


def split_pairs(
    pairs_path: Path,
    output: Path,
    settings: SplitSettings,
    *,
    seed: int,
    random_negatives: RandomNegativesSettings = NONE_ADDED,
) -> list[str]:
    """Divide a file of pairs, and add random negatives to each part but test.

    Args:
        pairs_path: all pairs.
        output: folder for `train.jsonl`, `validation.jsonl`, `calibration.jsonl`, `test.jsonl` and `leaks.json`.
        settings: shares, and what is done about leaks.
        seed: of the draw.
        random_negatives: how many per query.

    Returns:
        A line per split, and a warning for each finding.

    Raises:
        SplitLeak: something stands in two splits and `on_leak` is raise.
        InvalidInput: nothing is left to train or to calibrate on.
    """
    divided = split_by_query(list(read_pairs(pairs_path)), settings, seed=seed)
    report = find_leaks(divided, near_duplicate=settings.near_duplicate)
    if settings.on_leak == "raise":
        report.raise_if_found()
    kept = drop_leaks(divided, report) if settings.on_leak == "drop" else divided
    n_given = len(kept)
    kept_and_drawn = add_random_negatives(kept, random_negatives, seed=seed)
    output.mkdir(parents=True, exist_ok=True)
    lines = []
    for split in SPLITS:
        chosen = [pair for pair in kept_and_drawn if pair.split == split]
        _require_use(split, chosen)
        write_pairs(output / f"{split}.jsonl", chosen)
        lines.append(f"{split}: {describe(chosen)}")
    if len(kept_and_drawn) > n_given:
        lines.append(f"random negatives: {len(kept_and_drawn) - n_given:,} pairs added")
    leaks = [asdict(leak) for leak in report.leaks]
    write_json(output / LEAKS_NAME, {"near_duplicate": report.near_duplicate, "leaks": leaks})
    lines += [f"! {line}" for line in report.summary().splitlines() if report.leaks and not line.startswith("  ")]
    if len(kept) < len(divided):
        lines.append(f"! {len(divided) - len(kept):,} leaking training pairs dropped")
    return lines


def describe(pairs: Sequence[Pair]) -> str:
    """Queries, pairs and positives, as text."""
    n_queries = len({(pair.source, pair.query_id) for pair in pairs})
    n_positive = sum(pair.label is not None and pair.label >= 0.5 for pair in pairs)
    share = f" ({n_positive / len(pairs):.1%})" if pairs else ""
    return f"{len(pairs):,} pairs of {n_queries:,} queries, {n_positive:,} positive{share}"


def _require_use(split: str, pairs: Sequence[Pair]) -> None:
    labels = {pair.label >= 0.5 for pair in pairs if pair.label is not None}
    if split in ("train", "calibration") and labels != {True, False}:
        raise InvalidInput(
            f"split {split} has {len(pairs)} pairs, and relevant and irrelevant ones were expected; give more queries"
            + (f", or a larger splits.{split}" if split != "train" else "")
        )
