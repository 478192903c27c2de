"""What a search for a threshold found, whether or not one passed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A threshold that passed, or the one that came nearest."""

    threshold: float | None  # None: none passed
    closest: float | None  # the threshold itself, or the one nearest to passing; None when there is none to speak of
    bound: float | None  # confidence bound at `closest`: from below for precision and recall, else from above
    estimate: float | None  # the promised share at `closest`, over all calibration queries, weighed as promised
    method: str
    statement: str  # what is promised, in words
    n_queries_needed: int | None = None  # roughly, when none passed
    counts: Mapping[str, Any] = field(default_factory=dict)  # JSON: queries by what they were used for
