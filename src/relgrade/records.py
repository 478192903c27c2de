"""The records that travel between steps: frozen, small, and free of behaviour beyond their own fields.

They know nothing of files, models or frameworks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal, get_args, overload

from relgrade.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Document:
    """A passage to be judged. Only `text` and `title` reach the model; `id` and `metadata` are the caller's."""

    text: str
    title: str | None = None
    id: str | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One query with one document, labelled or not: a row of the files that the steps hand on."""

    query_id: str
    query: str
    doc_id: str
    document: str  # the text the model reads; a known title is its first line, "title: ..."
    label: float | None = None  # P(relevant) in [0, 1]: 0 or 1 from people, between them from a teacher, None unknown
    split: str | None = None  # "train", "calibration" or "test"
    source: str | None = None  # collection the pair came from; caps, slices and balance work by it
    fields: Mapping[str, Any] = field(default_factory=dict)  # everything else the row held, kept as it was


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What the shipped graph says about a pair. Calibration and evaluation read these, never a model."""

    query_id: str
    doc_id: str
    logit: float  # log-odds before calibration
    label: float | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """What one or more teachers say of a pair. An error is a third state: no probability, and never "not relevant"."""

    query_id: str
    doc_id: str
    source: str | None = None
    rubric: str  # name@version of what "relevant" meant
    rubric_hash: str
    model: str  # asked; several are joined by " + "
    probability: float | None  # P(relevant) in [0, 1], the mean over the answers; None: an error
    label: int | None  # 0 or 1, the majority of the answers, a tie by the mean; None: an error, or a tie at 0.5
    grade: float | None = None  # mean grade, of a graded rubric
    label_mass: float | None = None  # share in [0, 1] of the answer token's probability that lay on answers; the lowest
    n_samples: int = 0  # answers that counted
    disagreement: float | None = None  # in [0, 1]: 0 all agree, 1 evenly divided; None: one answer, or none
    error: str | None = None
    method: str | None = None  # how the answers were read, joined by " + "
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None  # in the currency of the price table; None: no prices
    reply: str | None = None  # the text of the first answer


Verdict = Literal["relevant", "unsure", "not relevant"]
Stage = Literal["first", "full"]


@dataclass(frozen=True, slots=True)
class EvidenceSpan:
    """A sentence of a document, judged by itself under the document's title."""

    start: int  # code points into the text that the caller gave, the title not counted
    end: int  # one past the last
    text: str  # text[start:end]
    probability: float  # calibrated P(relevant) of the sentence as a document, in [0, 1]
    logit: float  # raw log-odds of the sentence


@dataclass(frozen=True, slots=True)
class Grade:
    """A verdict on one document. It does not depend on the other documents of the call.

    `relevant` is the word of one operating point and decides what is kept. `verdict` is that of the two points that the
    bundle names for it: "relevant" at or above the upper threshold, "unsure" between them, "not relevant" below both.
    """

    index: int  # position of the document in the call, from 0
    logit: float  # raw log-odds of the model, before calibration; of a long document, the best part's, corrected
    probability: float  # calibrated P(relevant) in [0, 1]
    relevant: bool  # probability >= threshold of the operating point
    operating_point: str  # name of the point that decided
    truncated: bool  # True when the model did not read the whole document
    windows: int  # pieces the document was read in, those of all its parts together; 0 for a document without text
    id: str | None = None  # the caller's id of the document
    document: Any = field(default=None, repr=False, compare=False)  # the caller's own object, untouched
    verdict: Verdict = None  # type: ignore[assignment]  # left out, or a bundle without the two points: as `relevant`
    collection: str | None = None  # whose own calibration and points judged; None: those pooled over all
    # Sentences that carry the verdict, best first; () for one that is not relevant, None: was not asked for.
    evidence: tuple[EvidenceSpan, ...] | None = field(default=None, repr=False, compare=False)
    # Of a document too long to be read at once, the part whose logit counted: (start, end) in code points of the text
    # that the caller gave, the title not counted; None: it was read at once.
    best_window: tuple[int, int] | None = None
    stage: Stage = "full"  # what decided: the first stage of a cascade, which reads nothing, or the grader itself

    def __post_init__(self) -> None:
        if self.verdict is None:
            object.__setattr__(self, "verdict", "relevant" if self.relevant else "not relevant")


@dataclass(frozen=True, slots=True)
class GradedList(Sequence[Grade]):
    """The grades of one query's documents, in the order of the call unless a method says otherwise."""

    query: str
    grades: tuple[Grade, ...]
    operating_point: "OperatingPoint"
    bundle_hash: str  # sha256 of the bundle's manifest: which grader said so
    any_relevant_probability: float | None = None  # calibrated P(a document of the call is relevant); None: not fitted

    @overload
    def __getitem__(self, position: int) -> Grade: ...
    @overload
    def __getitem__(self, position: slice) -> tuple[Grade, ...]: ...
    def __getitem__(self, position: int | slice) -> Grade | tuple[Grade, ...]:
        return self.grades[position]

    def __len__(self) -> int:
        return len(self.grades)

    def __iter__(self) -> Iterator[Grade]:
        return iter(self.grades)

    @property
    def documents(self) -> list[Any]:
        """The caller's own objects, in the order of the grades."""
        return [grade.document for grade in self.grades]

    @property
    def any_relevant(self) -> bool:
        """False when nothing in the list was judged relevant: the retrieval has failed."""
        return any(grade.relevant for grade in self.grades)

    def ranked(self) -> "GradedList":
        """The same grades by falling logit; ties keep the order of the call."""
        ordered = tuple(sorted(self.grades, key=lambda grade: -grade.logit))
        return replace(self, grades=ordered)


PromiseKind = Literal["precision", "recall", "lost-queries", "false-keeps"]


