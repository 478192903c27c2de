"""The card: each way to thin out the lists, with what it lets through. JSON out; nothing is graded or read here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.card.limits import Limits, choose_limits, limit_at_tokens, scores_of
from relgrade.card.lists import Lists
from relgrade.card.measures import measure
from relgrade.errors import InvalidInput
from relgrade.evaluate.intervals import Estimate, draw_queries

SCHEMA = 1
NO_FILTER, BM25, COSINE, TUNED = "no filter", "BM25 share of best", "cosine", "relgrade, tuned"
COMPRESSED = "relgrade + compress"
_SCORE_NAMES = {"bm25_share": BM25, "cosine": COSINE, "relgrade": "relgrade"}


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSettings:
    """How the card is made.

    Raises:
        InvalidInput: a number below 1.
    """

    n_few: int = 5  # of the filter that sends the best few of the retriever
    max_keep: int | None = None  # adds a row: what the point keeps, at most so many; None: no such row
    n_draws: int = 1000  # of the bootstrap over questions
    seed: int = 0  # of the bootstrap

    def __post_init__(self) -> None:
        for name in ("n_few", "max_keep", "n_draws"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise InvalidInput(f"CardSettings.{name} must be a whole number >= 1, got {value!r}")


@dataclass(frozen=True, slots=True)
class Card:
    """What grading is worth to one RAG system."""

    plain: dict[str, Any] = field(repr=False)  # all of it, as JSON

    @property
    def rows(self) -> dict[str, dict[str, Any]]:
        """Each filter with its measures."""
        return {row["filter"]: row for row in self.plain["rows"]}


def build_card(
    lists: Lists,
    calibration: Lists | None = None,
    *,
    default_point: str,
    settings: CardSettings | None = None,
    about: Mapping[str, Any] | None = None,
) -> Card:
    """Measure every filter on the same questions and the same draws.

    Args:
        lists: the questions that are reported.
        calibration: others, of the same system, to choose limits on; None: halves choose for each other.
        default_point: the operating point of the rows `at most` and `relgrade + compress`.
        settings: None: `CardSettings()`.
        about: facts to carry along, JSON.

    Raises:
        InvalidInput: a question stands on both sides, or there is no such point.
    """
    settings = settings or CardSettings()
    if default_point not in lists.thresholds:
        raise InvalidInput(f"no operating point {default_point!r}; there are {', '.join(lists.thresholds)}")
    if calibration is not None and (shared := set(lists.query_ids) & set(calibration.query_ids)):
        raise InvalidInput(
            f"{len(shared):,} questions are calibration questions and reported ones, such as {sorted(shared)[0]!r}; "
            "a limit must be chosen on other questions"
        )
    limits = choose_limits(lists, calibration)
    counts = draw_queries(len(lists.query_ids), n_draws=settings.n_draws, seed=settings.seed)
    filters = _filters(lists, limits, default_point, settings)
    has_compression = not np.isnan(lists.milliseconds["compress"]).all()
    rows = [
        _row(name, measure(lists, kept, counts), _milliseconds(lists, timed)) for name, (kept, timed) in filters.items()
    ]
    if has_compression:
        kept = filters[f"relgrade {default_point}"][0]
        measured = measure(lists, kept, counts, is_compressed=True)
        rows.append(_row(COMPRESSED, measured, _milliseconds(lists, "compress")))
    plain = {
        "schema": SCHEMA,
        "about": dict(about or {}),
        "sample": _sample(lists, calibration),
        "limits": {"chosen_on": limits.chosen_on, "values": dict(limits.values), "missing": dict(limits.missing)},
        "points": {"default": default_point, "thresholds": dict(lists.thresholds)},
        "rows": rows,
        "equal_tokens": _equal_tokens(lists, filters, counts, settings),
        "method": {"n_draws": settings.n_draws, "seed": settings.seed, "unit": "question", "level": 0.95},
    }
    return Card(plain)


def _filters(
    lists: Lists, limits: Limits, default_point: str, settings: CardSettings
) -> dict[str, tuple[NDArray[np.bool_], str | None]]:
    """Name -> what it keeps, shape (n_questions, n_top), and which of the times it takes; None: none worth a clock."""
    few = np.zeros_like(lists.is_there)
    few[:, : settings.n_few] = True
    filters: dict[str, tuple[NDArray[np.bool_], str | None]] = {
        NO_FILTER: (lists.is_there, None),
        f"top {settings.n_few}": (few & lists.is_there, None),
    }
    scores = scores_of(lists)
    tuned = {name: scores[name] >= limit[:, None] for name, limit in limits.of_question.items()}
    for score, name, timed in (("bm25_share", BM25, "bm25"), ("cosine", COSINE, "cosine")):
        if score in tuned:
            filters[name] = (tuned[score], timed)
    for point, threshold in lists.thresholds.items():
        filters[f"relgrade {point}"] = (lists.probability >= threshold, "grade")
    if settings.max_keep is not None:
        kept = filters[f"relgrade {default_point}"][0] & _best(lists.probability, settings.max_keep)
        filters[f"relgrade {default_point}, at most {settings.max_keep}"] = (kept, "grade")
    if "relgrade" in tuned:
        filters[TUNED] = (tuned["relgrade"], "grade")
    return filters


def _best(scores: NDArray[np.float64], n_best: int) -> NDArray[np.bool_]:
    """The highest of each list; of equals those that were retrieved first."""
    ranks = np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1)
    return np.asarray(ranks < n_best)


def _equal_tokens(
    lists: Lists,
    filters: Mapping[str, tuple[NDArray[np.bool_], str | None]],
    counts: NDArray[np.float64],
    settings: CardSettings,
) -> dict[str, Any]:
    """The best few of the retriever, and each score with the one limit that sends as much: who finds more with it?"""
    few = f"top {settings.n_few}"
    budget = float((filters[few][0] * lists.tokens).sum())
    rows = [_row(few, measure(lists, filters[few][0], counts), None)]
    for score, values in scores_of(lists).items():
        limit = limit_at_tokens(values, lists.tokens, budget=budget)
        kept = lists.is_there & (values >= limit)
        rows.append({**_row(_SCORE_NAMES[score], measure(lists, kept, counts), None), "limit": _finite(limit)})
    return {"tokens": budget / len(lists.query_ids), "as": few, "rows": rows}


def _row(name: str, measured: Mapping[str, Estimate], milliseconds: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "filter": name,
        **{
            key: {
                "value": each.value,
                "low": each.low,
                "high": each.high,
                "n_questions": each.n_queries,
                "reason": each.reason,
            }
            for key, each in measured.items()
        },
        "milliseconds": milliseconds,
    }


def _milliseconds(lists: Lists, timed: str | None) -> dict[str, Any] | None:
    """Median and 95th percentile of what the filter adds to retrieval, by question."""
    spent = lists.milliseconds[timed] if timed else np.empty(0)
    spent = spent[~np.isnan(spent)]
    if not spent.size:
        return None
    p50, p95 = np.quantile(spent, [0.5, 0.95])
    return {"p50": round(float(p50), 3), "p95": round(float(p95), 3), "n_questions": int(spent.size)}


def _sample(lists: Lists, calibration: Lists | None) -> dict[str, Any]:
    return {
        "n_questions": len(lists.query_ids),
        "n_answerable": int((lists.n_gold > 0).sum()),
        "n_unanswerable": int(lists.is_unanswerable.sum()),
        "n_reachable": int(lists.is_gold.any(axis=1).sum()),
        "n_with_answer_listed": int(lists.has_answer.any(axis=1).sum()),
        "n_listed": int(lists.is_there.sum()),
        "n_top": lists.is_there.shape[1],
        "n_calibration_questions": None if calibration is None else len(calibration.query_ids),
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None
