"""What reaches the generator: measures over questions as ratios of sums, with intervals by drawing whole questions."""

import numpy as np
from numpy.typing import NDArray

from relgrade.card.lists import Lists
from relgrade.evaluate.intervals import Estimate, estimate, ratio_draws, share_estimate

MEASURES = {
    "precision": "context precision",
    "recall": "context recall",
    "gold_survives": "a relevant document survives",
    "answer_survives": "the answer's text survives",
    "empty_unanswerable": "unanswerable: left empty",
    "empty_answerable": "answerable: left empty",
    "tokens": "tokens",
}
NO_QUESTION = "no question counts for it"
NOTHING_SENT = "nothing is sent"


def measure(
    lists: Lists,
    kept: NDArray[np.bool_],
    counts: NDArray[np.float64],
    *,
    is_compressed: bool = False,
) -> dict[str, Estimate]:
    """All measures of one filter.

    Precision: of all documents sent, the share that is relevant; questions without an answer count, and those whose
    relevant documents are not known do not. Recall: mean share of a question's relevant documents that is sent, those
    counted that the retriever missed. Survives: of the questions with a relevant document (or with the text of an
    answer) in their list, the share that is sent one. Tokens: mean of a question.

    Args:
        lists: the questions.
        kept: what the filter sends, shape (n_questions, n_top).
        counts: how often each question comes up in each draw, from `draw_queries`, shape (n_draws, n_questions); the
            same for all filters, so that they are drawn alike.
        is_compressed: what is sent is what compression leaves.
    """
    kept = kept & lists.is_there
    n_sent, n_hits = kept.sum(axis=1), (kept & lists.is_gold).sum(axis=1)  # (n_questions,)
    held = lists.has_answer_left if is_compressed else lists.has_answer
    sizes = lists.tokens_left if is_compressed else lists.tokens
    is_answerable = lists.n_gold > 0
    is_empty = n_sent == 0
    every = np.ones(len(kept))
    judged = lists.is_judged.astype(np.float64)
    return {
        "precision": _ratio(n_hits * judged, n_sent * judged, counts, reason=NOTHING_SENT),
        "recall": _ratio(n_hits / np.maximum(lists.n_gold, 1) * is_answerable, is_answerable, counts),
        "gold_survives": _share(n_hits > 0, lists.is_gold.any(axis=1), counts),
        "answer_survives": _share((kept & held).any(axis=1), lists.has_answer.any(axis=1), counts),
        "empty_unanswerable": _share(is_empty, lists.is_unanswerable, counts),
        "empty_answerable": _share(is_empty, is_answerable, counts),
        "tokens": _ratio((kept * sizes).sum(axis=1), every, counts),
    }


def _share(is_true: NDArray[np.bool_], is_counted: NDArray[np.bool_], counts: NDArray[np.float64]) -> Estimate:
    """Share of the questions that count; exact where all agree, see `share_estimate`."""
    top = (is_true & is_counted).astype(np.float64)
    draws = ratio_draws(counts, top, is_counted.astype(np.float64))
    return share_estimate(is_true[is_counted], draws, n_pairs=int(is_counted.sum()), reason=NO_QUESTION)


def _ratio(
    top: NDArray[np.floating], bottom: NDArray[np.floating], counts: NDArray[np.float64], *, reason: str = NO_QUESTION
) -> Estimate:
    """Sum of `top` over sum of `bottom`, each of shape (n_questions,)."""
    top, bottom = np.asarray(top, np.float64), np.asarray(bottom, np.float64)
    n_counted = int((bottom > 0).sum())
    value = float(top.sum() / bottom.sum()) if n_counted else None
    return estimate(value, ratio_draws(counts, top, bottom), n_queries=n_counted, n_pairs=n_counted, reason=reason)
