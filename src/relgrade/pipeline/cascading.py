"""Fits the first stage of a cascade to a bundle: what it may settle is promised on queries that did not fit it.

Half of the queries teach the first stage which documents the full grader keeps, the other half test how low a score may
be before such a document is lost. Labels only calibrate the probability of what is settled.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relgrade.bundle import Bundle
from relgrade.calibrate import certify
from relgrade.calibrate.logistic import fit_logistic
from relgrade.encoding import TextTemplate, clean_text
from relgrade.errors import InvalidInput, InvalidSettings, NoSafeThreshold
from relgrade.grade.cascade import Cascade, CascadePoint, codes_of, unit
from relgrade.grade.cascade_runtime import FirstReader, n_tokens_of, require_cascade
from relgrade.grade.first_measures import Array, Tables, measure
from relgrade.grade.interaction import ENCODER_ROLE
from relgrade.grade.runtimes import load_runtime
from relgrade.grade.sessions import open_session
from relgrade.grade.tokenizer import read_tokenizer
from relgrade.pipeline.scoring import score_pairs
from relgrade.probability import calibrated_probability, sigmoid
from relgrade.records import Pair, Promise

BATCH = 256  # tokens that the encoder reads at once, each as a text of its own


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeSettings:
    """What the first stage promises, and how it is made."""

    share: float = 0.98  # of the documents that the full grader keeps, those that are passed on at least, in (0, 1)
    delta: float = 0.1  # chance, over the draw of the queries, that the promise is broken
    max_per_query: int = 3  # documents that one query counts at most
    n_dimensions: int = 64  # of a token's vector: one byte each in the file
    ridge: float = 1.0  # pull of the weights towards 0
    seed: int = 0  # of the division of the queries; fixed beforehand

    def __post_init__(self) -> None:
        for name in ("share", "delta"):
            if not 0.0 < getattr(self, name) < 1.0:
                raise InvalidSettings(f"cascade.{name} must be between 0 and 1, got {getattr(self, name)}")
        if min(self.max_per_query, self.n_dimensions) < 1 or not self.ridge > 0.0:
            raise InvalidSettings("cascade: max_per_query and n_dimensions must be >= 1, ridge > 0")
        if self.seed < 0:
            raise InvalidSettings(f"cascade.seed must be >= 0, got {self.seed}")


def fit_cascade(
    bundle: Bundle,
    pairs: Sequence[Pair],
    settings: CascadeSettings,
    *,
    logits: NDArray[np.float64] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Cascade:
    """Fit and promise.

    Args:
        bundle: whose verdicts are to be kept.
        pairs: labelled, of queries that are like those to come and that trained nothing; with documents about
            something else among them, since those are what a first stage is for.
        settings: the promise.
        logits: of the bundle for these pairs, where they are known, shape (n_pairs,).
        on_progress: is told how many pairs each piece of the full grader's work had.

    Raises:
        InvalidInput: a bundle that can have no cascade, too few queries, or labels that the first stage contradicts.
        NoSafeThreshold: the promise cannot be kept at any operating point.
    """
    require_cascade(bundle)
    if logits is None:
        logits = np.array([s.logit for s in score_pairs(pairs, load_runtime(bundle), on_progress=on_progress)])
    query_ids = np.array([f"{pair.source}/{pair.query_id}" for pair in pairs])
    teaches = _half(query_ids, settings.seed)
    taught = [pair for pair, is_taught in zip(pairs, teaches.tolist(), strict=True) if is_taught]
    tables = read_tables(bundle, taught, settings.n_dimensions)
    measures, is_seen = measure_pairs(bundle, pairs, tables)
    kept = calibrated_probability(bundle.manifest.calibration, logits)
    points = {point.name: point.threshold for point in bundle.manifest.operating_points}
    own = (kept >= points[bundle.manifest.default_point]).astype(np.float64)
    rows = teaches & is_seen
    if not 0 < own[rows].sum() < rows.sum():
        raise InvalidInput("a cascade needs documents that the grader keeps and such that it drops, in half the pairs")
    mean, deviation = measures[rows].mean(0), np.maximum(measures[rows].std(0), 1e-3)
    standard = (measures - mean) / deviation
    weights, intercept = _logistic(standard[rows], own[rows], settings.ridge)
    stored = weights.astype(np.float32)  # as it will be used: thresholds are scores of single documents
    scores = standard @ stored + intercept
    rows = ~teaches & is_seen
    slope, at_zero = _relevance(scores[rows], np.array([pair.label for pair in pairs], np.float64)[rows])
    found = [
        _promised(name, scores, (kept >= threshold) & ~teaches, rows, query_ids, settings)
        for name, threshold in points.items()
    ]
    return Cascade(
        bundle_hash=bundle.hash,
        tables=tables,
        mean=mean,
        deviation=deviation,
        weights=stored,
        intercept=intercept,
        calibration=(slope, at_zero),
        points=_those_found(found),
    )


def read_tables(bundle: Bundle, pairs: Sequence[Pair], n_dimensions: int) -> Tables:
    """Inverse document frequencies over the documents of the pairs, and what the encoder makes of each token alone.

    Vectors are brought to their principal components, as of Tulkens and van Dongen 2024 (model2vec).

    Args:
        bundle: whose tokenizer and encoder are used.
        pairs: whose distinct documents are counted.
        n_dimensions: of the vectors.
    """
    template = TextTemplate.from_json(bundle.manifest.template)
    tokenizer = read_tokenizer(bundle)
    n_vocabulary = n_tokens_of(tokenizer)
    session = open_session(bundle.path(bundle.manifest.graphs[ENCODER_ROLE]))
    states = []
    for start in range(0, n_vocabulary, BATCH):
        texts = [
            [*template.prefix, token, *template.suffix] for token in range(start, min(start + BATCH, n_vocabulary))
        ]
        ids = np.asarray(texts, np.int64)
        states.append(session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[1])
    vectors = _principal(np.concatenate(states).astype(np.float64), n_dimensions)
    vectors = unit(codes_of(vectors).astype(np.float32))  # as they are kept: the promise is tested on what is used
    reader = FirstReader(bundle, Tables(np.zeros(n_vocabulary, np.float32), vectors))
    documents = reader.documents(list(dict.fromkeys(clean_text(pair.document) for pair in pairs)))
    counts = np.zeros(n_vocabulary)
    for document in documents.values():
        if document is not None:
            counts[np.unique(document.ids)] += 1
    idf = np.log1p((len(documents) - counts + 0.5) / (counts + 0.5)).astype(np.float32)
    return Tables(idf, vectors)


def measure_pairs(bundle: Bundle, pairs: Sequence[Pair], tables: Tables) -> tuple[Array, NDArray[np.bool_]]:
    """Measures of pairs, shape (n_pairs, n_measures), and whether the first stage sees the whole pair, (n_pairs,)."""
    reader = FirstReader(bundle, tables)
    texts = [(clean_text(pair.query), clean_text(pair.document)) for pair in pairs]
    queries = reader.queries(list(dict.fromkeys(query for query, _ in texts)))
    documents = reader.documents(list(dict.fromkeys(document for _, document in texts)))
    looked_up = [(queries[query], documents[document]) for query, document in texts]
    is_seen = np.array([query is not None and document is not None for query, document in looked_up])
    rows = [measure(query, document) for query, document in looked_up if query is not None and document is not None]
    measures = np.zeros((len(pairs), rows[0].size if rows else 0), np.float32)
    measures[is_seen] = rows
    return measures, is_seen


def _half(query_ids: NDArray[Any], seed: int) -> NDArray[np.bool_]:
    """Whether the query of each pair teaches; those of the other half test."""
    queries = np.unique(query_ids)
    if queries.size < 2:
        raise InvalidInput(f"a cascade is fitted on queries; two at least were expected, got {queries.size}")
    order = np.random.default_rng(seed).permutation(queries)
    return np.isin(query_ids, order[: queries.size // 2])


def _logistic(design: NDArray[Any], target: NDArray[np.float64], ridge: float) -> tuple[NDArray[np.float64], float]:
    """Weights and intercept."""
    whole = np.column_stack([design, np.ones(len(design))]).astype(np.float64)
    found = fit_logistic(whole, target, weights=np.ones(len(target)), ridge=[*[ridge] * design.shape[1], 0.0])
    return found[:-1], float(found[-1])


def _relevance(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept from scores to the log-odds of being relevant."""
    n_relevant = int(labels.sum())
    if not 0 < n_relevant < len(labels):
        raise InvalidInput(
            f"{n_relevant:,} of the {len(labels):,} test documents are labelled relevant; give relevant and irrelevant "
            "ones: probabilities of what is settled are calibrated on them"
        )
    slope, at_zero = _logistic(scores[:, None], labels, 1e-6)
    if not slope[0] > 0.0:
        raise InvalidInput(
            f"the likelier the grader keeps a document, the less relevant its label says it is (slope {slope[0]:.2f}); "
            "look whether the labels are turned round"
        )
    return float(slope[0]), at_zero


