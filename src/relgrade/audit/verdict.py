"""The verdict in words: can these labels train a student, and can they set an operating point?

The limits are conventions, not laws: 0.4 and 0.6 are where Landis and Koch 1977 begin "moderate" and "substantial"
agreement. They are held against the interval, not the value: what a small sample cannot tell is called undecided.
"""

import math
from dataclasses import dataclass
from typing import Literal

from relgrade.audit.clusters import Interval
from relgrade.audit.ppi import CorrectedShare

Answer = Literal["yes", "with care", "no", "undecided"]
TRAIN_KAPPA = 0.4
TRAIN_FLOOR = 0.2  # below it a student learns mostly noise
POINT_KAPPA = 0.6
POINT_HALF_WIDTH = 0.05  # of the corrected precision, or of the prevalence where there is no student
PEOPLE_ALPHA = 0.5  # below it the rubric, not the teacher, is the problem


@dataclass(frozen=True, slots=True)
class Verdict:
    """Two answers and their reasons."""

    can_train: Answer
    can_set_point: Answer
    reasons: tuple[str, ...]


def decide(
    *,
    kappa: Interval,
    teacher_base_rate: float,
    people_base_rate: Interval,
    people_alpha: Interval | None,
    precision: CorrectedShare | None,
    prevalence: CorrectedShare,
) -> Verdict:
    """Answer both questions.

    Args:
        kappa: of teacher and people.
        teacher_base_rate: share the teacher calls relevant, in [0, 1].
        people_base_rate: share that people do.
        people_alpha: of people among themselves; None: every pair was judged by one person.
        precision: of a student, corrected; None: no student.
        prevalence: share relevant, corrected.
    """
    reasons: list[str] = []
    training = _training(kappa, reasons)
    _base_rates(teacher_base_rate, people_base_rate, reasons)
    _people(people_alpha, reasons)
    return Verdict(training, _point(kappa, precision or prevalence, precision is not None, reasons), tuple(reasons))


def _training(kappa: Interval, reasons: list[str]) -> Answer:
    if kappa.value is None or kappa.low is None or kappa.high is None:
        reasons.append("kappa has no interval: too few queries, or one answer throughout; judge more pairs")
        return "undecided"
    found = f"kappa {kappa.value:.2f} ({kappa.low:.2f} to {kappa.high:.2f})"
    if kappa.low >= TRAIN_KAPPA:
        reasons.append(f"{found}: teacher and people agree well beyond chance, at least moderately")
        return "yes"
    if kappa.high < TRAIN_FLOOR:
        reasons.append(f"{found}: hardly better than chance; change the rubric's prompt or the teacher first")
        return "no"
    if kappa.low >= TRAIN_FLOOR:
        reasons.append(f"{found}: some agreement; relabel the most suspicious pairs before training")
        return "with care"
    more = _more_pairs(kappa, limit=TRAIN_KAPPA if kappa.value >= TRAIN_KAPPA else TRAIN_FLOOR)
    reasons.append(f"{found}: the sample cannot tell{more}")
    return "undecided"


def _point(kappa: Interval, share: CorrectedShare, is_precision: bool, reasons: list[str]) -> Answer:
    name = "the student's precision" if is_precision else "the share relevant"
    half, teacher = share.corrected.half_width, share.teacher_alone
    value = share.corrected.value
    if half is None or value is None or kappa.low is None:
        reasons.append(f"{name} has no interval; an operating point needs one")
        return "undecided"
    moved = ""
    if teacher is not None and not (share.corrected.low or 0.0) <= teacher <= (share.corrected.high or 1.0):
        moved = f"; the teacher's own labels say {teacher:.3f}, which is off"
    reasons.append(f"{name} is {value:.3f} +- {half:.3f} against people{moved}")
    if share.is_thin:
        reasons.append(f"only {share.n_misses} misses of the teacher were seen: that interval is likely too narrow")
    if kappa.low < POINT_KAPPA or moved:
        reasons.append(
            "a threshold set on these labels holds against the teacher, not against people; choose it on "
            "pairs that people judged, or on corrected labels"
        )
        return "no"
    if half > POINT_HALF_WIDTH or share.is_thin:
        reasons.append(f"judge more pairs until it is known to +- {POINT_HALF_WIDTH}")
        return "with care"
    return "yes"


def _base_rates(teacher: float, people: Interval, reasons: list[str]) -> None:
    if people.value is None:
        return
    if not 0.05 <= people.value <= 0.95:
        reasons.append(f"people call {people.value:.1%} relevant: with so few on one side kappa is low by nature")
    if people.low is not None and people.high is not None and not people.low <= teacher <= people.high:
        which = "more" if teacher > people.high else "less"
        reasons.append(f"the teacher calls {which} relevant than people do: {teacher:.1%} against {people.value:.1%}")


def _people(alpha: Interval | None, reasons: list[str]) -> None:
    if alpha is None:
        reasons.append("every pair was judged by one person: how far people agree is not known")
    elif alpha.value is not None and alpha.value < PEOPLE_ALPHA:
        reasons.append(f"people agree little among themselves (alpha {alpha.value:.2f}): sharpen the rubric first")


def _more_pairs(kappa: Interval, *, limit: float) -> str:
    """About how many more pairs would settle it: an interval shrinks with the root of its pairs."""
    half, distance = kappa.half_width, abs((kappa.value or 0.0) - limit)
    if half is None or distance < 0.02:  # too close for any affordable number
        return ""
    more = math.ceil(kappa.n_pairs * ((half / distance) ** 2 - 1.0))
    return f"; about {more} more pairs would" if 0 < more <= 20 * kappa.n_pairs else ""
