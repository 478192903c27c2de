"""The records that a report is made of: numbers and their intervals. Shares are of all labelled pairs."""

from dataclasses import dataclass

from relgrade.audit.clusters import Interval
from relgrade.audit.ppi import CorrectedShare
from relgrade.audit.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class TeacherAgreement:
    """The teacher against people: shares and rates are of all pairs, weighted back from the sample."""

    kappa: Interval
    raw: Interval  # share of pairs with the same verdict
    weighted_kappa: Interval | None  # quadratic, where both sides gave grades 0 to 3
    people_base_rate: Interval  # share that people call relevant; kappa is low by nature where it is near 0 or 1
    teacher_base_rate: float  # share of all pairs with teacher probability >= 0.5
    precision: Interval  # of the pairs the teacher calls relevant, the share that people do
    recall: Interval  # of the pairs people call relevant, the share that the teacher does
    both: float  # share of all pairs: relevant for both
    teacher_only: float
    people_only: float
    neither: float
    counts: tuple[float, float, float, float]  # judged pairs behind the four, unweighted; a tie is half a pair twice
    n_ties: int  # judged pairs with as many people for as against


@dataclass(frozen=True, slots=True)
class PeopleAgreement:
    """People among themselves: what no teacher can beat."""

    alpha: Interval  # Krippendorff's: nominal for 0 and 1, ordinal for grades
    level: str
    n_pairs: int  # judged by two people or more
    kappas: tuple[tuple[str, str, Interval], ...]  # of each two people with pairs in common


@dataclass(frozen=True, slots=True)
class SelfConsistency:
    """Several teachers, or several samples of one, on all pairs where there were any."""

    mean_disagreement: float  # of field `disagreement`, in [0, 1]
    unanimous: float  # share of pairs without any
    n_pairs: int


@dataclass(frozen=True, slots=True)
class Bin:
    """One bin of the teacher's probability."""

    low: float
    high: float
    n_pairs: int
    n_judged: int
    teacher: float | None  # mean probability of all its pairs
    people: Interval  # share relevant


@dataclass(frozen=True, slots=True)
class StudentQuality:
    """A student's verdicts against people."""

    threshold: float  # probability
    kept: float  # share of all pairs
    precision: CorrectedShare | None  # None: people judged nothing that it keeps
    recall: CorrectedShare | None


@dataclass(frozen=True, slots=True)
class Suspects:
    """Labels most likely wrong; `relgrade audit relabel` writes the queue."""

    n_likely_wrong: int  # by confident learning: far too many where the student is weak
    auroc: float  # of the student against the teacher's labels: how much its word is worth
    errors_in_top_fifth: float | None  # share of the errors people found that lie in the most suspicious fifth
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditReport:
    """Everything an audit says."""

    n_pairs: int  # labelled
    n_queries: int
    n_drawn: int | None  # None: no sample was drawn, and the judged pairs count as drawn with equal chances
    n_judged: int
    n_judged_queries: int
    n_set_aside: int  # answers that took no part
    annotators: tuple[tuple[str, int], ...]  # name, pairs judged
    scale: str
    teacher: TeacherAgreement
    bins: tuple[Bin, ...]
    prevalence: CorrectedShare
    people: PeopleAgreement | None
    self_consistency: SelfConsistency | None
    student: StudentQuality | None
    suspects: Suspects | None
    verdict: Verdict
