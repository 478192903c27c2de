"""What an audit says: agreement, errors of the teacher, corrected shares, a verdict. Numbers, and no text of a pair.

Every share is weighted back by inclusion probability to all labelled pairs; every interval is clustered by query.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from relgrade.audit.agreement import (
    coincidences,
    cross_tables,
    kappa,
    krippendorff_alpha,
    raw_agreement,
)
from relgrade.audit.annotations import Annotation
from relgrade.audit.cases import SampleKey, disagreement_of, query_index
from relgrade.audit.clusters import Interval, bootstrap, sums_by_query
from relgrade.audit.findings import (
    AuditReport,
    Bin,
    PeopleAgreement,
    SelfConsistency,
    StudentQuality,
    Suspects,
    TeacherAgreement,
)
from relgrade.audit.judged import Judged, join_answers
from relgrade.audit.ppi import Audited, CorrectedShare, share_found, share_relevant
from relgrade.audit.sampling import BIN_EDGES, N_BINS, probability_bins
from relgrade.audit.suspects import suspect_labels
from relgrade.audit.verdict import decide
from relgrade.errors import InvalidInput, UndefinedMeasure
from relgrade.metrics import auroc
from relgrade.records import Pair

N_GRADES = 4
TEACHER_GRADE = "teacher_grade"  # field of a graded label: the mean over samples, so not always whole
_Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StudentVerdicts:
    """What a student says about all labelled pairs."""

    logits: _Floats  # shape (n_pairs,)
    is_kept: NDArray[np.bool_]  # shape (n_pairs,)
    threshold: float  # probability it was kept by


def audit_labels(
    pairs: Sequence[Pair],
    annotations: Sequence[Annotation],
    *,
    key: SampleKey | None = None,
    student: StudentVerdicts | None = None,
    seed: int = 0,
) -> AuditReport:
    """Hold a teacher's labels against people's answers.

    Args:
        pairs: all labelled pairs, in the order of `student`.
        annotations: people's answers.
        key: of the drawn sample; None: answers that name ids, as if drawn with equal chances.
        student: its verdicts on the pairs; None: nothing is said about one.
        seed: of the bootstrap and the folds.

    Raises:
        InvalidInput: a pair without a label, or answers that do not belong to the pairs.
    """
    if any(pair.label is None for pair in pairs):
        raise InvalidInput("an audit reads labelled pairs; leave the others out")
    if student is not None and not student.logits.shape == student.is_kept.shape == (len(pairs),):
        raise InvalidInput(f"a student needs one verdict a pair, got {student.logits.size} for {len(pairs)}")
    judged = join_answers(pairs, annotations, key=key)
    query = query_index(pairs)
    label = np.asarray([pair.label for pair in pairs], dtype=np.float64)
    audited = Audited(teacher=label, query=query, judged=judged.index, people=judged.relevance, weights=judged.weights)
    teacher = _teacher(pairs, label, query, judged, seed)
    people, prevalence = _people(judged, query, seed), share_relevant(audited)
    quality = None if student is None else _student(audited, student)
    return AuditReport(
        n_pairs=len(pairs),
        n_queries=int(query.max()) + 1,
        n_drawn=judged.n_drawn,
        n_judged=judged.index.size,
        n_judged_queries=int(np.unique(query[judged.index]).size),
        n_set_aside=judged.n_set_aside,
        annotators=tuple(
            (name, int((~np.isnan(judged.answers[:, i])).sum())) for i, name in enumerate(judged.annotators)
        ),
        scale=judged.scale,
        teacher=teacher,
        bins=_bins(audited, seed),
        prevalence=prevalence,
        people=people,
        self_consistency=_self_consistency(pairs),
        student=quality,
        suspects=_suspects(pairs, label, judged, student, seed),
        verdict=decide(
            kappa=teacher.kappa,
            teacher_base_rate=teacher.teacher_base_rate,
            people_base_rate=teacher.people_base_rate,
            people_alpha=None if people is None else people.alpha,
            precision=None if quality is None else quality.precision,
            prevalence=prevalence,
        ),
    )


def _teacher(
    pairs: Sequence[Pair], label: _Floats, query: NDArray[np.int64], judged: Judged, seed: int
) -> TeacherAgreement:
    said = (label[judged.index] >= 0.5).astype(np.int64)
    # What most people said; where as many were for as against, half of the pair on each side.
    share = np.where(judged.relevance == 0.5, 0.5, judged.relevance > 0.5)
    yes, no = np.ones_like(said), np.zeros_like(said)
    halves = cross_tables(said, yes, n_categories=2, weights=share)
    halves += cross_tables(said, no, n_categories=2, weights=1.0 - share)  # (n_judged, 2, 2)
    tables = sums_by_query(halves * judged.weights[:, None, None], query[judged.index])
    n = judged.index.size
    total = tables.sum(axis=0) / judged.weights.sum()
    counts = halves.sum(axis=0)
    return TeacherAgreement(
        kappa=bootstrap(tables, kappa, n_pairs=n, seed=seed),
        raw=bootstrap(tables, raw_agreement, n_pairs=n, seed=seed),
        weighted_kappa=_weighted_kappa(pairs, query, judged, seed),
        people_base_rate=bootstrap(tables, lambda t: _ratio(t[:, :, 1].sum(1), t.sum((1, 2))), n_pairs=n, seed=seed),
        teacher_base_rate=float((label >= 0.5).mean()),
        precision=bootstrap(tables, lambda t: _ratio(t[:, 1, 1], t[:, 1].sum(1)), n_pairs=n, seed=seed),
        recall=bootstrap(tables, lambda t: _ratio(t[:, 1, 1], t[:, :, 1].sum(1)), n_pairs=n, seed=seed),
        both=float(total[1, 1]),
        teacher_only=float(total[1, 0]),
        people_only=float(total[0, 1]),
        neither=float(total[0, 0]),
        counts=(float(counts[1, 1]), float(counts[1, 0]), float(counts[0, 1]), float(counts[0, 0])),
        n_ties=int((judged.relevance == 0.5).sum()),
    )


def _weighted_kappa(pairs: Sequence[Pair], query: NDArray[np.int64], judged: Judged, seed: int) -> Interval | None:
    given = [pairs[i].fields.get(TEACHER_GRADE) for i in judged.index.tolist()]
    if judged.scale != "graded" or not all(_is_grade(grade) for grade in given):
        return None
    tables = cross_tables(
        np.rint(np.asarray(given, dtype=np.float64)).astype(np.int64),
        judged.grade,
        n_categories=N_GRADES,
        weights=judged.weights / judged.weights.mean(),
    )
    return bootstrap(
        sums_by_query(tables, query[judged.index]),
        lambda t: kappa(t, is_quadratic=True),
        n_pairs=judged.index.size,
        seed=seed,
    )


def _is_grade(value: object) -> bool:
    return not isinstance(value, bool) and isinstance(value, int | float) and 0 <= value <= N_GRADES - 1


def _people(judged: Judged, query: NDArray[np.int64], seed: int) -> PeopleAgreement | None:
    is_shared = (~np.isnan(judged.answers)).sum(axis=1) >= 2
    if not is_shared.any():
        return None
    n_categories, level = (N_GRADES, "ordinal") if judged.scale == "graded" else (2, "nominal")
    answers, of_query = judged.answers[is_shared], query[judged.index[is_shared]]
    alpha = bootstrap(
        sums_by_query(coincidences(answers, n_categories=n_categories), of_query),
        lambda m: krippendorff_alpha(m, level="ordinal" if level == "ordinal" else "nominal"),
        n_pairs=int(is_shared.sum()),
        seed=seed,
    )
    kappas = []
    for (i, one), (j, two) in itertools.combinations(enumerate(judged.annotators), 2):
        has_both = ~np.isnan(answers[:, i]) & ~np.isnan(answers[:, j])
        if has_both.any():
            first, second = (answers[has_both, each].astype(np.int64) for each in (i, j))
            tables = cross_tables(first, second, n_categories=n_categories)
            found = bootstrap(
                sums_by_query(tables, of_query[has_both]),
                lambda t: kappa(t, is_quadratic=t.shape[1] > 2),
                n_pairs=int(has_both.sum()),
                seed=seed,
            )
            kappas.append((one, two, found))
    return PeopleAgreement(alpha, level, int(is_shared.sum()), tuple(kappas))


def _bins(audited: Audited, seed: int) -> tuple[Bin, ...]:
    edges = (0.0, *BIN_EDGES, 1.0)
    place = probability_bins(audited.teacher)
    bins = []
    for i in range(N_BINS):
        inside = audited.among(place == i)
        parts = np.column_stack([inside.people * inside.weights, inside.weights])
        people = bootstrap(
            sums_by_query(parts, inside.query[inside.judged]),
            lambda t: _ratio(t[:, 0], t[:, 1]),
            n_pairs=inside.judged.size,
            seed=seed,
        )
        teacher = float(inside.teacher.mean()) if inside.teacher.size else None
        bins.append(Bin(edges[i], edges[i + 1], inside.teacher.size, inside.judged.size, teacher, people))
    return tuple(bins)


def _student(audited: Audited, student: StudentVerdicts) -> StudentQuality:
    def defined(compute: object) -> CorrectedShare | None:
        try:
            return compute()  # type: ignore[operator,no-any-return]
        except UndefinedMeasure:
            return None

    return StudentQuality(
        threshold=student.threshold,
        kept=float(student.is_kept.mean()),
        precision=defined(lambda: share_relevant(audited.among(student.is_kept))),
        recall=defined(lambda: share_found(audited, student.is_kept)),
    )


def _self_consistency(pairs: Sequence[Pair]) -> SelfConsistency | None:
    known = [value for pair in pairs if (value := disagreement_of(pair)) is not None]
    if not known:
        return None
    return SelfConsistency(float(np.mean(known)), sum(value == 0.0 for value in known) / len(known), len(known))


def _suspects(
    pairs: Sequence[Pair], label: _Floats, judged: Judged, student: StudentVerdicts | None, seed: int
) -> Suspects | None:
    try:
        suspicion = suspect_labels(pairs, logits=None if student is None else student.logits, seed=seed)
    except InvalidInput:  # labels all on one side, or one query: nothing to hold them against
        return None
    is_wrong = (label[judged.index] >= 0.5) != (judged.relevance >= 0.5)
    in_top = np.isin(judged.index, suspicion.order[: len(pairs) // 5])
    n_wrong = float((is_wrong * judged.weights).sum())
    found = float((is_wrong * in_top * judged.weights).sum()) / n_wrong if n_wrong > 0.0 else None
    return Suspects(
        n_likely_wrong=suspicion.n_likely_wrong,
        auroc=auroc(suspicion.student, label >= 0.5),
        errors_in_top_fifth=found,
        evidence=suspicion.evidence,
    )


def _ratio(part: _Floats, whole: _Floats) -> _Floats:
    quotient: _Floats = np.divide(part, whole, out=np.full(part.shape, np.nan), where=whole > 0)
    return quotient
