"""What each lever of the embedded default buys, on collections it was trained on and on ones it never saw.

    python -m benchmarks.levers --run runs/default --data FOLDER [--cache FOLDER] [--only NAME,...]

Reads a run folder of `recipes/default.toml`, takes its training pairs and its frozen encoder, and trains the head again
and again: as shipped, with a lever taken away, and on fewer queries. Each head is judged three ways by average
precision minus the better of BM25 and cosine per file (from results/quality.json): on all test files, on the four that
nobody trains on, and with a collection left out of training for each of the ten (`left out`). Heads are trained for a
fixed number of steps, so their numbers differ a little from those of the bundle, which stops by validation. The last
line is JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.labelled import labels_of, read_labelled
from benchmarks.summaries import environment
from relgrade.formats import read_pairs
from relgrade.metrics import average_precision
from relgrade.records import Pair
from relgrade.student.build import load_student
from relgrade.student.evidence import DIRECTIONS, NAMES
from relgrade.student.evidence_cache import EvidenceCache
from relgrade.student.evidence_head import EvidenceHead

ROOT = Path(__file__).resolve().parent.parent
BATCH_PAIRS, LEARNING_RATE, WEIGHT_DECAY, MIN_STEPS = 256, 9e-3, 0.01, 300
FAMILIES = {"multihop_rag_top20": "multihop_rag"}  # test files that share texts with another collection
LEXICAL = ("coverage_idf", "bm25", "bm25_sum", "bigrams", "trigrams", "coverage_span", "idf_missed", "idf_matched",
           "numbers", "document_covered", "clause_coverage")  # fmt: skip
CLAUSE = ("clause_8", "clause_16", "clause_coverage", "clause_cosine", "soft_sum", "document_idf", "document_covered")
SHARES = (1 / 64, 1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0)


@dataclass(frozen=True, slots=True)
class Data:
    """Measures of pairs with what is known of them."""

    x: NDArray[np.float32]  # (n_pairs, n_measures)
    labels: NDArray[np.float64]
    sources: NDArray[Any]
    queries: NDArray[Any]
    is_random: NDArray[np.bool_]  # a negative drawn at random

    def of(self, rows: NDArray[Any]) -> "Data":
        """Some of them, by mask or number."""
        return Data(self.x[rows], self.labels[rows], self.sources[rows], self.queries[rows], self.is_random[rows])


@dataclass(frozen=True, slots=True)
class Lever:
    """One way to train the head."""

    name: str
    kind: str = "blend"
    columns: tuple[str, ...] = NAMES
    has_source_bias: bool = True
    weight_power: float = 0.0  # a pair of a source of n pairs weighs n ** -weight_power
    choose: Callable[[Data, int], Data] = lambda data, seed: data
    is_judged_left_out: bool = True
    seeds: tuple[int, ...] = (0,)


def without(*names: str) -> tuple[str, ...]:
    """The measures without some."""
    return tuple(name for name in NAMES if name not in names)


def queries_share(share: float) -> Callable[[Data, int], Data]:
    """A share of the queries of each source, with all their pairs."""

    def choose(data: Data, seed: int) -> Data:
        generator = np.random.default_rng(seed)
        kept: list[Any] = []
        for source in sorted(set(data.sources.tolist())):
            ids = sorted(set(data.queries[data.sources == source].tolist()))
            kept += generator.permutation(ids)[: max(1, round(share * len(ids)))].tolist()
        return data.of(np.isin(data.queries, kept))

    return choose


def capped(limit: int) -> Callable[[Data, int], Data]:
    """At most `limit` pairs of a source, random negatives counted."""

    def choose(data: Data, seed: int) -> Data:
        generator = np.random.default_rng(seed)
        rows = [np.flatnonzero(data.sources == source) for source in sorted(set(data.sources.tolist()))]
        return data.of(np.sort(np.concatenate([generator.permutation(each)[:limit] for each in rows])))

    return choose


LEVERS = (
    Lever("as shipped"),
    Lever("monotone head", kind="monotone"),
    Lever("free head", kind="free"),
    Lever("no bias per source", has_source_bias=False),
    Lever("no random negatives", choose=lambda data, seed: data.of(~data.is_random)),
    Lever("sources weighed by 1 / sqrt(n)", weight_power=0.5),
    Lever("sources weighed alike", weight_power=1.0),
    Lever("at most 4,000 pairs a source", choose=capped(4000)),
    Lever("no lexical measures", columns=without(*LEXICAL)),
    Lever("lexical measures alone", columns=LEXICAL),
    Lever("no clause measures", columns=without(*CLAUSE)),
    Lever("cosine, maxsim, BM25 alone", columns=("cosine_mean", "cosine_window", "maxsim_idf", "bm25_sum")),
)
CURVE = tuple(
    Lever(
        f"{share:.3g} of the queries",
        choose=queries_share(share),
        is_judged_left_out=share in (1 / 16, 1 / 4),
        seeds=(0, 1, 2),
    )
    for share in SHARES
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    train, tests = read_measures(options)
    better = _better_baselines(options.quality)
    chosen = [each for each in (*LEVERS, *CURVE) if not options.only or each.name in options.only]
    rows = []
    for lever in chosen:
        rows.append(judge(lever, train, tests, better=better, epochs=options.epochs))
        print(_line(rows[-1]), file=sys.stderr, flush=True)
    report = {
        "benchmark": "levers",
        "rows": rows,
        "n_pairs": len(train.labels),
        "n_queries": len(set(train.queries.tolist())),
        "epochs": options.epochs,
        "environment": {**environment(), "seconds": round(time.perf_counter() - start, 1)},
    }
    options.output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(_table(rows))
    print(json.dumps({"benchmark": "levers", "rows": [[row["name"], row["margin"], row["left_out"]] for row in rows]}))
    return 0


def read_measures(options: argparse.Namespace) -> tuple[Data, dict[str, Data]]:
    """Measures of the run's training pairs, and of the test pairs of each file."""
    student = load_student(options.run / "student")
    pairs = list(read_pairs(options.run / "balanced" / "pairs.jsonl"))
    collections = read_labelled(options.data).tests
    # What the run measured lies in its folder, in parts of these very pairs.
    fitted = [*pairs, *read_pairs(options.run / "splits" / "validation.jsonl")]
    cache = _measured(student, fitted, options.run / "fit" / "cache")
    of_tests = _measured(student, [pair for each in collections for pair in each.pairs], options.cache)
    tests = {
        each.name: _data(list(each.pairs), of_tests, sources=np.asarray([each.name] * len(each.pairs)))
        for each in collections
    }
    return _data(pairs, cache, sources=np.asarray([pair.source for pair in pairs])), tests


