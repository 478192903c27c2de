"""Questions that the paper left open, for a head on a frozen encoder (configuration B): transfer, label noise, size.

    python -m benchmarks.paper.questions --data FOLDER --base FOLDER --cache FOLDER [--out benchmarks/paper/results]

A frozen encoder reads every pair once, and heads are fitted in a second: what is found holds for B, and for models
that are trained whole only as a hint. Prints tables; the last line is JSON.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.paper.frozen_data import Backbone, Frozen, Threshold, head_of, joined, judge, measures
from relgrade.audit.suspects import suspect_labels
from relgrade.metrics import average_precision
from relgrade.paper.settings import PaperSettings
from relgrade.pipeline.ledger import write_json
from relgrade.probability import sigmoid

ROOT = Path(__file__).resolve().parents[2]
TRAIN = {
    "news": "multihop_rag",
    "Wikipedia": "squad2_dev",
    "biomedical": "scifact",
    "biomedical titles": "pubmedqa",
}  # by domain
TEST = {**TRAIN, "software docs": "anthropic_docs", "web": "trec_dl21", "news top 20": "multihop_rag_top20"}
SIZES = (125, 250, 500, 1000, 2000)
SHARES = (0.0, 0.05, 0.1, 0.2, 0.3)  # of training labels that are flipped
N_WEAK = 100  # pairs that the weak grader saw
NAMES = ("average_precision", "precision", "recall", "f1")


def main() -> None:
    """Read features, ask the questions, write the answers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "paper" / "results")
    parser.add_argument("--config", type=Path, default=ROOT / "recipes" / "minilm-paper.toml")
    parser.add_argument("--pairs", type=int, default=700, help="of each domain's training part")
    parser.add_argument("--test-pairs", type=int, default=300, help="of each domain's test part")
    parser.add_argument("--news-pairs", type=int, default=2300, help="of the news, 300 of them for calibration")
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=5)
    given = parser.parse_args()

    settings = PaperSettings.read(given.config)
    student = replace(settings.student, base=str(given.base), train_encoder=False)
    settings = replace(settings, student=student, reads_in_bf16=True)
    backbone = Backbone(settings, given.cache, seed=settings.seed)

    def read(name: str, split: str, n_pairs: int) -> Frozen:
        return backbone.read(given.data / f"{name}.jsonl.gz", split=split, n_pairs=n_pairs)

    news = read("multihop_rag", "train", given.news_pairs)
    tests = {domain: read(name, "test", given.test_pairs) for domain, name in TEST.items()}
    others = {domain: read(name, "train", given.pairs) for domain, name in TRAIN.items() if domain != "news"}
    calibration, pool = _parted(news, n_calibration=300)
    about = {"base": "sentence-transformers/all-MiniLM-L6-v2", "what": "a head on the frozen encoder", "seed": 0}
    top20 = tests["news top 20"]
    questions: dict[str, Callable[[], dict[str, Any]]] = {
        "transfer": lambda: transfer(pool, others, tests, n_pairs=given.pairs, draws=given.draws),
        "size": lambda: size(pool, calibration, top20, seeds=given.seeds),
        "noise": lambda: noise(pool, calibration, top20, seeds=given.seeds, draws=given.draws),
    }
    counts = {}
    for name, ask in questions.items():
        answer = ask()
        write_json(given.out / f"questions.{name}.json", {**about, **answer})  # at once: the next may take long
        counts[name] = answer["summary"]
    print(json.dumps(counts))


def transfer(
    news: Frozen, others: Mapping[str, Frozen], tests: Mapping[str, Frozen], *, n_pairs: int, draws: int
) -> dict[str, Any]:
    """A head of each domain on the test pairs of every domain, and one of all domains but one on that one."""
    train = {"news": news.part(np.arange(min(n_pairs, len(news.pairs)))), **others}
    rows = []
    for name, part in train.items():
        rows += _on_all(f"trained on {name}", part, tests, draws)
    for name in train:
        left = joined([part for other, part in train.items() if other != name])
        rows += _on_all(f"all but {name}", left, {name: tests[name]}, draws)
    for row in rows:
        print(
            f"{row['trained']:30} {row['test']:18} AP {row['average_precision']['value']:.3f}  {row['base_rate']:.3f}"
        )
    return {"rows": rows, "summary": len(rows)}


