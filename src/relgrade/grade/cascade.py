"""A first stage without an encoder: it settles documents that would hardly be kept, and passes the rest on.

What it may settle is bounded by a promise for each operating point, tested on queries (`pipeline/cascading.py`): of the
documents that the full grader keeps there, all but a small share are passed on. A document that is settled has the
probability that the first stage gives it, calibrated on the same queries, and is not relevant.
"""

import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from relgrade.bundle import Bundle
from relgrade.encoding import EncodedText, TextEncoder, TextTemplate
from relgrade.errors import GradingError, InvalidInput, OutputError
from relgrade.grade.first_measures import NAMES, Array, Tables, Tokens, measure
from relgrade.grade.runtime import Runtime, RuntimeOutput
from relgrade.grade.tokenizer import read_tokenizer
from relgrade.probability import logit_at, sigmoid

FORMAT = 1
ARCHITECTURE = "interaction"  # whose bundles have an encoder of single tokens
_LARGEST_CODE = 127
_BELOW = 0.99  # of the threshold: the most that the probability of a settled document is


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
        """Write one file, numpy's .npz without pickles; vectors in int8.

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
        largest = np.maximum(np.abs(self.tables.vectors).max(axis=1, keepdims=True), 1e-9)
        codes = np.rint(self.tables.vectors / largest * _LARGEST_CODE).astype(np.int8)
        try:
            with path.open("wb") as file:
                np.savez_compressed(
                    file,
                    about=np.frombuffer(json.dumps(about).encode("utf-8"), np.uint8),
                    idf=self.tables.idf,
                    codes=codes,
                    mean=self.mean,
                    deviation=self.deviation,
                    weights=self.weights,
                )
        except OSError as error:
            raise OutputError(f"the cascade cannot be written: {error}", path=path) from error

    @classmethod
    def load(cls, path: Path | str) -> Self:
        """Inverse of `save`; vectors are within half a code of what they were.

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
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            if isinstance(error, InvalidInput):
                raise
            raise InvalidInput(f"{path}: a file that `relgrade cascade` wrote was expected: {error}") from error


class FirstReader:
    """Texts as the first stage sees them.

    Args:
        bundle: of architecture `interaction`.
        tables: by token id of its tokenizer.

    Raises:
        InvalidInput: a bundle of another architecture.
    """

    def __init__(self, bundle: Bundle, tables: Tables) -> None:
        require_cascade(bundle)
        self._template = TextTemplate.from_json(bundle.manifest.template)
        self._texts = TextEncoder(read_tokenizer(bundle), self._template)
        self._tables = tables

    def queries(self, texts: Sequence[str]) -> dict[str, Tokens | None]:
        """Each distinct query; None for one without tokens, or of which a part is not read."""
        return self._look_up(texts, self._texts.encode(texts, kind="query"))

    def documents(self, texts: Sequence[str]) -> dict[str, Tokens | None]:
        """Each distinct rendered document, as `queries`."""
        return self._look_up(texts, self._texts.encode(texts, kind="document"))

    def _look_up(self, texts: Sequence[str], encoded: Sequence[EncodedText]) -> dict[str, Tokens | None]:
        head, tail = len(self._template.prefix), len(self._template.suffix)
        found: dict[str, Tokens | None] = {}
        for text, each in zip(texts, encoded, strict=True):
            ids = [i for window in each.windows for i in window[head : len(window) - tail]]
            found[text] = None if each.truncated or not ids else Tokens.of(np.asarray(ids), self._tables)
        return found