def _measured(student: Any, pairs: list[Pair], folder: Path) -> EvidenceCache:
    cache = EvidenceCache(folder, student._measure, fingerprint=student._fingerprint())
    cache.fill(pairs, lengths=student._lengths(pairs))
    return cache


def _data(pairs: list[Pair], cache: EvidenceCache, *, sources: NDArray[Any]) -> Data:
    is_random = np.asarray([str(pair.fields.get("negative", "")).startswith("random") for pair in pairs])
    queries = np.asarray([f"{source}\t{pair.query_id}" for source, pair in zip(sources, pairs, strict=True)])
    return Data(cache.rows(pairs), labels_of(pairs), sources, queries, is_random)


def judge(
    lever: Lever, train: Data, tests: dict[str, Data], *, better: dict[str, float], epochs: int
) -> dict[str, Any]:
    """Train by one lever, once a seed and once for each collection left out; margins of average precision."""
    columns = [NAMES.index(name) for name in lever.columns]
    sources = sorted(set(train.sources.tolist()))
    margins, unseen = [], []
    n_pairs = []
    for seed in lever.seeds:
        data = lever.choose(train, seed)
        n_pairs.append(len(data.labels))
        head = train_head(lever, data, columns, seed=seed, epochs=epochs)
        by_file = {name: _ap(head, test, columns) - better[name] for name, test in tests.items()}
        margins.append(float(np.mean(list(by_file.values()))))
        unseen.append(float(np.mean([by_file[name] for name in by_file if FAMILIES.get(name, name) not in sources])))
    row: dict[str, Any] = {
        "name": lever.name,
        "n_pairs": round(float(np.mean(n_pairs))),
        "margin": round(float(np.mean(margins)), 4),
        "margin_by_seed": [round(each, 4) for each in margins],
        "never_trained": round(float(np.mean(unseen)), 4),
        "left_out": None,
        "left_out_worst": None,
        "left_out_by_file": None,
    }
    if lever.is_judged_left_out:
        by_file = {}
        for source in sources:
            data = lever.choose(train.of(train.sources != source), lever.seeds[0])
            head = train_head(lever, data, columns, seed=lever.seeds[0], epochs=epochs)
            for name in (each for each in tests if FAMILIES.get(each, each) == source):
                by_file[name] = round(_ap(head, tests[name], columns) - better[name], 4)
        row |= {
            "left_out": round(float(np.mean(list(by_file.values()))), 4),
            "left_out_worst": min(by_file.values()),
            "left_out_by_file": by_file,
        }
    return row


