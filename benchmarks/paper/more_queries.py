"""A trained row on more test queries than its table has: the same readings, with narrower intervals.

    python -m benchmarks.paper.more_queries --data FOLDER --config FILE --row NAME --student RUN/rows/NAME-*/student

Thresholds and probabilities come from the calibration pairs of the table. With --sample-queries N two thresholds more
are chosen on N further queries of the test set, as one would choose on a labelled sample from work, and measured on the
test queries. Nothing is trained anew. Scores are kept beside the student, so that a killed run goes on. BM25 stands
beside. The last line is JSON.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress

from benchmarks.paper.beside_bm25 import add_model, bm25, measured
from benchmarks.paper.questions import ROOT
from relgrade.calibrate.threshold import pick_best_f1
from relgrade.errors import InvalidInput
from relgrade.evaluate.evaluation import evaluate_scores
from relgrade.paper.job import row_training
from relgrade.paper.readings import lowest_threshold, trained_readings
from relgrade.paper.samples import is_relevant, pair_key, read_samples
from relgrade.paper.scoring import Key, score_logits
from relgrade.paper.settings import PaperSettings
from relgrade.probability import sigmoid
from relgrade.records import Pair
from relgrade.student import load_student

TEST = "multihop_rag_top20"


def main() -> None:
    """Score calibration and test pairs, and read them as the row's table does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--student", type=Path, required=True)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--row", required=True, help="a row that trains on the pairs as they come")
    parser.add_argument("--test-queries", type=int, default=100, help="0: all")
    parser.add_argument("--sample-queries", type=int, default=0, help="of the test set, none of them tested")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "paper" / "results")
    given = parser.parse_args()

    table = PaperSettings.read(given.config, data_folder=given.data)
    row = next(each for each in table.rows if each.name == given.row)
    if row.negatives_per_positive is not None or row.loss == "class-weighted":
        parser.error(f"row {row.name} moves the prior, which is not read here")
    tests = tuple(test for test in table.tests if test.name == TEST)
    table = replace(table, tests=tests, test_queries=given.test_queries or None)
    samples, student = read_samples(table), load_student(given.student)
    sample = _further(table, samples.tests[TEST], given.sample_queries)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("score")
        logits = score_logits(
            student,
            [*samples.judged(), *sample],
            given.student.parent / "more-queries.jsonl",
            training=row_training(row, table.training),
            on_piece=lambda done, total: progress.update(task, completed=done, total=total),
        )
    test_pairs = samples.tests[TEST]
    readings = trained_readings(samples, logits, table, prior_shift=0.0)
    found: dict[str, Any] = {
        "table": table.name,
        "row": row.name,
        "test": TEST,
        "threads": torch.get_num_threads(),
        "readings": readings,
        "n_sample_pairs": len(sample),
        "chosen_on_sample": _chosen(sample, test_pairs, logits, table),
        **measured(test_pairs, {"BM25": bm25(test_pairs)}, table.n_draws),
    }
    for reading in readings:
        print(reading["rule"], {name: reading[name]["value"] for name in ("precision", "recall", "f1")})
    add_model(given.out / "questions.more_queries.json", found)
    print(json.dumps(found))


def _further(table: PaperSettings, tested: Sequence[Pair], n_queries: int) -> list[Pair]:
    """The pairs of the queries that come next in the table's draw."""
    if not n_queries:
        return []
    if table.test_queries is None:
        raise InvalidInput("all queries are tested, and none is left for a sample; give --test-queries a number")
    more = read_samples(replace(table, test_queries=table.test_queries + n_queries)).tests[TEST]
    known = {pair.query for pair in tested}
    return [pair for pair in more if pair.query not in known]


def _chosen(
    sample: Sequence[Pair], tested: Sequence[Pair], logits: Mapping[Key, float], table: PaperSettings
) -> dict[str, Any]:
    """By rule, what thresholds chosen on the sample are worth on the test queries; nothing without a sample."""
    if not sample:
        return {}
    p, tested_p = (sigmoid(np.array([logits[pair_key(pair)] for pair in pairs])) for pairs in (sample, tested))
    relevant, tested_relevant = is_relevant(sample), is_relevant(tested)
    queries, n_queries = [pair.query_id for pair in tested], len({pair.query for pair in sample})
    precision = table.min_precision
    thresholds = {
        f"precision {precision} on {n_queries} other queries": lowest_threshold(p, relevant, min_precision=precision),
        f"best F1 on {n_queries} other queries": pick_best_f1(p, relevant).threshold,
        # No result: what the curve holds, had one known the labels.
        f"precision {precision}, known afterwards": lowest_threshold(
            tested_p, tested_relevant, min_precision=precision
        ),
    }
    found: dict[str, Any] = {}
    for rule, threshold in thresholds.items():
        if threshold is not None:
            of = evaluate_scores(
                tested_p, tested_relevant.astype(float), queries, threshold=threshold, n_draws=table.n_draws
            )
            measures = {name: asdict(getattr(of, name)) for name in ("precision", "recall", "f1")}
            found[rule] = {"threshold": threshold, **measures}
    return found


if __name__ == "__main__":
    main()
