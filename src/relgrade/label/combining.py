"""Several answers about one pair to one label: the mean probability, the majority, and how far they disagree."""

from collections.abc import Sequence
from math import fsum

from relgrade.label.journal_schema import Answer
from relgrade.label.rubric import Rubric
from relgrade.records import Label, Pair


def combine(
    pair: Pair, answers: Sequence[Answer], *, rubric: Rubric, model: str, n_asked: int, failure: str | None = None
) -> Label:
    """The label of a pair.

    An answer votes 1 when its probability is at least 0.5. disagreement = 2 * (share of the smaller side), or the
    range of the grades over the scale where that is more. At least half of the answers asked for must be there.

    Args:
        pair: whose label.
        answers: of all teachers and samples; those with an error count as missing.
        rubric: of all of them.
        model: who was asked.
        n_asked: answers that were asked for.
        failure: why answers are missing, where it is known.
    """
    good = [answer for answer in answers if answer.error is None and answer.probability is not None]
    costs = [answer.cost for answer in answers if answer.cost is not None]
    error = _why_not(answers, n_good=len(good), n_asked=n_asked, failure=failure)
    probabilities = [answer.probability for answer in good if answer.probability is not None]
    grades = [answer.grade for answer in good if answer.grade is not None]
    masses = [answer.label_mass for answer in good if answer.label_mass is not None]
    replies = [answer.reply for answer in good or answers if answer.reply]
    is_label = error is None
    return Label(
        query_id=pair.query_id,
        doc_id=pair.doc_id,
        source=pair.source,
        rubric=rubric.reference,
        rubric_hash=rubric.hash,
        model=model,
        probability=fsum(probabilities) / len(good) if is_label else None,
        label=_majority(probabilities) if is_label else None,
        grade=fsum(grades) / len(grades) if is_label and grades else None,
        label_mass=min(masses) if is_label and masses else None,
        n_samples=len(good),
        disagreement=_disagreement(probabilities, grades, scale=rubric.max_value) if is_label else None,
        error=error,
        method=" + ".join(dict.fromkeys(answer.method for answer in good)) or None,
        input_tokens=sum(answer.input_tokens for answer in answers),
        output_tokens=sum(answer.output_tokens for answer in answers),
        cost=fsum(costs) if costs else None,
        reply=replies[0] if replies else None,
    )


def _why_not(answers: Sequence[Answer], *, n_good: int, n_asked: int, failure: str | None) -> str | None:
    if n_good and 2 * n_good >= n_asked:
        return None
    reasons = [f"{answer.kind}: {answer.error}" for answer in answers if answer.error is not None]
    reason = reasons[0] if reasons else failure or "not asked yet"
    return reason if not n_good else f"{n_good} of {n_asked} answers came; {reason}"


def _majority(probabilities: Sequence[float]) -> int | None:
    """The side with more votes; a tie goes by the mean, and 0.5 is no side where the votes are even."""
    n_ones = sum(probability >= 0.5 for probability in probabilities)
    n_zeros = len(probabilities) - n_ones
    if n_ones != n_zeros:
        return int(n_ones > n_zeros)
    mean = fsum(probabilities) / len(probabilities)
    return None if mean == 0.5 else int(mean > 0.5)


def _disagreement(probabilities: Sequence[float], grades: Sequence[float], *, scale: int) -> float | None:
    if len(probabilities) < 2:
        return None
    n_ones = sum(probability >= 0.5 for probability in probabilities)
    votes = 2.0 * min(n_ones, len(probabilities) - n_ones) / len(probabilities)
    spread = (max(grades) - min(grades)) / scale if grades else 0.0
    return max(votes, spread)
