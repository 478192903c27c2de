"""How well a grader judges, beside BM25 and the cosine of an untouched encoder, on every test split of a folder.

    python -m benchmarks.quality --encoder FOLDER [--bundle FOLDER] [--files NAME,NAME] [--limit-queries N] [--paired]

Each baseline is turned into probabilities (Platt scaling, sources weighted equally) and given the threshold with the
best F1 averaged over sources, on the validation and calibration queries of the train splits; the grader keeps its own.
Macro figures weight collections equally. The last line is JSON. Scores are cached by bundle, so a rerun takes seconds.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from benchmarks.labelled import Collection, Labelled, labels_of, read_labelled, texts_of
from benchmarks.scorers import BM25Scorer, CachedScores, CosineScorer, GraderScorer, Scorer
from benchmarks.summaries import (
    GRADER,
    Draws,
    Measured,
    environment,
    macro_averages,
    paired_difference,
    summarise,
)
from benchmarks.tables import file_table, summary_table
from relgrade.calibrate import apply, fit_platt, pick_best_f1, source_weights
from relgrade.evaluate import evaluate_scores
from relgrade.records import Calibration, OperatingPoint

ROOT = Path(__file__).resolve().parent.parent
LoadGrader = Callable[[str | None], Any]


@dataclass(frozen=True, slots=True)
class Contender:
    """A scorer with what turns its scores into verdicts."""

    scorer: Scorer
    calibration: Calibration
    point: OperatingPoint


def main(arguments: Sequence[str] | None = None, *, load_grader: LoadGrader | None = None) -> int:
    """Run the benchmark. `load_grader` stands in for `Grader.load`, for tests."""
    options = _options(arguments)
    start = time.perf_counter()
    labelled = read_labelled(options.data, names=options.files, seed=options.seed, limit_queries=options.limit_queries)
    cache, draws = CachedScores(options.cache), Draws(options.draws, options.seed)
    with Progress(console=Console(stderr=True), disable=options.quiet) as progress:
        contenders = _baselines(options, labelled, cache, progress)
        if not options.baselines_only:
            grader = (load_grader or _load_grader)(options.bundle)
            shipped = Contender(GraderScorer(grader), grader.bundle.manifest.calibration, grader.operating_point)
            contenders = {GRADER: shipped, **contenders}
        results = {each.name: _measure(each, contenders, cache, progress, draws) for each in labelled.tests}
    is_whole = "cosine" in contenders and not options.files and options.limit_queries is None
    report: dict[str, Any] = {
        "summary": summarise(results, is_whole=is_whole),
        "macro": {name: asdict(each) for name, each in macro_averages(labelled.tests, results, draws).items()},
        "collections": {
            name: {contender: each.evaluation.to_json() for contender, each in measured.items()}
            for name, measured in results.items()
        },
        "paired": {
            each.name: paired_difference(each, results[each.name], draws)
            for each in labelled.tests
            if options.paired and GRADER in contenders
        },
        "contenders": {
            name: {"key": each.scorer.key, "point": asdict(each.point), "calibration": asdict(each.calibration)}
            for name, each in contenders.items()
        },
        "n_draws": options.draws,
        "limit_queries": options.limit_queries,
        "environment": {**environment(), **cache.costs(), "seconds": round(time.perf_counter() - start, 1)},
    }
    if not options.baselines_only:
        report["summary"]["bundle_hash"] = grader.bundle.hash
    for name, measured in results.items():
        evaluations = {contender: each.evaluation for contender, each in measured.items()}
        print(file_table(name, evaluations, report["paired"].get(name)))
    print(summary_table(report))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(json.dumps(report["summary"], allow_nan=False))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    data = Path(os.environ.get("RELGRADE_DATA", ROOT.parent / "shared" / "data"))
    add("--data", type=Path, default=data, help="folder of NAME.jsonl.gz (RELGRADE_DATA)")
    add("--bundle", help="grader under test; left out: the embedded default")
    add("--encoder", type=Path, help="folder of the untouched encoder; left out: no cosine baseline")
    add("--baselines-only", action="store_true", help="measure no grader")
    add("--files", type=lambda text: tuple(text.split(",")), default=(), help="collections to report on, by comma")
    add("--limit-queries", type=int, help="queries of each collection, for a quick look")
    add("--paired", action="store_true", help="interval of grader minus better baseline on each collection")
    add("--draws", type=int, default=1000, help="bootstrap draws")
    add("--seed", type=int, default=0, help="of the split of train rows, the bootstrap, and a quick look's queries")
    add("--threads", type=int, default=1, help="of the cosine baseline")
    add("--cache", type=Path, default=ROOT / "runs" / "quality", help="where scores are kept")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "quality.json", help="report to write")
    add("--quiet", action="store_true", help="no progress bar")
    return parser.parse_args(arguments)


def _load_grader(bundle: str | None) -> Any:
    from relgrade import Grader

    return Grader.load(bundle)


def _baselines(
    options: argparse.Namespace, labelled: Labelled, cache: CachedScores, progress: Progress
) -> dict[str, Contender]:
    scorers: list[Scorer] = [BM25Scorer()]
    if options.encoder is not None:
        scorers.append(CosineScorer(options.encoder, n_threads=options.threads))
    return {scorer.name: _calibrated(scorer, labelled, cache, progress) for scorer in scorers}


def _calibrated(scorer: Scorer, labelled: Labelled, cache: CachedScores, progress: Progress) -> Contender:
    """Give a baseline a probability and a threshold, on queries of the train splits."""
    task = progress.add_task(f"{scorer.name}: validation", total=sum(map(len, labelled.chosen_on.values())))
    scores = np.concatenate(
        [
            cache.get(scorer, texts_of(pairs), labelled.corpora[source], lambda n: progress.advance(task, n))
            for source, pairs in labelled.chosen_on.items()
        ]
    )
    pairs = [pair for of_source in labelled.chosen_on.values() for pair in of_source]
    labels, sources = labels_of(pairs), [str(pair.source) for pair in pairs]
    query_ids = [f"{pair.source}/{pair.query_id}" for pair in pairs]
    calibration = fit_platt(scores, labels, weights=source_weights(sources), query_ids=query_ids)
    point = pick_best_f1(apply(calibration, scores), labels, sources=sources, query_ids=query_ids)
    return Contender(scorer, calibration, point)


def _measure(
    collection: Collection, contenders: dict[str, Contender], cache: CachedScores, progress: Progress, draws: Draws
) -> dict[str, Measured]:
    task = progress.add_task(collection.name, total=len(contenders) * len(collection.pairs))
    texts, measured = texts_of(collection.pairs), {}
    for name, contender in contenders.items():
        scores = cache.get(contender.scorer, texts, collection.corpus, lambda n: progress.advance(task, n))
        evaluation = evaluate_scores(
            scores,
            collection.labels,
            collection.query_ids,
            threshold=contender.point.threshold,
            probabilities=apply(contender.calibration, scores),
            is_answerable=collection.is_answerable,
            n_draws=draws.n_draws,
            seed=draws.seed_of(collection),
        )
        measured[name] = Measured(scores, evaluation)
    return measured


if __name__ == "__main__":
    sys.exit(main())