class CascadeRuntime:
    """Implements `grade.runtime.Runtime`: the first stage, then the full grader for what it passes on.

    Args:
        full: reads what is passed on.
        cascade: fitted on this bundle.
        bundle: of both.
        operating_point: whose promise holds.

    Raises:
        InvalidInput: the cascade is of another bundle or has no promise for the point.
    """

    def __init__(self, full: Runtime, cascade: Cascade, *, bundle: Bundle, operating_point: str) -> None:
        if cascade.bundle_hash != bundle.hash:
            raise InvalidInput(
                f"the cascade was fitted on the bundle {cascade.bundle_hash[:12]}, this one is {bundle.hash[:12]}; "
                "fit it again with `relgrade cascade`"
            )
        self.full = full
        self.cascade = cascade
        self._reader = FirstReader(bundle, cascade.tables)
        self._threshold = cascade.point(operating_point).threshold
        self._bundle = bundle
        self._calibration = bundle.manifest.calibration
        points = {point.name: point.threshold for point in bundle.manifest.operating_points}
        self._most = _BELOW * points[operating_point]

    def score(self, pairs: Sequence[tuple[str, str]]) -> RuntimeOutput:
        """As of the full grader, but for documents that are settled: zero windows, and `settled` tells them."""
        scores = self._first(pairs)
        settled = sigmoid(scores) < self._threshold  # NaN: passed on
        logits = np.empty(len(pairs), np.float64)
        for row in np.flatnonzero(settled).tolist():
            probability = min(float(self.cascade.probability(scores[row])), self._most)
            logits[row] = logit_at(self._calibration, probability)
        truncated, windows = np.zeros(len(pairs), np.bool_), np.zeros(len(pairs), np.int64)
        spans: list[tuple[int, int] | None] = [None] * len(pairs)
        rows = np.flatnonzero(~settled).tolist()
        if rows:
            try:
                output = self.full.score([pairs[row] for row in rows])
            except GradingError as error:  # it counts from its own first pair
                raise GradingError(str(error), index=rows[error.index]) from error
            logits[rows], truncated[rows], windows[rows] = output.logits, output.truncated, output.windows
            for i, row in enumerate(rows):
                spans[row] = output.span(i)
        return RuntimeOutput(logits, truncated, windows, spans, settled)

    def with_point(self, name: str) -> "CascadeRuntime":
        """The same for another operating point; raises InvalidInput where there is no promise for it."""
        return CascadeRuntime(self.full, self.cascade, bundle=self._bundle, operating_point=name)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """Model tokens of each text, special tokens left out."""
        return self.full.count_tokens(texts)

    def _first(self, pairs: Sequence[tuple[str, str]]) -> NDArray[np.float64]:
        """Scores of the first stage, NaN where it cannot see the whole pair; shape (n_pairs,)."""
        queries = self._reader.queries(list(dict.fromkeys(query for query, _ in pairs)))
        documents = self._reader.documents(list(dict.fromkeys(document for _, document in pairs)))
        scores = np.full(len(pairs), np.nan)
        for row, (query, document) in enumerate(pairs):
            asked, read = queries[query], documents[document]
            if asked is not None and read is not None:
                scores[row] = self.cascade.score(asked, read)
        return scores


def require_cascade(bundle: Bundle) -> None:
    """Raise InvalidInput for a bundle that can have no cascade."""
    manifest = bundle.manifest
    if manifest.architecture != ARCHITECTURE or manifest.collections:
        raise InvalidInput(
            f"{bundle.folder}: a cascade needs a bundle of architecture {ARCHITECTURE!r} without calibrations of "
            f"single collections; this one is {manifest.architecture!r}"
        )


def with_cascade(
    full: Runtime, source: Cascade | Path | str | None, *, bundle: Bundle, operating_point: str | None
) -> Runtime:
    """A runtime behind the first stage of a file, or the one that is given; None: the runtime itself.

    Raises:
        InvalidInput: something else, a file that is none, or as `CascadeRuntime`.
    """
    if source is None:
        return full
    if not isinstance(source, Cascade | str | Path) or source == "":
        raise InvalidInput(f"cascade: a file or a Cascade was expected, got {source!r}")
    cascade = source if isinstance(source, Cascade) else Cascade.load(source)
    point = operating_point or bundle.manifest.default_point
    return CascadeRuntime(full, cascade, bundle=bundle, operating_point=point)


def at_point(runtime: Runtime, name: str) -> Runtime:
    """The same runtime; one behind a first stage with the promise for another operating point."""
    return runtime.with_point(name) if isinstance(runtime, CascadeRuntime) else runtime


def full_of(runtime: Runtime) -> Runtime:
    """The runtime that reads whatever it is given: promises of a cascade are about documents, not sentences."""
    full: Runtime = getattr(runtime, "full", runtime)
    return full


def unit(vectors: Array) -> Array:
    """Rows at length 1; zero stays zero."""
    length = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    found: Array = (vectors / np.maximum(length, 1e-9)).astype(np.float32)
    return found