def _promised(
    name: str,
    scores: NDArray[np.float64],
    is_kept: NDArray[np.bool_],
    rows: NDArray[np.bool_],
    query_ids: NDArray[Any],
    settings: CascadeSettings,
) -> CascadePoint | NoSafeThreshold:
    """The promise for one operating point, or why there is none."""
    n_kept, n_tested = int(is_kept[rows].sum()), int(rows.sum())
    if not 0 < n_kept < n_tested:
        return NoSafeThreshold(
            f"{name}: the grader keeps {n_kept:,} of {n_tested:,} test documents, so nothing can be promised; give "
            "pairs of which it keeps some and drops some"
        )
    try:
        point = certify(
            sigmoid(scores[rows]),
            is_kept[rows].astype(np.float64),
            query_ids[rows],
            promise=Promise("recall", settings.share, settings.delta),
            name=name,
            seed=settings.seed,
            label_source="verdicts of the full grader",
            max_per_query=settings.max_per_query,
        )
    except NoSafeThreshold as error:
        return error
    settled = sigmoid(scores[rows]) < point.threshold
    counted = {"settled": float(settled.mean()), "lost": float((settled & is_kept[rows]).sum() / is_kept[rows].sum())}
    return CascadePoint(name, point.threshold, {**point.evidence, **counted, "settings": asdict(settings)})


def _those_found(found: Sequence[CascadePoint | NoSafeThreshold]) -> tuple[CascadePoint, ...]:
    points = tuple(each for each in found if isinstance(each, CascadePoint))
    if not points:
        raise NoSafeThreshold("; ".join(str(each) for each in found))
    return points


def _principal(vectors: NDArray[np.float64], n_dimensions: int) -> Array:
    """The first principal components of vectors around their mean, at length 1."""
    centred = vectors - vectors.mean(axis=0)
    _, directions = np.linalg.eigh(centred.T @ centred)  # rising
    return unit((centred @ directions[:, ::-1][:, :n_dimensions]).astype(np.float32))
