"""Transfer of a model that was trained whole (configuration C): what it is worth on domains it never saw.

    python -m benchmarks.paper.trained_transfer --data FOLDER --student RUN/rows/c-all-*/student [--out FOLDER]

News is tested on the very pairs of the table; BM25, which nobody trained, stands beside the model everywhere.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.paper.questions import ROOT, TEST
from relgrade.data import cap_by_query
from relgrade.evaluate.baselines import BM25
from relgrade.evaluate.evaluation import evaluate_scores
from relgrade.formats.read import read_pairs
from relgrade.paper.samples import is_relevant, read_samples
from relgrade.paper.settings import PaperSettings
from relgrade.pipeline.ledger import write_json
from relgrade.records import Pair
from relgrade.student import load_student

NAMES = ("average_precision", "auroc", "precision", "recall", "f1")


def main() -> None:
    """Score the test pairs of every domain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--row", default="c-all", help="name of the row that trained it")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "paper" / "results")
    parser.add_argument("--config", type=Path, default=ROOT / "recipes" / "minilm-paper.toml")
    parser.add_argument("--test-pairs", type=int, default=300, help="of each domain but news")
    parser.add_argument("--draws", type=int, default=1000)
    given = parser.parse_args()

    settings = PaperSettings.read(given.config, data_folder=given.data)
    news = read_samples(settings).tests
    student = load_student(given.student)
    rows = []
    for domain, name in TEST.items():
        pairs = news.get(name) or _labelled(given.data / f"{name}.jsonl.gz", given.test_pairs, seed=settings.seed)
        lengths = student.count_tokens(pairs)
        ordered = [pairs[i] for i in sorted(range(len(pairs)), key=lambda i: -lengths[i])]
        scored = {"model": np.asarray(student.score(ordered, batch_pairs=16)), "BM25": bm25(ordered)}
        row = {"test": domain, "file": name, "n_test": len(ordered), **measured(ordered, scored, given.draws)}
        rows.append(row)
        print(domain, {scorer: row[scorer]["average_precision"]["value"] for scorer in scored}, row["base_rate"])
    about = {"table": settings.name, "base": settings.student.base, "row": given.row, "seed": settings.seed}
    add_model(given.out / "questions.trained_transfer.json", {**about, "rows": rows})


def add_model(path: Path, model: Mapping[str, Any]) -> None:
    """Put a model beside those of the file, in the place of an earlier one of its name."""
    models = json.loads(path.read_text(encoding="utf-8"))["models"] if path.is_file() else []
    name = (model["table"], model["row"])
    others = [each for each in models if (each["table"], each["row"]) != name]
    write_json(path, {"models": sorted([*others, model], key=lambda each: (each["table"], each["row"]))})


def _labelled(path: Path, n_pairs: int, *, seed: int) -> list[Pair]:
    return cap_by_query([p for p in read_pairs(path, split="test") if p.label is not None], n_pairs, seed=seed)


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


if __name__ == "__main__":
    main()
