"""What the first stage of a cascade settles, and what it loses, on the test queries of each collection.

    python -m benchmarks.cascade [--data FOLDER] [--recipe FILE] [--bundle FOLDER] [--limit-queries N]

It is fitted on the validation and calibration queries of the recipe that made the bundle, which the bundle grades. On
test queries "near" are the documents of the file, which were retrieved for their query, and "random" are others of the
same file. "Lost" are settled documents among those that the full grader keeps, and among those of them that are
relevant. The last line is JSON. Test scores are cached as by `benchmarks.quality`.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.labelled import Collection, labels_of, read_labelled, texts_of
from benchmarks.scorers import CachedScores, GraderScorer
from relgrade.bundle import Bundle
from relgrade.calibrate import apply
from relgrade.cli.bar import StageBars
from relgrade.formats import read_pairs
from relgrade.grade.cascade import Cascade
from relgrade.grade.grader import Grader
from relgrade.pipeline.cascading import CascadeSettings, fit_cascade, measure_pairs
from relgrade.pipeline.sources import read_sources
from relgrade.pipeline.splits import split_pairs
from relgrade.probability import sigmoid
from relgrade.records import Pair
from relgrade.settings import Recipe

ROOT = Path(__file__).resolve().parent.parent
N_RANDOM = 6  # documents a query


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, measure and write the report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cascade")
    add = parser.add_argument
    data = Path(os.environ.get("RELGRADE_DATA", ROOT.parent / "shared" / "data"))
    add("--data", type=Path, default=data, help="folder of NAME.jsonl.gz (RELGRADE_DATA)")
    add("--recipe", type=Path, default=ROOT / "recipes" / "default.toml", help="that made the bundle")
    add("--bundle", help="left out: the embedded default")
    add("--share", type=float, default=0.98, help="of what the full grader keeps, to be passed on at least")
    add("--limit-queries", type=int, default=100, help="test queries of each collection")
    add("--cache", type=Path, default=ROOT / "runs" / "quality", help="where scores are kept")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "cascade.json")
    options = parser.parse_args(arguments)
    grader = Grader.load(options.bundle, n_threads=1)
    pairs = draw_fitting_pairs(Recipe.read(options.recipe, data_folder=options.data))
    with StageBars(has_bar=True) as progress:
        cascade = fit_cascade(
            grader.bundle,
            pairs,
            CascadeSettings(share=options.share),
            on_progress=lambda n_more: progress.advance("fitting pairs", n_more, len(pairs)),
        )
    tests = read_tests(options, grader)
    measured = measure(cascade, grader.bundle, tests)
    report = {"bundle_hash": grader.bundle.hash, "share": options.share, "measured": measured}
    print(table(options.share, measured))
    options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report))
    return 0


def draw_fitting_pairs(recipe: Recipe) -> list[Pair]:
    """Validation and calibration pairs of a recipe, which trained no weight of its bundle."""
    with tempfile.TemporaryDirectory() as folder:
        read, divided = Path(folder) / "all.jsonl", Path(folder) / "splits"
        read_sources(recipe.sources, read, seed=recipe.seed)
        split_pairs(read, divided, recipe.splits, seed=recipe.seed, random_negatives=recipe.random_negatives)
        return [pair for split in ("validation", "calibration") for pair in read_pairs(divided / f"{split}.jsonl")]


def read_tests(options: Any, grader: Grader) -> list[tuple[Collection, np.ndarray, list[Pair]]]:
    """Test pairs of each collection, the grader's logits, and random documents of the same queries."""
    labelled = read_labelled(options.data, limit_queries=options.limit_queries)
    scorer, cache = GraderScorer(grader), CachedScores(options.cache)
    tests = []
    for whole in labelled.tests:
        rng = np.random.default_rng(0)
        logits = cache.get(scorer, texts_of(whole.pairs), whole.corpus, lambda _: None)
        first = {pair.query_id: pair for pair in whole.pairs}
        drawn = [
            replace(pair, doc_id=f"random-{i}", document=whole.corpus[int(i)], label=0.0)
            for pair in first.values()
            for i in rng.integers(0, len(whole.corpus), N_RANDOM)
        ]
        tests.append((whole, logits, drawn))
    return tests


def measure(
    cascade: Cascade, bundle: Bundle, tests: Sequence[tuple[Collection, np.ndarray, list[Pair]]]
) -> dict[str, Any]:
    """By operating point and collection: shares settled and lost, and the honesty of what is settled."""
    points = {point.name: point.threshold for point in bundle.manifest.operating_points}
    report: dict[str, Any] = {}
    start = time.process_time()
    seen = [[_scores(cascade, bundle, pairs) for pairs in (test.pairs, drawn)] for test, _, drawn in tests]
    n_pairs = sum(len(near) + len(random) for near, random in seen)
    report["ms_a_pair"] = (time.process_time() - start) * 1000 / n_pairs
    for point in cascade.points:
        rows = {}
        for (test, logits, _), (near, random) in zip(tests, seen, strict=True):
            kept = apply(bundle.manifest.calibration, logits) >= points[point.name]
            relevant = labels_of(test.pairs) >= 0.5
            settled = sigmoid(near) < point.threshold
            rows[test.name] = {
                "near": float(settled.mean()),
                "random": float((sigmoid(random) < point.threshold).mean()),
                "lost": _share(settled, kept),
                "lost_relevant": _share(settled, kept & relevant),
                "n_settled": int(settled.sum()),
                "said": float(cascade.probability(near[settled]).sum()),
                "true": int(relevant[settled].sum()),
            }
        macro = {
            name: float(np.mean([row[name] for row in rows.values() if row[name] is not None]))
            for name in ("near", "random", "lost", "lost_relevant")
        }
        report[point.name] = {"evidence": dict(point.evidence), "macro": macro, "collections": rows}
    return report


def _scores(cascade: Cascade, bundle: Bundle, pairs: Sequence[Pair]) -> np.ndarray:
    measures, is_seen = measure_pairs(bundle, pairs, cascade.tables)
    scores = (measures - cascade.mean) / cascade.deviation @ cascade.weights + cascade.intercept
    return np.where(is_seen, scores, np.inf)


def _share(part: np.ndarray, whole: np.ndarray) -> float | None:
    return float(part[whole].mean()) if whole.any() else None


def table(share: float, report: dict[str, Any]) -> str:
    """Markdown, one operating point after the other."""
    lines = []
    for name, found in report.items():
        if name == "ms_a_pair":
            continue
        lines += [
            f"promise {share}, {name}: near, random, lost, lost relevant; P(relevant) of the settled said and true"
        ]
        rows = {**found["collections"], "macro": found["macro"]}
        for collection, row in rows.items():
            shares = (row[key] for key in ("near", "random", "lost", "lost_relevant"))
            cells = " | ".join("-" if value is None else f"{value:.3f}" for value in shares)
            n = max(row.get("n_settled", 0), 1)
            honest = f" | {row['said'] / n:.3f} | {row['true'] / n:.3f}" if "said" in row else " | |"
            lines.append(f"| {collection} | {cells}{honest} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