@dataclass(frozen=True, slots=True)
class Promise:
    """What an operating point holds to on new queries of the kind it was calibrated on.

    `precision`: of the documents kept, a share of at least `target` is relevant. `recall`: of the relevant documents, a
    share of at least `target` is kept. `lost-queries`: at most a share `target` of the queries that have a relevant
    document lose all of them. `false-keeps`: at most a share `target` of the queries without a relevant document keep
    any document.
    """

    kind: PromiseKind
    target: float  # share in (0, 1)
    delta: float = 0.1  # chance, over the draw of the calibration queries, that the promise does not hold; in (0, 1)

    def __post_init__(self) -> None:
        if self.kind not in get_args(PromiseKind):
            raise InvalidInput(f"a promise is one of {', '.join(get_args(PromiseKind))}, got {self.kind!r}")
        for name in ("target", "delta"):
            value = getattr(self, name)
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number or not 0.0 < value < 1.0:
                raise InvalidInput(f"Promise.{name} is a share between 0 and 1, both excluded, got {value!r}")


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """A threshold and the evidence for it. A document is kept when probability >= threshold."""

    name: str
    threshold: float  # calibrated probability in [0, 1]
    evidence: Mapping[str, Any] = field(
        default_factory=dict
    )  # JSON: how it was chosen, on how many queries and pairs, what it reached, whose labels it holds against
    promise: Promise | None = None  # None: the threshold was chosen without a guarantee

    def __post_init__(self) -> None:
        if not 0.0 <= self.threshold <= 1.0:
            raise InvalidInput(f"a threshold is a probability in [0, 1], got {self.threshold!r}")


@dataclass(frozen=True, slots=True)
class Calibration:
    """probability = sigmoid(g(logit) + intercept), computed in float64. Slope 1, intercept 0 changes nothing.

    Without knots g(logit) = slope * logit. With knots, g runs straight from knot to knot, and beyond the first and the
    last it goes on with `slope`. Either way it rises strictly, so that different logits never become ties.
    """

    method: str = "identity"  # "identity", "temperature", "platt" or "isotonic"
    slope: float = 1.0
    intercept: float = 0.0
    evidence: Mapping[str, Any] = field(
        default_factory=dict
    )  # JSON: queries and pairs it was fitted on, log loss before and after
    knots: tuple[tuple[float, float], ...] = ()  # (logit, log-odds), both strictly rising
    prevalence: float | None = None  # share of relevant pairs that the probabilities are made for, in (0, 1)

    def __post_init__(self) -> None:
        if not self.slope > 0.0:
            raise InvalidInput(f"a calibration must keep the order of logits: slope > 0, got {self.slope!r}")
        for (x, y), (next_x, next_y) in pairwise(self.knots):
            if not (x < next_x and y < next_y):
                raise InvalidInput(
                    f"the knots of a calibration must rise strictly, got {(x, y)} before {next_x, next_y}"
                )
        if self.prevalence is not None and not 0.0 < self.prevalence < 1.0:
            raise InvalidInput(f"the prevalence of a calibration lies between 0 and 1, got {self.prevalence!r}")


@dataclass(frozen=True, slots=True)
class VerdictPoints:
    """Names of the two operating points of the three-way verdict.

    Where the threshold of `upper` lies at or below that of `lower`, nothing is unsure: whatever reaches `upper` is
    relevant. The promise of `lower` holds there too when it is one that keeping more cannot break, as recall is.
    """

    upper: str  # at or above its threshold a document is "relevant"
    lower: str  # below both thresholds it is "not relevant"


@dataclass(frozen=True, slots=True)
class CollectionPoints:
    """The calibration and the operating points of one collection; the names are those of the pooled points."""

    value: str  # of the field that tells collections apart
    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]

    def __post_init__(self) -> None:
        if not self.value:
            raise InvalidInput("the value that names a collection is not empty")


@dataclass(frozen=True, slots=True)
class Collections:
    """Per-collection calibrations and points; a document whose field has another value, or none, gets the pooled."""

    field: str  # `source`, or a name in the document's metadata or the pair's fields
    members: tuple[CollectionPoints, ...]

    def __post_init__(self) -> None:
        values = [member.value for member in self.members]
        if not self.field or not values or len(set(values)) != len(values):
            raise InvalidInput(f"collections need a field and values that differ, got {self.field!r} and {values}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ListCalibration:
    """P(some document of a list is relevant), a logistic regression on what the list's logits say together.

    sigmoid(best * max + second * second highest + log_sum_exp * log(sum(exp)) + log_n * log(n documents) + intercept),
    of raw logits, none taken lower than `floor`; a list of one document has its second highest at the floor.
    """

    best: float = 0.0
    second: float = 0.0
    log_sum_exp: float = 0.0
    log_n: float = 0.0
    intercept: float = 0.0
    floor: float = -15.0
    evidence: Mapping[str, Any] = field(default_factory=dict)  # JSON


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepPolicy:
    """What `Grader.filter` keeps beyond the verdicts. Limits win over `min_keep`."""

    min_keep: int = 0  # keep at least this many, the best of the rejected ones fill up
    max_keep: int | None = None  # keep at most this many, the best
    max_tokens: int | None = None  # keep at most this many model tokens of text in all, the best first

    def __post_init__(self) -> None:
        for name, lowest in (("min_keep", 0), ("max_keep", 1), ("max_tokens", 1)):
            value = getattr(self, name)
            if value is None and name != "min_keep":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                raise InvalidInput(f"KeepPolicy.{name} must be a whole number >= {lowest}, got {value!r}")
        if self.max_keep is not None and self.max_keep < self.min_keep:
            raise InvalidInput(f"KeepPolicy.max_keep ({self.max_keep}) is below min_keep ({self.min_keep})")
