"""From grades of rewritten pairs to the stability report: shares with intervals by query, and the checks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.labelled import labels_of
from benchmarks.perturbations import ATTACKS, HELD_ATTACKS, PERTURBATIONS
from relgrade.evaluate import Estimate
from relgrade.evaluate.intervals import draw_queries, estimate, ratio_draws, share_estimate
from relgrade.records import Pair

MAX_FLIPS = 0.01  # share of verdicts that may flip under a perturbation the target names

Texts = list[tuple[str, str]]
Variants = dict[str, list[tuple[str, str] | None]]  # name -> rewritten pairs, None: not rewritten; "": as they are


@dataclass(frozen=True, slots=True)
class Graded:
    """What the grader said of some pairs, each of shape (n_pairs,)."""

    logits: NDArray[np.float64]
    probabilities: NDArray[np.float64]
    is_kept: NDArray[np.bool_]  # at the default point


@dataclass(frozen=True, slots=True)
class Sample:
    """The pairs of a run; queries are told apart by their text, because collections share some."""

    pairs: tuple[Pair, ...]
    n_left_out: int  # longer than the limit, before any were drawn
    n_draws: int
    seed: int

    @property
    def texts(self) -> Texts:
        """(query, document) of each."""
        return [(pair.query, pair.document) for pair in self.pairs]

    @property
    def is_irrelevant(self) -> NDArray[np.bool_]:
        """Shape (n_pairs,)."""
        return np.asarray(labels_of(self.pairs) == 0.0)

    def share(self, hits: NDArray[Any], of: NDArray[np.bool_]) -> Estimate:
        """Mean of `hits`, shape (n_pairs,), over the pairs in `of`, with an interval by query."""
        if not of.any():
            return Estimate(None, None, None, 0, 0, "no such pair was drawn")
        query = np.unique([pair.query for pair in self.pairs], return_inverse=True)[1][of]
        query = np.unique(query, return_inverse=True)[1]
        part = np.bincount(query, weights=hits[of].astype(np.float64)).astype(np.float64)
        whole = np.bincount(query).astype(np.float64)
        draws = ratio_draws(draw_queries(part.size, n_draws=self.n_draws, seed=self.seed), part, whole)
        n_pairs, is_flag = int(of.sum()), hits.dtype == np.bool_
        if is_flag and part.sum() in (0.0, whole.sum()):  # all alike: the bootstrap would give a point
            return share_estimate(part > 0, draws, n_pairs=n_pairs)
        return estimate(float(part.sum() / whole.sum()), draws, n_queries=part.size, n_pairs=n_pairs)


def measure_flips(sample: Sample, variants: Variants, graded: dict[str, Graded]) -> dict[str, dict[str, Any]]:
    """By perturbation: share of verdicts that flip, and the mean absolute change of the logit, on pairs it changed."""
    before, found = graded[""], {}
    for each in PERTURBATIONS:
        name = f"{each.part}: {each.name}"
        after, changed = graded[name], np.asarray([texts is not None for texts in variants[name]])
        moved = np.abs(np.where(changed, after.logits - before.logits, 0.0))
        found[name] = {
            "is_held": each.is_held,
            "n_flipped": int((after.is_kept != before.is_kept)[changed].sum()),
            "flips": asdict(sample.share(after.is_kept != before.is_kept, changed)),
            "logit_change": asdict(sample.share(moved, changed)),
        }
    return found


def measure_attacks(
    sample: Sample,
    graded: dict[str, Graded],
    cosines: dict[str, NDArray[np.float64]],
    *,
    attacked: NDArray[np.bool_],
    thresholds: Mapping[str, float],
) -> dict[str, dict[str, Any]]:
    """By operating point and attack: the share of irrelevant documents that become kept, of those that were not.

    Args:
        sample: the pairs.
        graded: by variant.
        cosines: by attack, and "" before; each of shape (n_pairs,), NaN where nothing was attacked.
        attacked: irrelevant pairs whose documents were rewritten, shape (n_pairs,).
        thresholds: of the grader's points, on its probability.
    """
    found = {}
    for point, threshold in thresholds.items():
        kept = graded[""].probabilities >= threshold
        cut = matched_threshold(cosines[""][attacked], int((kept & attacked).sum()))
        cosine_kept = cosines[""] >= cut
        rows = {}
        for attack in ATTACKS:
            newly = graded[attack.name].probabilities >= threshold
            cosine_newly = cosines[attack.name] >= cut
            rows[attack.name] = {
                "grader": asdict(sample.share(newly, attacked & ~kept)),
                "cosine": asdict(sample.share(cosine_newly, attacked & ~cosine_kept)),
                # Of all attacked documents, so that both stand on the same pairs and draws.
                "kept_after_difference": asdict(sample.share(newly.astype(float) - cosine_newly, attacked)),
            }
        found[point] = {
            "threshold": threshold,
            "cosine_threshold": cut,
            "kept_before": {
                "grader": asdict(sample.share(kept, attacked)),
                "cosine": asdict(sample.share(cosine_kept, attacked)),
            },
            "attacks": rows,
        }
    return found


def matched_threshold(scores: NDArray[np.float64], n_kept: int) -> float:
    """The threshold at or above which `n_kept` of the scores lie, more where the last of them is tied."""
    if n_kept == 0:
        return float(np.nextafter(scores.max(), np.inf)) if scores.size else 1.0
    return float(np.sort(scores)[-n_kept])


def summarise(report: dict[str, Any], *, default_point: str) -> dict[str, Any]:
    """The line for machines: the worst perturbation of those the target names, the attacks, and the checks."""
    held = {name: row["flips"]["value"] or 0.0 for name, row in report["flips"].items() if row["is_held"]}
    worst = max(held, key=lambda name: held[name])
    attacks = report["attacks"][default_point]["attacks"]
    rates = {name: {who: _rounded(row[who]["value"]) for who in ("grader", "cosine")} for name, row in attacks.items()}
    below = {
        point: all(
            (at["attacks"][name]["grader"]["value"] or 0.0) < (at["attacks"][name]["cosine"]["value"] or 0.0)
            for name in HELD_ATTACKS
        )
        for point, at in report["attacks"].items()
    }
    return {
        "benchmark": "stability",
        "bundle_hash": report["bundle_hash"],
        "n_pairs": report["sample"]["n_pairs"],
        "worst_perturbation": worst,
        "worst_flips": round(held[worst], 4),
        "over_the_limit": sorted(name for name, share in held.items() if share > MAX_FLIPS),
        "flips_ok": held[worst] <= MAX_FLIPS,
        "become_kept": rates,
        "attacks_ok": below[default_point],
        "attacks_ok_by_point": below,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
