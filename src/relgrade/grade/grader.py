"""The grader: a bundle's model, calibration and threshold behind four calls.

Every grade depends on its query, its document, the bundle and the operating point, and on nothing else: not on the
other documents, their order or how the call was cut into pieces.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from relgrade.bundle import Bundle, load_bundle
from relgrade.errors import BundleIncomplete, InvalidInput
from relgrade.grade import keep
from relgrade.grade.cascade import Cascade
from relgrade.grade.cascade_runtime import at_point, full_of, with_cascade
from relgrade.grade.compress import CompressedList, SentenceBar, compress_kept
from relgrade.grade.document_cache import DocumentCache, cache_of, open_cache
from relgrade.grade.documents import PairText, read_documents, read_pair, read_query, require_iterable
from relgrade.grade.embedded import embedded_bundle
from relgrade.grade.evidence import with_evidence
from relgrade.grade.goldens import GOLDEN_TOLERANCE, GoldenReport, check_goldens
from relgrade.grade.hub import fetch_bundle, is_hub_id
from relgrade.grade.judging import chunked, count_tokens, judge
from relgrade.grade.missing import is_there, require_bundle
from relgrade.grade.panel import Panel
from relgrade.grade.runtime import Runtime
from relgrade.grade.runtimes import load_runtime
from relgrade.grade.streaming import stream_grades
from relgrade.probability import list_probability
from relgrade.records import Grade, GradedList, KeepPolicy, OperatingPoint, Pair

DEFAULT_BUNDLE = Path(__file__).parent.parent / "bundles" / "default"
CHUNK_PAIRS = 256  # keeps many threads busy and bounds what is held in memory

_DEFAULT_POLICY = KeepPolicy()


class Grader:
    """Judges documents. Safe to share between threads.

    Made by `Grader.load`; the constructor takes parts that are open already.

    Args:
        bundle: checked, see `load_bundle`.
        runtime: gives the logits of the bundle's model.
        operating_point: name of the threshold that decides; None takes the bundle's default.
        base_rate: as in `load`.

    Raises:
        InvalidInput: the bundle has no such operating point, or the base rate cannot be used.
    """

    def __init__(
        self,
        bundle: Bundle,
        runtime: Runtime,
        *,
        operating_point: str | None = None,
        base_rate: float | None = None,
    ) -> None:
        self._bundle, self._base_rate = bundle, base_rate
        self._panel = Panel.of(bundle.manifest, operating_point=operating_point, base_rate=base_rate)
        self._point = self._panel.pooled.told_point
        self._runtime = at_point(runtime, self._point.name)

    @classmethod
    def load(
        cls,
        source: str | Path | None = None,
        *,
        operating_point: str | None = None,
        base_rate: float | None = None,
        revision: str | None = None,
        n_threads: int | None = None,
        document_cache: DocumentCache | str | Path | None = None,
        cascade: Cascade | str | Path | None = None,
    ) -> Self:
        """Open a grader.

        Args:
            source: None for the embedded one, which needs no network; the name of a smaller embedded one; the folder of
                a bundle; or a Hub id `organisation/name@COMMIT` (extra `hub`). A folder goes before both names.
            operating_point: name of the threshold that decides; None takes the bundle's default.
            base_rate: share of the documents at hand that are relevant, in (0, 1); None: that of the calibration pairs.
                Corrects probabilities and shows thresholds on their scale; what is kept stays the same: `grade.panel`.
            revision: full commit hash of a Hub id that does not have it after its @.
            n_threads: sequences read at once; None takes the cores of this process, at most 8.
            document_cache: keeps what the model read of each document, for other queries: a folder, shared and kept, or
                a `DocumentCache`, perhaps of memory alone. States are in int8 and tell much of a text: docs/cache.md.
            cascade: settles what would hardly be kept without reading it: a file of `relgrade cascade`; `Grade.stage`.

        Raises:
            BundleError: the bundle is not there, incomplete, corrupt, too new or unsafe.
            InvalidInput: no such operating point, a base rate out of range, a Hub id without a commit hash, a commit
                hash for a folder, or a cache or a cascade of no use here. OutputError: the cache cannot be made.
            MissingExtra: a Hub id, and huggingface_hub is not installed.
        """
        bundle = open_bundle(source, revision=revision)
        Panel.of(bundle.manifest, operating_point=operating_point, base_rate=base_rate)  # before the graphs are opened
        full = load_runtime(bundle, n_threads=n_threads, document_cache=open_cache(document_cache))
        runtime = with_cascade(full, cascade, bundle=bundle, operating_point=operating_point)
        return cls(bundle, runtime, operating_point=operating_point, base_rate=base_rate)

    @property
    def bundle(self) -> Bundle:
        """What this grader was loaded from; its `hash` names the grader."""
        return self._bundle

    @property
    def document_cache(self) -> DocumentCache | None:
        """Where documents that were read are kept; its `stats` tell the hit ratio and bytes a document."""
        return cache_of(self._runtime)

    @property
    def operating_point(self) -> OperatingPoint:
        """The threshold that decides, the pooled one where collections have their own."""
        return self._point

    @property
    def operating_points(self) -> tuple[OperatingPoint, ...]:
        """All thresholds of the bundle, as it holds them: without a base rate."""
        return self._bundle.manifest.operating_points

    def with_point(self, name: str) -> "Grader":
        """The same model with another threshold, for nothing; InvalidInput where the bundle has no such point."""
        return Grader(self._bundle, self._runtime, operating_point=name, base_rate=self._base_rate)

    def grade(self, query: str, documents: Iterable[Any], *, evidence: bool = False) -> GradedList:
        """Judge documents against one query.

        Args:
            query: not empty.
            documents: str, Document, or mappings or objects with text, title, id and metadata; any number, none too.
                One without text is not relevant, by rule.
            evidence: judge the sentences of relevant and unsure documents too, and give each grade those that reach
                the operating point, best first, or else the best one. The grades themselves stay the same.

        Returns:
            One grade per document, in the order of the call; `document` of each is the caller's own object.

        Raises:
            InvalidInput: the query is empty, or something is no document; names its position. Nothing was judged.
            GradingError: the model gave no finite logit for a document.
        """
        items = read_documents(read_query(query), documents)
        grades = self._judge_all(items)
        if evidence:
            grades = with_evidence(grades, items, self._runtime, panel=self._panel)
        return self._graded_list(query, grades, of=grades)

    def grade_pairs(
        self, pairs: Iterable[tuple[str, Any] | Pair], *, chunk_size: int = CHUNK_PAIRS, evidence: bool = False
    ) -> Iterator[Grade]:
        """Judge a stream of pairs in flat memory, many queries together.

        Args:
            pairs: (query, document), or Pair; read as the grades are taken, at most a chunk ahead.
            chunk_size: pairs judged together, >= 1; changes speed and memory, never a grade.
            evidence: as for `grade`.

        Yields:
            One grade per pair, in order; `index` is the position of the pair.

        Raises:
            InvalidInput: a query is empty or an item is no pair; every pair before it has been judged and yielded.
            GradingError: the model gave no finite logit for a pair; `index` names it.
        """
        _require_count("chunk_size", chunk_size)
        given = require_iterable(pairs, "pairs")
        return stream_grades(given, self._runtime, panel=self._panel, chunk_size=chunk_size, has_evidence=evidence)

    def filter(
        self, query: str, documents: Iterable[Any], *, policy: KeepPolicy = _DEFAULT_POLICY, evidence: bool = False
    ) -> GradedList:
        """Keep what is relevant, within the limits of a policy.

        Args:
            query: not empty.
            documents: as for `grade`.
            policy: how few and how many are kept, see `keep.choose`. Tokens are those of the model, title included.
            evidence: as for `grade`, of those that are kept.

        Returns:
            The kept ones in the order of the call; `documents` of it holds the caller's own objects.

        Raises:
            InvalidInput, GradingError: as `grade`.
        """
        if not isinstance(policy, KeepPolicy):
            raise InvalidInput(f"policy: a KeepPolicy was expected, got {type(policy).__name__}")
        items = read_documents(read_query(query), documents)
        grades = self._judge_all(items)
        n_tokens = None if policy.max_tokens is None else count_tokens(items, self._runtime, limit=policy.max_tokens)
        rows = keep.choose(grades, policy, n_tokens=n_tokens)
        kept = [grades[i] for i in rows]
        if evidence:
            kept = with_evidence(kept, [items[i] for i in rows], self._runtime, panel=self._panel)
        return self._graded_list(query, kept, of=grades)

    def compress(
        self,
        query: str,
        documents: Iterable[Any],
        *,
        policy: KeepPolicy = _DEFAULT_POLICY,
        point: str | None = None,
        threshold: float | None = None,
    ) -> CompressedList:
        """Keep what is relevant, as `filter` does, and of each document only the sentences above a point.

        Each sentence is judged as a small document under its title. A kept document is never left empty: where no
        sentence reaches the point, the best one stays.

        Args:
            query: not empty.
            documents: as for `grade`.
            policy: which documents are kept; `max_tokens` counts what is left of them.
            point: name of the operating point for sentences; None: that below which a verdict is "not relevant",
                or the grader's own where the bundle has no three-way verdict.
            threshold: probability in [0, 1] that a sentence must reach, instead of a point.

        Returns:
            The kept ones in the order of the call. The caller's objects are not changed.

        Raises:
            InvalidInput: as `grade`; no such point, a threshold out of range, or both point and threshold.
            GradingError: the model gave no finite logit for a document or a sentence of it.
        """
        if not isinstance(policy, KeepPolicy):
            raise InvalidInput(f"policy: a KeepPolicy was expected, got {type(policy).__name__}")
        own, manifest = self._point.name, self._bundle.manifest
        bar = SentenceBar.of(manifest, own=own, point=point, threshold=threshold, base_rate=self._base_rate)
        items = read_documents(read_query(query), documents)
        grades = self._judge_all(items)
        kept = compress_kept(grades, items, self._runtime, policy=policy, bar=bar)
        anything = self.any_relevant_probability(grades)
        return CompressedList(query, kept, self._point, bar.told, self._bundle.hash, anything, tuple(grades))

    def rerank(self, query: str, documents: Iterable[Any], *, top_k: int | None = None) -> GradedList:
        """Sort documents by falling logit; ties keep the order of the call. Nothing is dropped but by `top_k`.

        Args:
            query: not empty.
            documents: as for `grade`.
            top_k: return the best so many, >= 1; None returns all.

        Raises:
            InvalidInput, GradingError: as `grade`.
        """
        if top_k is not None:
            _require_count("top_k", top_k)
        graded = self.grade(query, documents)
        return self._graded_list(query, graded.ranked().grades[:top_k], of=graded.grades)

    def any_relevant_probability(self, grades: Sequence[Grade]) -> float | None:
        """P(some document of a query is relevant), calibrated on lists with and without one; 0 for no documents.

        Made of raw logits, so that neither operating point nor base rate moves it; fitted on lists that were weighed to
        a share of answerable queries, which the bundle records.

        Args:
            grades: of all documents of one query, kept or not.

        Returns:
            In [0, 1]; None where the bundle has no such calibration, or a cascade settled a document unread.
        """
        fitted = self._bundle.manifest.any_relevant
        is_read = all(grade.stage == "full" for grade in grades)
        return None if fitted is None or not is_read else list_probability(fitted, [grade.logit for grade in grades])

    def verify_goldens(self, *, tolerance: float = GOLDEN_TOLERANCE) -> GoldenReport:
        """Score the golden pairs of the bundle again.

        Args:
            tolerance: largest absolute difference of a logit that still counts as the same.

        Raises:
            ParityError: a difference is larger; the verdicts of this grader are not those its threshold was made for.
            GradingError: a golden pair gets no finite logit.
        """
        items = [read_pair((golden.query, golden.document), i) for i, golden in enumerate(self._bundle.goldens)]
        logits = [grade.logit for grade in judge(items, full_of(self._runtime), panel=self._panel)]
        return check_goldens(self._bundle.goldens, logits, tolerance=tolerance)

    def _judge_all(self, items: Sequence[PairText]) -> list[Grade]:
        chunks = chunked(iter(items), CHUNK_PAIRS)
        return [grade for chunk in chunks for grade in judge(chunk, self._runtime, panel=self._panel)]

    def _graded_list(self, query: str, grades: Iterable[Grade], *, of: Sequence[Grade]) -> GradedList:
        """The list of some grades; `of` are those of all documents of the call."""
        return GradedList(query, tuple(grades), self._point, self._bundle.hash, self.any_relevant_probability(of))


def open_bundle(source: str | Path | None = None, *, revision: str | None = None) -> Bundle:
    """The bundle that `Grader.load` would take, checked; raises as it does."""
    return load_bundle(_find_folder(source, revision))


def _find_folder(source: str | Path | None, revision: str | None) -> Path:
    if source is None:
        if revision is not None:
            raise InvalidInput("revision belongs to a Hub id; the embedded grader has one version, that of relgrade")
        if not DEFAULT_BUNDLE.is_dir():
            raise BundleIncomplete(
                f"this installation has no embedded grader (no {DEFAULT_BUNDLE}); reinstall relgrade, or name a bundle"
            )
        return DEFAULT_BUNDLE
    if not isinstance(source, str | Path):
        raise InvalidInput(f"source: a folder, a Hub id or None was expected, got {type(source).__name__}")
    folder = embedded_bundle(source, folder=DEFAULT_BUNDLE.parent) or Path(source)
    if is_there(folder) or isinstance(source, Path) or not is_hub_id(source):
        if revision is not None:
            raise InvalidInput(f"{source} is a folder and has no revision; leave revision out")
        return require_bundle(folder, folder=DEFAULT_BUNDLE.parent, also=", or a Hub id organisation/name@COMMIT")
    return fetch_bundle(source, revision=revision)


def _require_count(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInput(f"{name} must be a whole number >= 1, got {value!r}")
