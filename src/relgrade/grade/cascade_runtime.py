"""The two stages as one runtime: documents that the first settles are not read, the others are read as ever."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from relgrade.bundle import Bundle
from relgrade.encoding import EncodedText, TextEncoder, TextTemplate
from relgrade.errors import GradingError, InvalidInput
from relgrade.grade.cascade import Cascade
from relgrade.grade.first_measures import Tables, Tokens
from relgrade.grade.runtime import Runtime, RuntimeOutput
from relgrade.grade.tokenizer import read_tokenizer
from relgrade.probability import logit_at, sigmoid

ARCHITECTURE = "interaction"  # whose bundles have an encoder of single tokens
_BELOW = 0.99  # of the threshold: the most that the probability of a settled document is


class FirstReader:
    """Texts as the first stage sees them.

    Args:
        bundle: of architecture `interaction`.
        tables: by token id of its tokenizer.

    Raises:
        InvalidInput: a bundle of another architecture, or tables of another tokenizer.
    """

    def __init__(self, bundle: Bundle, tables: Tables) -> None:
        require_cascade(bundle)
        self._template = TextTemplate.from_json(bundle.manifest.template)
        tokenizer = read_tokenizer(bundle)
        n_vocabulary = n_tokens_of(tokenizer)
        if len(tables.idf) != n_vocabulary:
            raise InvalidInput(
                f"the first stage knows {len(tables.idf):,} tokens, the tokenizer of {bundle.folder} has "
                f"{n_vocabulary:,}; fit it again with `relgrade cascade`"
            )
        self._texts = TextEncoder(tokenizer, self._template)
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
        self._point = operating_point
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
        if name == self._point:
            return self
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


def n_tokens_of(tokenizer: Tokenizer) -> int:
    """Token ids that a tokenizer can give, from 0 on."""
    return int(max(tokenizer.get_vocab(with_added_tokens=True).values())) + 1


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
