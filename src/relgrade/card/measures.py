"""What reaches the generator: measures over questions as ratios of sums, with intervals by drawing whole questions."""

import numpy as np
from numpy.typing import NDArray

from relgrade.card.lists import Lists
from relgrade.evaluate.intervals import Estimate, estimate, ratio_draws, share_estimate

Flags = NDArray[np.bool_]
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
    n_sent = kept.sum(axis=1).astype(np.float64)  # (n_questions,)
    n_hits = (kept & lists.is_gold).sum(axis=1).astype(np.float64)
    held = lists.has_answer_left if is_compressed else lists.has_answer
    sizes = lists.tokens_left if is_compressed else lists.tokens
    is_answerable, is_empty = lists.n_gold > 0, n_sent == 0
    judged, answerable = lists.is_judged.astype(np.float64), is_answerable.astype(np.float64)
    return {
        "precision": _ratio(n_hits * judged, n_sent * judged, counts, reason=NOTHING_SENT),
        "recall": _ratio(n_hits / np.maximum(lists.n_gold, 1) * answerable, answerable, counts),
        "gold_survives": _share(n_hits > 0, _any(lists.is_gold), counts),
        "answer_survives": _share(_any(kept & held), _any(lists.has_answer), counts),
        "empty_unanswerable": _share(is_empty, lists.is_unanswerable, counts),
        "empty_answerable": _share(is_empty, is_answerable, counts),
        "tokens": _ratio((kept * sizes).sum(axis=1), np.ones(len(kept)), counts),
    }


def _share(is_true: Flags, is_counted: Flags, counts: NDArray[np.float64]) -> Estimate:
    """Share of the questions that count; exact where all agree, see `share_estimate`."""
    draws = ratio_draws(counts, (is_true & is_counted).astype(np.float64), is_counted.astype(np.float64))
    return share_estimate(is_true[is_counted], draws, n_pairs=int(is_counted.sum()), reason=NO_QUESTION)


def _ratio(
    top: NDArray[np.float64], bottom: NDArray[np.float64], counts: NDArray[np.float64], *, reason: str = NO_QUESTION
) -> Estimate:
    """Sum of `top` over sum of `bottom`, each of shape (n_questions,)."""
    n_counted = int((bottom > 0).sum())
    value = float(top.sum() / bottom.sum()) if n_counted else None
    return estimate(value, ratio_draws(counts, top, bottom), n_queries=n_counted, n_pairs=n_counted, reason=reason)


def _any(flags: Flags) -> Flags:
    """Whether any of a row holds, shape (n_rows, n) to (n_rows,)."""
    return np.asarray(flags.any(axis=1), dtype=np.bool_)