def train_head(lever: Lever, data: Data, columns: list[int], *, seed: int, epochs: int) -> EvidenceHead:
    """A head on some measures, by the recipe's rates, for a fixed number of steps."""
    head = EvidenceHead([DIRECTIONS[i] for i in columns], 24, dropout=0.1, seed=seed, kind=lever.kind)
    x, y = torch.from_numpy(data.x[:, columns]), torch.from_numpy(data.labels).float()
    names = sorted(set(data.sources.tolist()))
    source = torch.from_numpy(np.searchsorted(names, data.sources))
    counts = np.bincount(source.numpy())[source.numpy()].astype(np.float64)
    weight = torch.from_numpy(counts**-lever.weight_power / np.mean(counts**-lever.weight_power)).float()
    head.set_scale(x)
    head.set_sources(len(names))
    n_steps = max(MIN_STEPS, epochs * (len(y) // BATCH_PAIRS))
    optimiser = torch.optim.AdamW(head.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=n_steps + 1, pct_start=0.1)
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    order = torch.empty(0, dtype=torch.long)
    head.train()
    for _ in range(n_steps):
        if len(order) < min(BATCH_PAIRS, len(y)):
            order = torch.cat([order, torch.randperm(len(y), generator=generator)])
        batch, order = order[:BATCH_PAIRS], order[BATCH_PAIRS:]
        logits = head(x[batch], source[batch] if lever.has_source_bias else None)
        loss = binary_cross_entropy_with_logits(logits, y[batch], weight=weight[batch])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return head.eval()


@torch.no_grad()
def _ap(head: EvidenceHead, data: Data, columns: list[int]) -> float:
    logits = head(torch.from_numpy(data.x[:, columns])).double().numpy()
    return average_precision(logits, data.labels)


def _better_baselines(path: Path) -> dict[str, float]:
    collections = json.loads(path.read_text(encoding="utf-8"))["collections"]
    return {
        name: max(row["average_precision"]["value"] for key, row in found.items() if key != "grader")
        for name, found in collections.items()
    }


def _line(row: dict[str, Any]) -> str:
    left_out = "" if row["left_out"] is None else f" left out {row['left_out']:+.3f} worst {row['left_out_worst']:+.3f}"
    return f"{row['name']:32s} {row['margin']:+.4f} never trained {row['never_trained']:+.4f}{left_out}"


def _table(rows: Sequence[dict[str, Any]]) -> str:
    heads = f"{'pairs':>7s} {'all files':>10s} {'(seeds)':>18s} {'never trained':>14s} {'left out':>9s} {'worst':>7s}"
    lines = ["average precision minus the better of BM25 and cosine per file", f"{'lever':32s} {heads}"]
    for row in rows:
        spread = f"({min(row['margin_by_seed']):+.3f} .. {max(row['margin_by_seed']):+.3f})"
        left_out = ["" if row[key] is None else f"{row[key]:+.3f}" for key in ("left_out", "left_out_worst")]
        numbers = f"{row['n_pairs']:7,d} {row['margin']:+10.3f} {spread:>18s} {row['never_trained']:+14.3f}"
        lines.append(f"{row['name']:32s} {numbers} {left_out[0]:>9s} {left_out[1]:>7s}")
    return "\n".join(lines)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.levers", description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("--run", type=Path, required=True, help="run folder of relgrade train --config recipes/default.toml")
    add("--data", type=Path, required=True, help="folder of NAME.jsonl.gz")
    add("--cache", type=Path, default=ROOT / "runs" / "levers-cache", help="where measures are kept")
    add("--quality", type=Path, default=ROOT / "benchmarks" / "results" / "quality.json", help="for the baselines")
    add("--only", type=lambda text: tuple(text.split(",")), default=(), help="names of levers, by comma")
    add("--epochs", type=int, default=8, help="passes over the training pairs")
    add("--threads", type=int, default=2, help="of torch")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "levers.json", help="report to write")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
