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
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress

from benchmarks.paper.questions import ROOT
from benchmarks.paper.trained_transfer import add_model, bm25, measured
from relgrade.evaluate.evaluation import evaluate_scores
from relgrade.paper.job import row_training
from relgrade.paper.readings import lowest_threshold, trained_readings
from relgrade.paper.samples import RELEVANT, is_relevant, pair_key, read_samples
from relgrade.paper.scoring import Key, score_in_pieces
from relgrade.paper.settings import PaperSettings
from relgrade.records import Pair
from relgrade.student import load_student

TEST = "multihop_rag_top20"
PIECE = 64  # pairs between two writes
KNOWN = "known afterwards"


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
    pairs = [*samples.judged(), *sample]
    lengths = student.count_tokens(pairs)
    ordered = [pairs[i] for i in sorted(range(len(pairs)), key=lambda i: -lengths[i])]
    training = row_training(row, table.training)
    batch_pairs = max(1, min(training.batch_pairs, training.batch_tokens // max(lengths)))
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("score", total=len(ordered))
        rows = score_in_pieces(
            ordered,
            given.student.parent / "more-queries.jsonl",
            lambda piece: [{"logit": logit} for logit in student.score(piece, batch_pairs=batch_pairs)],
            piece=PIECE,
            on_piece=lambda done, total: progress.update(task, completed=done),
        )
    test_pairs = samples.tests[TEST]
    logits = {key: float(each["logit"]) for key, each in rows.items()}
    readings = trained_readings(samples, logits, table, prior_shift=0.0)
    found: dict[str, Any] = {
        "table": table.name,
        "row": row.name,
        "test": TEST,
        "threads": torch.get_num_threads(),
        "readings": readings,
        "chosen_on_sample": _chosen(sample, test_pairs, logits, table),
        **measured(test_pairs, {"BM25": bm25(test_pairs)}, table.n_draws),
    }
    for reading in readings:
        print(reading["rule"], {name: reading[name]["value"] for name in ("precision", "recall", "f1")})
    add_model(given.out / "questions.more_queries.json", found)
    print(json.dumps(found))


def _further(table: PaperSettings, tested: Sequence[Pair], n_queries: int) -> list[Pair]:
    """The pairs of the queries that come next in the table's draw."""
    if not n_queries or table.test_queries is None:
        return []
    more = read_samples(replace(table, test_queries=table.test_queries + n_queries)).tests[TEST]
    known = {pair.query for pair in tested}
    return [pair for pair in more if pair.query not in known]


def _chosen(
    sample: Sequence[Pair], tested: Sequence[Pair], logits: Mapping[Key, float], table: PaperSettings
) -> dict[str, Any] | None:
    """What thresholds chosen on the sample are worth on the test queries, and what they promised."""
    if not sample:
        return None
    relevant = is_relevant(sample)
    scores, test_scores = (np.array([logits[pair_key(pair)] for pair in pairs]) for pairs in (sample, tested))
    labels, queries = is_relevant(tested).astype(float), [pair.query_id for pair in tested]
    found: dict[str, Any] = {"n_queries": len({pair.query for pair in sample}), "n_pairs": len(sample)}
    precision = table.min_precision
    thresholds = {
        f"precision {precision}": lowest_threshold(scores, relevant, min_precision=precision),
        "best F1": _best(scores, relevant),
        # No result: what the curve holds, had one known the labels.
        KNOWN: lowest_threshold(test_scores, labels >= RELEVANT, min_precision=precision),
    }
    for rule, threshold in thresholds.items():
        if threshold is not None:
            of = evaluate_scores(test_scores, labels, queries, threshold=threshold, n_draws=table.n_draws)
            found[rule] = {
                "threshold": threshold,
                **{name: asdict(getattr(of, name)) for name in ("precision", "recall", "f1")},
            }
    return found


def _best(scores: NDArray[np.float64], relevant: NDArray[np.bool_]) -> float:
    """The score at which F1 is best."""
    order = np.argsort(-scores, kind="stable")
    f1 = 2.0 * np.cumsum(relevant[order]) / (np.arange(1, scores.size + 1) + relevant.sum())
    return float(scores[order][np.argmax(f1)])


if __name__ == "__main__":
    main()
