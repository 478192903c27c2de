"""A trained row measured beside BM25, and the file in which such models stand one after another."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from relgrade.evaluate.baselines import BM25
from relgrade.evaluate.evaluation import evaluate_scores
from relgrade.paper.samples import is_relevant
from relgrade.pipeline.ledger import write_json
from relgrade.records import Pair

NAMES = ("average_precision", "auroc", "precision", "recall", "f1")


def add_model(path: Path, model: Mapping[str, Any]) -> None:
    """Put a model beside those of the file, in the place of an earlier one of its name."""
    models = json.loads(path.read_text(encoding="utf-8"))["models"] if path.is_file() else []
    name = (model["table"], model["row"])
    others = [each for each in models if (each["table"], each["row"]) != name]
    write_json(path, {"models": sorted([*others, model], key=lambda each: (each["table"], each["row"]))})


def bm25(pairs: list[Pair]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Scores of BM25 over the documents of the pairs, shape (n_pairs,)."""
    return BM25([pair.document for pair in pairs]).score([(pair.query, pair.document) for pair in pairs])


def measured(pairs: list[Pair], scored: Mapping[str, Any], draws: int) -> dict[str, Any]:
    """Measures of each scorer; the model's verdicts are the paper's argmax, BM25 has none."""
    labels, queries = is_relevant(pairs).astype(float), [pair.query_id for pair in pairs]
    found_of: dict[str, Any] = {"base_rate": round(float(labels.mean()), 4)}
    for scorer, scores in scored.items():
        threshold = 0.0 if scorer == "model" else None  # a logit
        found = evaluate_scores(scores, labels, queries, threshold=threshold, n_draws=draws, seed=0)
        found_of[scorer] = {
            name: {key: _rounded(number) for key, number in asdict(getattr(found, name)).items() if key != "reason"}
            for name in NAMES
            if getattr(found, name) is not None
        }
    return found_of


def _rounded(number: Any) -> Any:
    return round(number, 4) if isinstance(number, float) else number
