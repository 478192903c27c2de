"""All lists side by side as arrays, padded to the longest: what filters and measures are functions of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from relgrade.bundle import Manifest
from relgrade.card.cases import Case, Scores, holds_answer
from relgrade.card.grading import Compressed, Reading
from relgrade.probability import calibrated_probability

CountTokens = Callable[[Sequence[str]], list[int]]
NOWHERE = -np.inf  # score of what only fills a list up: below every limit


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The lists of some questions. n_top is the length of the longest; `is_there` tells documents from what fills up.

    Probabilities and points are the pooled ones: documents come without the metadata that tells collections apart.
    """

    query_ids: tuple[str, ...]
    is_judged: NDArray[np.bool_]  # (n_questions,) it is known which documents are relevant
    is_unanswerable: NDArray[np.bool_]  # (n_questions,) known to be
    n_gold: NDArray[np.int64]  # (n_questions,) relevant documents, listed or not
    is_there: NDArray[np.bool_]  # (n_questions, n_top)
    is_gold: NDArray[np.bool_]  # (n_questions, n_top)
    has_answer: NDArray[np.bool_]  # (n_questions, n_top) the text of an answer stands in it
    has_answer_left: NDArray[np.bool_]  # (n_questions, n_top) and in what compression leaves of it
    tokens: NDArray[np.float64]  # (n_questions, n_top)
    tokens_left: NDArray[np.float64]  # (n_questions, n_top) of what compression leaves; 0 for what is not kept
    bm25: NDArray[np.float64]  # (n_questions, n_top)
    cosine: NDArray[np.float64]  # (n_questions, n_top)
    probability: NDArray[np.float64]  # (n_questions, n_top) calibrated
    thresholds: dict[str, float]  # of the operating points, on `probability`
    milliseconds: dict[str, NDArray[np.float64]]  # bm25, cosine, grade, compress -> (n_questions,); NaN: not measured

    @classmethod
    def of(
        cls,
        cases: Sequence[Case],
        scores: Sequence[Scores],
        readings: Sequence[Reading],
        *,
        manifest: Manifest,
        count_tokens: CountTokens,
    ) -> Self:
        """Put cases side by side.

        Args:
            cases: at least one.
            scores: of each case.
            readings: of each case.
            manifest: of the bundle that read them: calibration and operating points.
            count_tokens: model tokens of texts.
        """
        n_top = max(1, *(len(case.documents) for case in cases))
        texts = list(dict.fromkeys(document.text for case in cases for document in case.documents))
        size_of = dict(zip(texts, count_tokens(texts), strict=True))
        left = [_in_order(case, reading) for case, reading in zip(cases, readings, strict=True)]
        probabilities = [calibrated_probability(manifest.calibration, reading.logits) for reading in readings]
        return cls(
            query_ids=tuple(case.query_id for case in cases),
            is_judged=np.asarray([case.is_judged for case in cases], dtype=np.bool_),
            is_unanswerable=np.asarray([case.is_answerable is False for case in cases], dtype=np.bool_),
            n_gold=np.asarray([case.n_gold() for case in cases], dtype=np.int64),
            is_there=_flags([[True] * len(case.documents) for case in cases], n_top),
            is_gold=_flags([case.gold() for case in cases], n_top),
            has_answer=_flags([[holds_answer(each.text, c.answers) for each in c.documents] for c in cases], n_top),
            has_answer_left=_flags(
                [
                    [each is not None and holds_answer(each.text, case.answers) for each in of_case]
                    for case, of_case in zip(cases, left, strict=True)
                ],
                n_top,
            ),
            tokens=_numbers([[size_of[each.text] for each in case.documents] for case in cases], n_top, fill=0.0),
            tokens_left=_numbers([[each.n_tokens if each else 0 for each in own] for own in left], n_top, fill=0.0),
            bm25=_numbers([each.bm25 for each in scores], n_top, fill=NOWHERE),
            cosine=_numbers([each.cosine for each in scores], n_top, fill=NOWHERE),
            probability=_numbers(probabilities, n_top, fill=NOWHERE),
            thresholds={point.name: point.threshold for point in manifest.operating_points},
            milliseconds={
                "bm25": np.asarray([each.bm25_ms for each in scores], dtype=np.float64),
                "cosine": np.asarray([each.cosine_ms for each in scores], dtype=np.float64),
                "grade": _times([each.grade_ms for each in readings]),
                "compress": _times([each.compress_ms for each in readings]),
            },
        )

    @property
    def bm25_share(self) -> NDArray[np.float64]:
        """BM25 as a share of the best of the list, shape (n_questions, n_top); 0 where no word matches."""
        best = self.bm25.max(axis=1, keepdims=True)
        shares: NDArray[np.float64] = np.divide(self.bm25, best, out=np.zeros_like(self.bm25), where=best > 0)
        return np.where(self.is_there, shares, NOWHERE)


def _in_order(case: Case, reading: Reading) -> list[Compressed | None]:
    return [reading.compressed.get(i) for i in range(len(case.documents))]


def _flags(rows: Sequence[Sequence[bool]], n_top: int) -> NDArray[np.bool_]:
    flags = np.zeros((len(rows), n_top), dtype=np.bool_)
    for number, row in enumerate(rows):
        flags[number, : len(row)] = row
    return flags


def _numbers(rows: Sequence[Any], n_top: int, *, fill: float) -> NDArray[np.float64]:
    numbers = np.full((len(rows), n_top), fill, dtype=np.float64)
    for number, row in enumerate(rows):
        numbers[number, : len(row)] = row
    return numbers


def _times(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.asarray([np.nan if each is None else each for each in values], dtype=np.float64)
