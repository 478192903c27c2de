"""The lower limits of filters that have none of their own, chosen on questions that they are not reported on."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relgrade.card.lists import Lists

ON_CALIBRATION = "the calibration questions"
ON_OTHER_HALF = "the other half of the questions"


@dataclass(frozen=True, slots=True)
class Limits:
    """One limit for each question and score."""

    chosen_on: str  # in words
    values: Mapping[str, tuple[float, ...]]  # score -> the distinct limits: one, or one for each half
    of_question: Mapping[str, NDArray[np.float64]]  # score -> (n_questions,); a score without a limit is left out
    missing: Mapping[str, str]  # score -> why it has none


def pick_limit(scores: NDArray[np.float64], is_gold: NDArray[np.bool_]) -> float | None:
    """The lower limit with the best F1 over all documents of some lists; the lowest of equals.

    Args:
        scores: any shape; -inf is no document.
        is_gold: same shape.

    Returns:
        None when no document is relevant: any limit is as good as another.
    """
    is_there = np.isfinite(scores.ravel())
    scores, is_gold = scores.ravel()[is_there], is_gold.ravel()[is_there]
    if not is_gold.any():
        return None
    order = np.argsort(-scores, kind="stable")
    ordered, hits = scores[order], np.cumsum(is_gold[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + int(is_gold.sum()))
    is_last = np.append(ordered[1:] < ordered[:-1], True)  # equal scores are kept together
    best = np.flatnonzero(is_last & (f1 >= f1[is_last].max() - 1e-12))[-1]
    return float(ordered[best])


def scores_of(lists: Lists) -> dict[str, NDArray[np.float64]]:
    """The scores that need a limit, each of shape (n_questions, n_top)."""
    return {"bm25_share": lists.bm25_share, "cosine": lists.cosine, "relgrade": lists.probability}


def choose_limits(lists: Lists, calibration: Lists | None) -> Limits:
    """Limits by the best F1: one for all, or where there are no calibration questions one for each half by the other.

    Halves go by a hash of the query's id, so that they stay the same when questions are added. A question is never
    filtered by a limit that it helped to choose.

    Args:
        lists: the reported questions.
        calibration: other questions; None: there are none.
    """
    if calibration is not None:
        return _one_for_all(lists, calibration)
    is_second = np.asarray([zlib.crc32(each.encode("utf-8", "surrogatepass")) % 2 == 1 for each in lists.query_ids])
    values: dict[str, tuple[float, ...]] = {}
    of_question: dict[str, NDArray[np.float64]] = {}
    missing: dict[str, str] = {}
    for name, scores in scores_of(lists).items():
        found = [_limit(scores, lists, is_second == bool(half)) for half in (1, 0)]
        chosen = [each for each in found if each is not None]
        if len(chosen) < len(found):
            missing[name] = "half of the questions have no relevant document in their lists; give calibration questions"
            continue
        values[name] = tuple(chosen)
        of_question[name] = np.where(is_second, chosen[1], chosen[0])
    return Limits(ON_OTHER_HALF, values, of_question, missing)


def _one_for_all(lists: Lists, calibration: Lists) -> Limits:
    values: dict[str, tuple[float, ...]] = {}
    missing: dict[str, str] = {}
    for name, scores in scores_of(calibration).items():
        found = _limit(scores, calibration, np.ones(len(calibration.query_ids), dtype=np.bool_))
        if found is None:
            missing[name] = "no calibration question has a relevant document in its list"
        else:
            values[name] = (found,)
    every = np.ones(len(lists.query_ids))
    return Limits(ON_CALIBRATION, values, {name: found[0] * every for name, found in values.items()}, missing)


def _limit(scores: NDArray[np.float64], lists: Lists, is_chosen: NDArray[np.bool_]) -> float | None:
    rows = is_chosen & lists.is_judged
    return pick_limit(scores[rows], lists.is_gold[rows])


def limit_at_tokens(scores: NDArray[np.float64], tokens: NDArray[np.float64], *, budget: float) -> float:
    """The lowest limit that sends no more than a budget, all questions together; inf when one document is too much.

    It looks at sizes and never at labels, so that it may be chosen on the questions that are reported.

    Args:
        scores: shape (n_questions, n_top); -inf is no document.
        tokens: same shape.
        budget: tokens in all.
    """
    order = np.argsort(-scores.ravel(), kind="stable")
    order = order[np.isfinite(scores.ravel()[order])]
    ordered, sent = scores.ravel()[order], np.cumsum(tokens.ravel()[order])
    is_last = np.append(ordered[1:] < ordered[:-1], True) if len(order) else np.zeros(0, dtype=np.bool_)
    fitting = np.flatnonzero(is_last & (sent <= budget))
    return float(ordered[fitting[-1]]) if fitting.size else float(np.inf)
