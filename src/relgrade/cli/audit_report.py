"""The report of an audit as lines of text. It knows words and columns and computes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relgrade.audit.clusters import Interval
    from relgrade.audit.findings import AuditReport
    from relgrade.audit.ppi import CorrectedShare

_NAME = 34  # width of the first column


def report_lines(report: AuditReport) -> Iterator[str]:
    """The lines, sections divided by empty ones."""
    yield from _judged(report)
    yield ""
    yield from _teacher(report)
    yield ""
    yield from _bins(report)
    if report.people is not None:
        yield ""
        yield "People among themselves"
        yield _row(f"Krippendorff's alpha, {report.people.level}", report.people.alpha)
        for one, two, interval in report.people.kappas:
            yield _row(f"kappa, {one} and {two}", interval)
    if report.self_consistency is not None:
        same = report.self_consistency
        yield ""
        yield "Teacher with itself, or teachers among themselves"
        yield f"  {'unanimous':<{_NAME}}{same.unanimous:.1%} of {same.n_pairs:,} pairs"
        yield f"  {'mean disagreement':<{_NAME}}{same.mean_disagreement:.3f}"
    yield ""
    yield from _shares(report)
    if report.suspects is not None:
        yield ""
        suspects = report.suspects
        yield "Suspects"
        yield f"  {suspects.evidence}"
        yield f"  {'its AUROC against the teacher':<{_NAME}}{suspects.auroc:.3f}"
        yield f"  {'labels off, by confident learning':<{_NAME}}{suspects.n_likely_wrong:,}, an upper bound at best"
        if suspects.errors_in_top_fifth is not None:
            yield f"  {'errors in the top fifth':<{_NAME}}{suspects.errors_in_top_fifth:.0%} of those people found"
    yield ""
    yield f"Train a student on these labels: {report.verdict.can_train}"
    yield f"Set an operating point with them: {report.verdict.can_set_point}"
    yield from (f"  - {reason}" for reason in report.verdict.reasons)


def _judged(report: AuditReport) -> Iterator[str]:
    people = ", ".join(f"{name} {n:,}" for name, n in report.annotators)
    yield f"{report.n_judged:,} pairs of {report.n_judged_queries:,} queries judged ({people})"
    yield f"{report.n_pairs:,} labelled pairs of {report.n_queries:,} queries"
    if report.n_drawn is None:
        yield "no sample was drawn: the judged pairs count as if drawn with equal chances"
    elif report.n_judged < report.n_drawn:
        yield (
            f"{report.n_drawn - report.n_judged:,} of {report.n_drawn:,} drawn pairs are not judged; "
            "what was skipped may differ from the rest"
        )
    if report.n_set_aside:
        yield f"{report.n_set_aside:,} answers took no part: of a relabelling queue, or about other pairs"


def _teacher(report: AuditReport) -> Iterator[str]:
    teacher = report.teacher
    yield "Teacher against people (95 % interval, clustered by query)"
    yield _row("Cohen's kappa", teacher.kappa)
    if teacher.weighted_kappa is not None:
        yield _row("kappa of grades, quadratic", teacher.weighted_kappa)
    yield _row("same verdict", teacher.raw)
    yield _row("relevant, say people", teacher.people_base_rate)
    yield f"  {'relevant, says the teacher':<{_NAME}}{teacher.teacher_base_rate:.3f}"
    yield _row("teacher's precision", teacher.precision)
    yield _row("teacher's recall", teacher.recall)
    yield f"  {'':<{_NAME}}{'people: relevant':>18}{'people: not':>18}"
    both, teacher_only, people_only, neither = teacher.counts
    yield f"  {'teacher: relevant':<{_NAME}}{_cells(teacher.both, both, teacher.teacher_only, teacher_only)}"
    yield f"  {'teacher: not':<{_NAME}}{_cells(teacher.people_only, people_only, teacher.neither, neither)}"
    if teacher.n_ties:
        yield f"  {teacher.n_ties:,} judged pairs with as many people for as against, half of each on either side"


def _bins(report: AuditReport) -> Iterator[str]:
    yield "By the teacher's probability"
    yield f"  {'probability':<14}{'pairs':>9}{'judged':>9}{'teacher':>10}   people"
    for each in report.bins:
        if each.n_pairs:
            teacher = "-" if each.teacher is None else f"{each.teacher:.3f}"
            name = f"{each.low:g} to {each.high:g}"
            yield f"  {name:<14}{each.n_pairs:>9,}{each.n_judged:>9,}{teacher:>10}   {_interval(each.people)}"


def _shares(report: AuditReport) -> Iterator[str]:
    yield "Corrected for the teacher's errors (prediction-powered inference)"
    yield from _share("share relevant", report.prevalence)
    student = report.student
    if student is not None:
        yield f"  a student that keeps {student.kept:.1%}, from probability {student.threshold:.3f}:"
        for name, share in (("precision", student.precision), ("recall", student.recall)):
            if share is None:
                yield f"  {name:<{_NAME}}not known: people judged nothing it rests on"
            else:
                yield from _share(name, share)


def _share(name: str, share: CorrectedShare) -> Iterator[str]:
    yield _row(name, share.corrected)
    teacher = "-" if share.teacher_alone is None else f"{share.teacher_alone:.3f}"
    yield f"  {'':<{_NAME}}people alone {_interval(share.people_alone)}; teacher alone {teacher}"


def _row(name: str, interval: Interval) -> str:
    return f"  {name:<{_NAME}}{_interval(interval)}"


def _interval(interval: Interval) -> str:
    if interval.value is None:
        return "not defined"
    if interval.low is None or interval.high is None:
        return f"{interval.value:.3f} (no interval)"
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _cells(*values: float) -> str:
    """Shares, each with its count."""
    cells = (f"{share:.1%} ({n:,g})" for share, n in zip(values[::2], values[1::2], strict=True))
    return "".join(f"{cell:>18}" for cell in cells)
