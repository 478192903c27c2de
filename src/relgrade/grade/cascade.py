"""A first stage without an encoder: it settles documents that would hardly be kept, and passes the rest on.

What it may settle is bounded by a promise for each operating point, tested on queries (`pipeline/cascading.py`): of the
documents that the full grader keeps there, all but a small share are passed on. A document that is settled has the
probability that the first stage gives it, calibrated on the same queries, and its `relevant` is False. Its `verdict`
follows from that probability and may be "unsure".
"""

import json
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from relgrade.errors import InvalidInput
from relgrade.formats.write import replaced_file
from relgrade.grade.first_measures import NAMES, Array, Tables, Tokens, measure
from relgrade.probability import sigmoid

FORMAT = 1
_LARGEST_CODE = 127
_NO_CASCADE = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, slots=True)
class CascadePoint:
    """What the first stage settles at one operating point of the bundle."""

    name: str
    threshold: float  # in (0, 1): a document is settled when sigmoid(score) is below it
    evidence: Mapping[str, Any]  # JSON: target, delta, bound, and what was counted


@dataclass(frozen=True, slots=True, eq=False)
class Cascade:
    """A fitted first stage. It belongs to one bundle: with other weights or points its promises mean nothing."""

    bundle_hash: str
    tables: Tables
    mean: Array  # (n_measures,) of the measures of the pairs it was fitted on
    deviation: Array  # (n_measures,) > 0
    weights: Array  # (n_measures,) of the standardised measures
    intercept: float
    calibration: tuple[float, float]  # slope > 0 and intercept: score -> log-odds of being relevant
    points: tuple[CascadePoint, ...]

    def score(self, query: Tokens, document: Tokens) -> float:
        """Log-odds that the full grader keeps the document, at its default point when this was fitted."""
        standard = (measure(query, document) - self.mean) / self.deviation
        return float(standard @ self.weights) + self.intercept

    def probability(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        """P(relevant) of documents of which nothing but the score is known, in [0, 1], same shape."""
        slope, intercept = self.calibration
        return sigmoid(slope * scores + intercept)

    def point(self, name: str) -> CascadePoint:
        """The promise for an operating point.

        Raises:
            InvalidInput: none was found for it.
        """
        for each in self.points:
            if each.name == name:
                return each
        known = ", ".join(each.name for each in self.points) or "none"
        raise InvalidInput(f"the cascade has no promise for the operating point {name!r}; it has: {known}")

    def save(self, path: Path) -> None:
        """Write one file, numpy's .npz without pickles, vectors in int8; it takes the place of an older one when whole.

        Raises:
            OutputError: it cannot be written.
        """
        about = {
            "format": FORMAT,
            "bundle_hash": self.bundle_hash,
            "measures": list(NAMES),
            "intercept": self.intercept,
            "calibration": list(self.calibration),
            "points": [asdict(each) for each in self.points],
        }
        with replaced_file(path) as file:
            np.savez_compressed(
                file,
                about=np.frombuffer(json.dumps(about).encode("utf-8"), np.uint8),
                idf=self.tables.idf,
                codes=codes_of(self.tables.vectors),
                mean=self.mean,
                deviation=self.deviation,
                weights=self.weights,
            )

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Inverse of `save`.

        Raises:
            InvalidInput: no such file, or not a cascade of this relgrade.
        """
        try:
            with Path(path).open("rb") as opened, np.load(opened, allow_pickle=False) as file:
                arrays = {name: file[name] for name in ("about", "idf", "codes", "mean", "deviation", "weights")}
            about = json.loads(arrays["about"].tobytes())
            if about["format"] != FORMAT or about["measures"] != list(NAMES):
                raise InvalidInput(f"{path}: a cascade of another relgrade; fit it again with `relgrade cascade`")
            slope, intercept = (float(each) for each in about["calibration"])
            _require_sound(arrays, about, slope=slope)
            return cls(
                bundle_hash=about["bundle_hash"],
                tables=Tables(arrays["idf"].astype(np.float32), unit(arrays["codes"].astype(np.float32))),
                mean=arrays["mean"],
                deviation=arrays["deviation"],
                weights=arrays["weights"],
                intercept=float(about["intercept"]),
                calibration=(slope, intercept),
                points=tuple(CascadePoint(**each) for each in about["points"]),
            )
        except _NO_CASCADE as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"{path}: a file that `relgrade cascade` wrote was expected: {error}") from error


def _require_sound(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any], *, slope: float) -> None:
    """Raise ValueError for a file whose parts cannot be those of one cascade."""
    of_measures = [arrays[name] for name in ("mean", "deviation", "weights")]
    idf, codes = arrays["idf"], arrays["codes"]
    thresholds = [float(each["threshold"]) for each in about["points"]]
    checks = {
        "a number for each measure": all(each.shape == (len(NAMES),) for each in of_measures),
        "finite numbers": all(np.isfinite(each).all() for each in (*of_measures, idf))
        and all(map(math.isfinite, (float(about["intercept"]), *map(float, about["calibration"])))),
        "deviations above 0": bool((arrays["deviation"] > 0).all()),
        "a vector of int8 and an idf >= 0 for each token": codes.ndim == 2
        and codes.dtype == np.int8
        and idf.shape == codes.shape[:1]
        and bool((idf >= 0).all()),
        "a slope above 0": slope > 0,
        "thresholds between 0 and 1": all(0.0 < each < 1.0 for each in thresholds) and bool(thresholds),
        "the hash of a bundle": isinstance(about["bundle_hash"], str),
    }
    missing = [what for what, is_there in checks.items() if not is_there]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")


def codes_of(vectors: Array) -> NDArray[np.int8]:
    """Vectors in int8, the largest entry of each at 127; those of `unit(codes)` are the codes again."""
    largest = np.maximum(np.abs(vectors).max(axis=1, keepdims=True), 1e-9)
    codes: NDArray[np.int8] = np.rint(vectors / largest * _LARGEST_CODE).astype(np.int8)
    return codes


def unit(vectors: Array) -> Array:
    """Rows at length 1; zero stays zero."""
    length = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    found: Array = (vectors / np.maximum(length, 1e-9)).astype(np.float32)
    return found
