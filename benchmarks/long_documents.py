"""How a probability drifts when its passage stands among others: does the best of many windows inflate it?

    python -m benchmarks.long_documents --data FOLDER [--pairs N]

Test passages of nq_oracle and squad2_dev, relevant ones and near misses, each put at a random place among 0 to 16
paragraphs of other articles, under its own title. The correction is an intercept for each number of windows, fitted on
one half of the passages and measured on the other, both ways. The last line is JSON.
"""

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import SUFFIX
from benchmarks.rag_corpora import read_rows
from benchmarks.rag_measures import ratio
from relgrade.probability import log_odds, sigmoid

ROOT = Path(__file__).resolve().parent.parent
FILES = ("nq_oracle", "squad2_dev")
FILLERS = (0, 1, 2, 4, 8, 16)
WINDOWS = ((1, 1), (2, 2), (3, 4), (5, 99))  # groups that share an intercept
N_STEPS = 50


def main(arguments: Sequence[str] | None = None, *, grader: Any = None) -> int:
    """Run the experiment. `grader` stands in for the embedded one, for tests."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.long_documents")
    data = Path(os.environ.get("RELGRADE_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=data, help="folder of NAME.jsonl.gz (RELGRADE_DATA)")
    parser.add_argument("--pairs", type=int, default=30, help="passages of each label and file")
    parser.add_argument("--seed", type=int, default=0)
    output = ROOT / "benchmarks" / "results" / "long_documents.json"
    parser.add_argument("--output", type=Path, default=output, help="report to write")
    options = parser.parse_args(arguments)
    if grader is None:
        from relgrade import Grader

        grader = Grader.load(n_threads=1)
    rng = np.random.default_rng(options.seed)
    texts, labels = [], []
    for file in FILES:
        of_file, of_label = _documents(read_rows(options.data / f"{file}{SUFFIX}"), options.pairs, rng)
        texts += of_file
        labels += of_label
    grades = list(grader.grade_pairs([pair for of_passage in texts for pair in of_passage]))
    shape = (len(texts), len(FILLERS))
    probabilities, windows, cut = (
        np.asarray([getattr(grade, name) for grade in grades]).reshape(shape)
        for name in ("probability", "windows", "truncated")
    )
    report = _report(probabilities, windows, cut, np.asarray(labels), seed=options.seed)
    report["bundle_hash"] = grader.bundle.hash
    print(_table(report))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(json.dumps({key: report[key] for key in ("bundle_hash", "log_loss_before", "log_loss_after")}))
    return 0


def corrected(
    logits: NDArray[np.float64], labels: NDArray[np.int64], windows: NDArray[np.int64], fit: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Log-odds shifted by an intercept for each group of window counts, less that of single windows.

    Only drift is corrected: how far the probabilities of single windows are off on these passages is not.

    Args:
        logits: calibrated log-odds, shape (n_documents,).
        labels: 0 or 1, same shape.
        windows: same shape.
        fit: which documents the intercepts are fitted on, same shape.
    """
    shifts = {}
    for low, high in WINDOWS:
        rows = fit & (windows >= low) & (windows <= high)
        shifts[low, high] = _intercept(logits[rows], labels[rows])
    first = shifts[WINDOWS[0]]
    moved = logits.copy()
    for (low, high), shift in shifts.items():
        moved[(windows >= low) & (windows <= high)] += shift - first
    return moved


def _intercept(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Of the logistic regression with slope 1, by Newton's steps; one made-up pair of each label keeps it finite."""
    shift = 0.0
    for _ in range(N_STEPS):
        p = np.asarray(sigmoid(logits + shift))
        half = 1 / (1 + np.exp(-shift))
        step = (labels.sum() - p.sum() + 1 - 2 * half) / ((p * (1 - p)).sum() + 2 * half * (1 - half))
        shift += float(np.clip(step, -1, 1))
    return shift


def _documents(
    rows: Sequence[dict[str, Any]], n_pairs: int, rng: np.random.Generator
) -> tuple[list[list[tuple[str, str]]], list[int]]:
    """For each drawn passage its (query, document) with ever more fillers, and its label."""
    test = [row for row in rows if row["split"] == "test"]
    titles = {row["document"]: row["document"].split("\n", 1)[0] for row in test}
    texts, labels = [], []
    for label in (1, 0):
        of_label = [row for row in test if row["label"] == label]
        for i in rng.permutation(len(of_label))[:n_pairs].tolist():
            title, body = of_label[i]["document"].split("\n", 1)
            others = [text.split("\n", 1)[1] for text, other in titles.items() if other != title]
            fillers = [others[j] for j in rng.permutation(len(others))[: max(FILLERS)].tolist()]
            of_passage = []
            for n in FILLERS:
                parts = fillers[:n]
                parts.insert(int(rng.integers(n + 1)), body)
                of_passage.append((of_label[i]["query"], title + "\n" + "\n\n".join(parts)))
            texts.append(of_passage)
            labels.append(label)
    return texts, labels


def _report(
    probabilities: NDArray[np.float64],
    windows: NDArray[np.int64],
    cut: NDArray[np.bool_],
    labels: NDArray[np.int64],
    *,
    seed: int,
) -> dict[str, Any]:
    logits = np.asarray([log_odds(each) for each in probabilities.ravel()]).reshape(probabilities.shape)
    wide = np.broadcast_to(labels[:, None], logits.shape)
    in_first = np.broadcast_to((np.arange(len(labels)) % 2 == 0)[:, None], logits.shape)
    after = np.empty_like(logits)
    for fit in (in_first, ~in_first):
        moved = corrected(logits.ravel(), wide.ravel(), windows.ravel(), fit.ravel()).reshape(logits.shape)
        after[~fit] = moved[~fit]
    is_whole = ~cut
    rows = []
    for column, n in enumerate(FILLERS):
        row: dict[str, Any] = {"fillers": n, "windows": float(windows[:, column].mean())}
        row["truncated"] = float(cut[:, column].mean())
        for label, name in ((1, "relevant"), (0, "near_miss")):
            of_label = labels == label
            draws = np.random.default_rng(seed).integers(0, of_label.sum(), (2000, of_label.sum()))
            drift = probabilities[of_label, column] - probabilities[of_label, 0]
            row[name] = {
                "before": float(probabilities[of_label, column].mean()),
                "after": float(np.asarray(sigmoid(after[of_label, column])).mean()),
                "drift": ratio(drift, np.ones(len(drift)), draws).to_json(),
            }
        rows.append(row)
    losses = [
        float(np.mean(np.logaddexp(0, each[is_whole]) - wide[is_whole] * each[is_whole])) for each in (logits, after)
    ]
    return {"n_passages": len(labels), "rows": rows, "log_loss_before": losses[0], "log_loss_after": losses[1]}


def _table(report: dict[str, Any]) -> str:
    names = "paragraphs around | windows | truncated | relevant | drift | corrected | near miss | drift | corrected"
    lines = [f"| {names} |", "|" + " --- |" * 9]
    for row in report["rows"]:
        cells = [f"{row['fillers']}", f"{row['windows']:.1f}", f"{row['truncated']:.2f}"]
        for name in ("relevant", "near_miss"):
            drift = row[name]["drift"]
            cells.append(f"{row[name]['before']:.3f}")
            cells.append(f"{drift['value']:+.3f} [{drift['low']:+.3f}, {drift['high']:+.3f}]")
            cells.append(f"{row[name]['after']:.3f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
