"""Whether a loaded grader still says what it said when its bundle was made; it compares numbers and loads nothing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from relgrade.bundle import GoldenPair
from relgrade.errors import ParityError

# Another CPU sums floats in another order, which moves a logit far less than this; a graph that computes in int8 may
# round an activation the other way. A wrong graph, tokenizer or template is off by whole units.
GOLDEN_TOLERANCE = 0.1


@dataclass(frozen=True, slots=True)
class GoldenReport:
    """How the golden pairs of a bundle come out on this machine."""

    n_pairs: int
    largest_difference: float  # absolute, in logits
    worst: int  # position of that pair in goldens.jsonl, from 0


def check_goldens(goldens: Sequence[GoldenPair], logits: Sequence[float], *, tolerance: float) -> GoldenReport:
    """Compare logits with those of the golden pairs.

    Args:
        goldens: at least one.
        logits: of the same pairs, found now.
        tolerance: largest absolute difference that still counts as the same.

    Raises:
        ParityError: a difference is larger.
    """
    differences = np.abs(np.array(logits) - np.array([golden.logit for golden in goldens]))  # (n_pairs,)
    worst = int(differences.argmax())
    report = GoldenReport(len(goldens), float(differences[worst]), worst)
    if report.largest_difference > tolerance:
        raise ParityError(
            f"golden pair {worst}: expected logit {goldens[worst].logit:.4f}, found {logits[worst]:.4f}, "
            f"more than {tolerance} apart; another onnxruntime or CPU reads this bundle differently: "
            "calibrate it here before use"
        )
    return report