def _on_all(trained: str, part: Frozen, tests: Mapping[str, Frozen], draws: int) -> list[dict[str, Any]]:
    calibration, pool = _parted(part, n_calibration=len(part.pairs) // 5)
    head = head_of(pool)
    threshold = Threshold.choose(head, calibration)
    return [
        {
            "trained": trained,
            "test": name,
            "n_train": len(pool.pairs),
            "n_test": len(test.pairs),
            "base_rate": round(float(test.labels.mean()), 4),
            **measures(judge(head, test, threshold, n_draws=draws, seed=0), NAMES),
        }
        for name, test in tests.items()
    ]


def noise(pool: Frozen, calibration: Frozen, test: Frozen, *, seeds: int, draws: int) -> dict[str, Any]:
    """What flipped training labels cost, and what the search for suspect labels would have found of them."""
    weak = head_of(pool.part(np.random.default_rng(99).permutation(len(pool.pairs))[:N_WEAK]))
    wrongness = np.abs(sigmoid(weak.logits(pool.features)) - pool.labels)  # (n_pairs,) of the weak grader
    rows: list[dict[str, Any]] = []
    for kind in ("random", "teacher-like"):
        for share in SHARES:
            found = [
                _with_flips(pool, calibration, test, _flips(kind, share, wrongness, seed), draws, seed)
                for seed in range(seeds)
            ]
            row = {"kind": kind, "share": share, **_means(found)}
            rows.append(row)
            print(" ".join(f"{key} {value}" for key, value in row.items()))
    return {"rows": rows, "n_train": len(pool.pairs), "n_test": len(test.pairs), "seeds": seeds, "summary": len(rows)}


def _flips(kind: str, share: float, wrongness: NDArray[np.float64], seed: int) -> NDArray[np.bool_]:
    """Which labels are flipped: any, or with a chance that rises with how wrong the weak grader is."""
    n = round(share * wrongness.size)
    generator = np.random.default_rng(seed)
    flipped = np.zeros(wrongness.size, dtype=bool)
    # Gumbel keys draw without replacement with chances in proportion to the weight.
    weight = np.ones(wrongness.size) if kind == "random" else wrongness**4
    flipped[np.argsort(-(np.log(weight + 1e-12) + generator.gumbel(size=wrongness.size)))[:n]] = True
    return flipped


def _with_flips(
    pool: Frozen, calibration: Frozen, test: Frozen, flipped: NDArray[np.bool_], draws: int, seed: int
) -> dict[str, float]:
    labels = np.where(flipped, 1.0 - pool.labels, pool.labels)
    noisy = pool.part(np.arange(len(pool.pairs)), labels=labels)
    head = head_of(noisy)
    judged = judge(head, test, Threshold.choose(head, calibration), n_draws=min(draws, 20), seed=seed)
    found = {name: getattr(judged, name).value or 0.0 for name in NAMES}
    n = int(flipped.sum())
    if n:
        pairs = [replace(pair, label=float(label)) for pair, label in zip(noisy.pairs, labels, strict=True)]
        first = suspect_labels(pairs, seed=seed).order[:n]
        found["found_by_audit"] = float(flipped[first].mean())  # of the n most suspicious, the share flipped
    return found


def size(pool: Frozen, calibration: Frozen, test: Frozen, *, seeds: int) -> dict[str, Any]:
    """The learning curve, over draws of the training pairs."""
    rows = []
    for n in (each for each in SIZES if each <= len(pool.pairs)):
        found = []
        for seed in range(seeds):
            head = head_of(pool.part(np.random.default_rng(seed).permutation(len(pool.pairs))[:n]))
            judged = judge(head, test, Threshold.choose(head, calibration), n_draws=20, seed=seed)
            found.append({name: getattr(judged, name).value or 0.0 for name in NAMES})
        row = {"n_train": n, **_means(found)}
        rows.append(row)
        print(" ".join(f"{key} {value}" for key, value in row.items()))
    base = average_precision(np.zeros(len(test.pairs)), test.labels)
    return {"rows": rows, "n_test": len(test.pairs), "seeds": seeds, "chance": round(base, 4), "summary": len(rows)}


def _means(found: list[dict[str, float]]) -> dict[str, Any]:
    """Mean over the draws, and the lowest and highest of them."""
    return {
        name: {
            "mean": round(float(np.mean([each[name] for each in found])), 4),
            "low": round(min(each[name] for each in found), 4),
            "high": round(max(each[name] for each in found), 4),
        }
        for name in found[0]
    }


def _parted(data: Frozen, *, n_calibration: int) -> tuple[Frozen, Frozen]:
    """Calibration pairs of whole queries, and the rest."""
    queries = list(dict.fromkeys(pair.query_id for pair in data.pairs))
    order = np.random.default_rng(0).permutation(len(queries))
    held, n = set(), 0
    sizes: dict[str, int] = {}
    for pair in data.pairs:
        sizes[pair.query_id] = sizes.get(pair.query_id, 0) + 1
    for i in order:
        if n >= n_calibration:
            break
        held.add(queries[int(i)])
        n += sizes[queries[int(i)]]
    is_held = np.array([pair.query_id in held for pair in data.pairs])
    return data.part(np.flatnonzero(is_held)), data.part(np.flatnonzero(~is_held))


if __name__ == "__main__":
    main()
