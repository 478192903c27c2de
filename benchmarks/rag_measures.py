"""What reaches the generator: measures over questions as ratios of sums, with intervals by drawing questions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
COLUMNS = (
    ("precision", "context precision"),
    ("recall", "context recall"),
    ("survives", "gold survives"),
    ("empty_unanswerable", "unanswerable: empty"),
    ("empty_answerable", "answerable: empty"),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """A measure with its interval; None where no question counts."""

    value: float | None
    low: float | None
    high: float | None
    n_questions: int  # that count

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {"value": self.value, "low": self.low, "high": self.high, "n_questions": self.n_questions}


def measure(
    kept: NDArray[np.bool_],
    is_gold: NDArray[np.bool_],
    n_gold: NDArray[np.int64],
    tokens: NDArray[np.float64],
    *,
    n_draws: int,
    seed: int,
) -> dict[str, Ratio]:
    """All measures of one filter.

    Precision: of all documents sent, the share that is gold, questions without an answer counted. Recall: mean share of
    a question's gold documents that is sent, of those that the retriever missed too. Survives: of the questions with a
    gold document in the list, those that are sent one.

    Args:
        kept: shape (n_questions, n_top).
        is_gold: same shape.
        n_gold: gold documents in the corpus, shape (n_questions,); 0 cannot be answered.
        tokens: sent, of each document, shape (n_questions, n_top).
        n_draws: bootstrap draws of questions.
        seed: of the draws; the same for all filters, so that they are drawn alike.
    """
    n_sent, n_hits = kept.sum(axis=1), (kept & is_gold).sum(axis=1)  # (n_questions,)
    answerable, reachable = n_gold > 0, is_gold.any(axis=1)
    is_empty, every = n_sent == 0, np.ones(len(kept))
    parts = {
        "precision": (n_hits, n_sent),
        "recall": (n_hits / np.maximum(n_gold, 1), answerable),
        "survives": ((n_hits > 0) & reachable, reachable),
        "empty_unanswerable": (is_empty & ~answerable, ~answerable),
        "empty_answerable": (is_empty & answerable, answerable),
        "tokens": ((kept * tokens).sum(axis=1), every),
    }
    draws = np.random.default_rng(seed).integers(0, len(kept), (n_draws, len(kept)))
    return {name: ratio(top, bottom, draws) for name, (top, bottom) in parts.items()}


def ratio(top: NDArray[Any], bottom: NDArray[Any], draws: NDArray[np.int64]) -> Ratio:
    """Sum of `top` over sum of `bottom`, each of shape (n_questions,), and its percentile interval.

    Args:
        top: what counts.
        bottom: out of what.
        draws: rows of each bootstrap draw, shape (n_draws, n_questions).
    """
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    n_counted = int((bottom > 0).sum())
    if not n_counted:
        return Ratio(None, None, None, 0)
    tops, bottoms = top[draws].sum(axis=1), bottom[draws].sum(axis=1)
    drawn = tops[bottoms > 0] / bottoms[bottoms > 0]
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if drawn.size else (np.nan, np.nan)
    return Ratio(float(top.sum() / bottom.sum()), float(low), float(high), n_counted)


def card(title: str, measured: Mapping[str, Mapping[str, Ratio]], milliseconds: Mapping[str, float | None]) -> str:
    """A Markdown table: a filter a row, 95 % intervals in brackets."""
    names = ["filter", *(label for _, label in COLUMNS), "tokens", "ms"]
    lines = [f"\n{title}\n", _line(names), _line(["---"] * len(names))]
    for name, of_filter in measured.items():
        cells = [_cell(of_filter[key]) for key, _ in COLUMNS]
        spent = milliseconds.get(name)
        lines.append(
            _line([name, *cells, f"{of_filter['tokens'].value:,.0f}", "-" if spent is None else f"{spent:.0f}"])
        )
    return "\n".join(lines)


def _cell(found: Ratio) -> str:
    return "-" if found.value is None else f"{found.value:.2f} [{found.low:.2f}, {found.high:.2f}]"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
