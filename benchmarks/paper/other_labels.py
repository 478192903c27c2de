"""Other labels for the training pairs of the table: a teacher's probabilities, and labels of which some are wrong.

    python -m benchmarks.paper.other_labels --data FOLDER --out FOLDER

Writes `multihop_rag.soft.jsonl.gz` and `multihop_rag.flipped-SHARE.jsonl.gz`, which rows of recipes/minilm-paper.toml
name as `labels`; put them where the data lies. The teacher is the grader that ships, which has seen some of these pairs
in its own training: it stands for a good teacher, not for one that never saw the collection. Last line: JSON.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.paper.questions import ROOT
from relgrade import Grader
from relgrade.formats.read import read_pairs
from relgrade.formats.write import write_pairs
from relgrade.metrics import average_precision
from relgrade.paper.samples import is_relevant
from relgrade.paper.settings import PaperSettings
from relgrade.records import Pair

SHARES = (0.1, 0.3)  # of the labels of the training pairs that are flipped, drawn at random


def main() -> None:
    """Write one file a kind of label, and print how far each is from the labels there are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=ROOT / "recipes" / "minilm-paper.toml")
    given = parser.parse_args()

    settings = PaperSettings.read(given.config, data_folder=given.data)
    pairs = [pair for pair in read_pairs(settings.train, split=settings.train_split) if pair.label is not None]
    given.out.mkdir(parents=True, exist_ok=True)
    stem = Path(settings.train).name.partition(".")[0]
    kinds = {"soft": _graded(pairs)}
    for share in SHARES:
        kinds[f"flipped-{round(100 * share)}"] = _flipped(pairs, share, seed=settings.seed)
    rows = []
    for kind, labelled in kinds.items():
        write_pairs(given.out / f"{stem}.{kind}.jsonl.gz", labelled)
        rows.append({"labels": kind, **_compared(pairs, labelled)})
        print(rows[-1])
    print(json.dumps({"n_pairs": len(pairs), "seed": settings.seed, "rows": rows}))


def _graded(pairs: Sequence[Pair]) -> list[Pair]:
    found: list[Pair] = []
    with Progress(console=Console(stderr=True)) as progress:
        graded = progress.track(Grader.load().grade_pairs(pairs), total=len(pairs), description="grade")
        for pair, grade in zip(pairs, graded, strict=True):
            found.append(replace(pair, label=grade.probability))
    return found


def _flipped(pairs: Sequence[Pair], share: float, *, seed: int) -> list[Pair]:
    """Exactly that share of the labels, the same pairs for the same seed."""
    order = np.random.default_rng(seed).permutation(len(pairs))
    wrong = set(order[: round(share * len(pairs))].tolist())
    return [replace(pair, label=1.0 - (pair.label or 0.0)) if i in wrong else pair for i, pair in enumerate(pairs)]


def _compared(pairs: Sequence[Pair], others: Sequence[Pair]) -> dict[str, Any]:
    labels = is_relevant(pairs).astype(float)
    values = np.array([pair.label for pair in others], dtype=float)
    return {
        "mean": round(float(values.mean()), 4),
        "agree": round(float(np.mean((values >= 0.5) == (labels >= 0.5))), 4),
        "average_precision": round(float(average_precision(values, labels >= 0.5)), 4),
    }


if __name__ == "__main__":
    main()
