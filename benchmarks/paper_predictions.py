"""The verdicts published with the paper, measured again, with the intervals it does not give.

    python -m benchmarks.paper_predictions --file paper_predictions.csv

The rows carry no query ids. Labels of neighbouring rows go together up to about twenty rows apart, as lists of twenty
documents would make them, so whole blocks of rows are drawn; the table shows what the length of a block changes. The
last line is JSON.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.tables import interval
from relgrade.evaluate import Estimate, Judgements, build_report, read_predictions
from relgrade.evaluate.evaluation import evaluate_rows
from relgrade.evaluate.report import ReportSettings
from relgrade.evaluate.rows import Rows

ROOT = Path(__file__).resolve().parent.parent
MEASURES = ("precision", "recall", "f1", "accuracy", "mcc", "kappa")
BLOCK_LENGTHS = (1, 20, 50, 100, 200)
LAGS = (1, 5, 10, 15, 20, 30, 50, 100)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.paper_predictions")
    add = parser.add_argument
    add("--file", type=Path, required=True, help="csv of true and pred")
    add("--draws", type=int, default=10_000, help="bootstrap draws")
    add("--seed", type=int, default=0, help="of the bootstrap")
    add("--output", type=Path, default=ROOT / "benchmarks" / "results" / "paper_predictions.json")
    options = parser.parse_args(arguments)
    found = read_predictions(options.file)
    labels = np.asarray(found.judgements.labels, dtype=np.float64)
    kept = np.asarray(found.contender.is_kept, dtype=bool)
    settings = ReportSettings(n_draws=options.draws, seed=options.seed)
    report = build_report(found.judgements, [found.contender], settings=settings).to_json()
    evaluation = report["contenders"][0]["evaluation"]
    result: dict[str, Any] = {
        "benchmark": "paper_predictions",
        "counts": _counts(labels.astype(bool), kept),
        "method": report["method"],
        "measures": {name: evaluation[name] for name in MEASURES},
        "by_block_length": [_at(length, labels, kept, options) for length in BLOCK_LENGTHS],
        "label_autocorrelation": {
            str(lag): round(_autocorrelation(labels, lag), 3) for lag in LAGS if lag < labels.size
        },
    }
    _print(found.judgements, result)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    print(json.dumps({name: round(evaluation[name]["value"], 4) for name in MEASURES}))
    return 0


def _counts(relevant: Any, kept: Any) -> dict[str, int]:
    return {
        "true_positives": int((relevant & kept).sum()),
        "false_positives": int((~relevant & kept).sum()),
        "false_negatives": int((relevant & ~kept).sum()),
        "true_negatives": int((~relevant & ~kept).sum()),
    }


def _at(length: int, labels: Any, kept: Any, options: argparse.Namespace) -> dict[str, Any]:
    """Half widths of the intervals at one block length."""
    rows = Rows.check_blocks(labels, block_length=length)
    found = evaluate_rows(rows, scores=None, probabilities=None, is_kept=kept, n_draws=options.draws, seed=options.seed)
    widths = {name: round(getattr(found, name).half_width, 4) for name in MEASURES}
    return {"block_length": length, "n_blocks": rows.n_queries, "half_width": widths}


def _autocorrelation(labels: Any, lag: int) -> float:
    centred = labels - labels.mean()
    return float((centred[:-lag] * centred[lag:]).mean() / centred.var())


def _print(judgements: Judgements, result: dict[str, Any]) -> None:
    print(f"{len(judgements.labels):,} rows, blocks of {judgements.unit_length}, 95 % intervals")
    for name in MEASURES:
        found = Estimate(**result["measures"][name])
        print(f"{name:<12}{found.value:.4f}   {interval(found)}")
    print("\nhalf width of the interval by block length")
    print(f"{'block':<8}{'blocks':<9}" + "".join(f"{name:<12}" for name in MEASURES))
    for each in result["by_block_length"]:
        cells = "".join(f"{each['half_width'][name]:<12.4f}" for name in MEASURES)
        print(f"{each['block_length']:<8}{each['n_blocks']:<9,}{cells}")


if __name__ == "__main__":
    sys.exit(main())
