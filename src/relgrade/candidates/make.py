"""From queries and a corpus to a file of pairs, each with the rank, score and stratum it was taken for."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from relgrade.candidates.corpus import CorpusReport, OnBad, read_corpus
from relgrade.candidates.encoder import Encoder
from relgrade.candidates.mixing import Choice, choose
from relgrade.candidates.output import CandidateOutput
from relgrade.candidates.passages import Entry, PassageStore
from relgrade.candidates.queries import Query, read_queries
from relgrade.candidates.search import EncodedVectors, Ranked, Searcher, StoreVectors, VectorSource
from relgrade.candidates.settings import CandidateSettings, CorpusSettings
from relgrade.candidates.stores import StoreLocation
from relgrade.candidates.vectors import VectorCache
from relgrade.errors import InvalidData, InvalidInput
from relgrade.records import Pair

Advance = Callable[[str, int, int | None], None]  # (stage, how many more, how many in all or None)
SCORE_DIGITS = 6  # what is beyond differs between CPUs
_QUERY_BATCH = 256  # queries ranked together


@dataclass(frozen=True, slots=True, kw_only=True)
class CandidateReport:
    """What a run came to."""

    output: Path
    n_queries: int
    n_documents: int  # of the corpus, blank and repeated ones left out
    n_pairs: int  # in the file
    n_pairs_found: int  # of those, written by an earlier run
    n_short: int  # queries of this run with fewer pairs than the mix asks for
    n_blank: int  # documents without text
    n_repeated: int  # documents that came before, id and text
    strata: Mapping[str, int]  # pairs of this run by stratum
    unknown: Mapping[str, int]  # suffix -> files of a folder that were not read
    bad: tuple[str, ...]  # lines and files that were skipped


def make_candidates(
    queries: Path | str,
    corpus: Path | str | StoreLocation,
    output: Path | str,
    *,
    settings: CandidateSettings | None = None,
    corpus_settings: CorpusSettings | None = None,
    encoder: Encoder | None = None,
    vectors_folder: Path | str | None = None,
    split: str | None = None,
    overwrite: bool = False,
    on_bad: OnBad | None = None,
    advance: Advance = lambda _stage, _n, _total: None,
) -> CandidateReport:
    """Find documents for each query and write them as pairs. The same call writes the same file.

    Interrupted, the same call goes on: rows that are written stay, vectors that are made are not made again.

    Args:
        queries: see `read_queries`.
        corpus: see `corpus.read_corpus`.
        output: `.jsonl`; read by `formats.read_pairs`. Beside it stands `OUTPUT.state.json`.
        settings: method, mix, depth, seed.
        corpus_settings: chunks, names of fields, encoding of files.
        encoder: for the methods dense and hybrid, and for chunks.
        vectors_folder: keeps vectors, also for other outputs; None: `OUTPUT.vectors`.
        split: of the queries of a BEIR folder.
        overwrite: throw away rows that are there; vectors are kept.
        on_bad: is told each line or file that cannot be read; None stops there.
        advance: is told of progress: stage ("read", "index", "encode", "search"), how many more, how many in all.

    Raises:
        InvalidData: queries or corpus cannot be read, or are empty.
        InvalidInput: an encoder or vectors are missing, or the output belongs to another run.
        MissingExtra: an optional package is needed.
        OutputError: the disk is full; what is written is whole.
    """
    settings, corpus_settings = settings or CandidateSettings(), corpus_settings or CorpusSettings()
    output = Path(output)
    _check(output, settings, corpus_settings, corpus, encoder)
    asked = read_queries(queries, split=split, on_bad=on_bad)
    report = CorpusReport()
    with ExitStack() as stack:
        store = stack.enter_context(PassageStore(output.with_name(f".{output.name}.corpus.part")))
        vectors: VectorSource | None = None
        entries = read_corpus(
            corpus,
            corpus_settings,
            report=report,
            tokenizer=encoder.tokenizer if encoder else None,
            on_bad=on_bad,
            has_vectors=settings.has_store_vectors,
        )
        if settings.has_store_vectors:
            vectors = own = stack.enter_context(StoreVectors(output.with_name(f".{output.name}.vectors.part")))
            _fill(store, entries, own.add, advance)
        else:
            _fill(store, entries, None, advance)
        if not len(store):
            raise InvalidData("the corpus has no document with text", path=_name(corpus))
        run = _run(asked, store, settings, encoder)
        written = stack.enter_context(CandidateOutput(output, run=run, overwrite=overwrite))
        todo = asked[written.n_finished([query.id for query in asked]) :]
        if settings.is_dense and vectors is None and encoder is not None and todo:
            folder = output.with_name(f"{output.name}.vectors") if vectors_folder is None else Path(vectors_folder)
            vectors = EncodedVectors(stack.enter_context(VectorCache(folder, encoder)), store, advance=advance)
        n_short, strata = _write_all(todo, store, settings, vectors, written, advance)
        return CandidateReport(
            output=output,
            n_queries=len(asked),
            n_documents=len(store),
            n_pairs=written.n_pairs,
            n_pairs_found=written.n_found,
            n_short=n_short,
            n_blank=store.n_blank,
            n_repeated=store.n_repeated,
            strata=strata,
            unknown=dict(report.unknown),
            bad=tuple(report.bad),
        )


def _fill(
    store: PassageStore, entries: Iterator[Entry], take: Callable[[Entry], None] | None, advance: Advance
) -> None:
    """Write the corpus down, its vectors beside it."""
    for entry in entries:
        if store.add(entry) is not None and take is not None:
            take(entry)
        advance("read", 1, None)
    store.close_writing()


def _write_all(
    queries: Sequence[Query],
    store: PassageStore,
    settings: CandidateSettings,
    vectors: VectorSource | None,
    written: CandidateOutput,
    advance: Advance,
) -> tuple[int, Mapping[str, int]]:
    """Search, choose and write, some queries at a time; the number of short ones, and pairs by stratum."""
    strata: Counter[str] = Counter()
    if not queries:
        return 0, strata
    n_short = 0
    text_keys = store.text_keys
    searcher = Searcher(store, settings, vectors=vectors)
    for start in range(0, len(queries), _QUERY_BATCH):
        batch = queries[start : start + _QUERY_BATCH]
        for query, found in zip(batch, searcher.search(batch), strict=True):
            rng = _generator(query, settings.seed)
            choices = choose(found.final, settings.mix, text_keys=text_keys, rng=rng)
            written.write(list(_pairs(query, choices, found, store, settings.method)))
            n_short += len(choices) < settings.mix.total
            strata.update(choice.stratum for choice in choices)
            advance("search", 1, len(queries))
    return n_short, strata


def _check(
    output: Path,
    settings: CandidateSettings,
    corpus_settings: CorpusSettings,
    corpus: Path | str | StoreLocation,
    encoder: Encoder | None,
) -> None:
    """Whatever can be known to fail before anything is read."""
    if output.suffix.lower() not in (".jsonl", ".ndjson"):
        raise InvalidInput(f"{output}: candidates are written to .jsonl; `relgrade pairs convert` makes other formats")
    if settings.has_store_vectors:
        if not isinstance(corpus, StoreLocation):
            raise InvalidInput("only a vector store brings vectors of its own")
        if corpus_settings.chunk_tokens is not None:
            raise InvalidInput("the vectors of a store are those of its whole records; leave chunk_tokens out")
    elif settings.is_dense and encoder is None:
        raise InvalidInput(f"method {settings.method} needs an encoder; `relgrade.grade.text_vectors` has one")


def _run(
    queries: Sequence[Query], store: PassageStore, settings: CandidateSettings, encoder: Encoder | None
) -> dict[str, Any]:
    """What decides every byte of the output."""
    digest = hashlib.sha256()
    for query in queries:
        vector = b"" if query.vector is None else query.vector.tobytes()
        digest.update(repr((query.id, query.text, query.metadata, vector)).encode("utf-8", "backslashreplace"))
    uses_encoder = settings.is_dense and not settings.has_store_vectors and encoder is not None
    return {
        "corpus": store.sha256,
        "queries": digest.hexdigest(),
        "encoder": encoder.name if uses_encoder and encoder else None,
        **asdict(settings),
    }


def _pairs(query: Query, choices: Sequence[Choice], found: Ranked, store: PassageStore, method: str) -> Iterator[Pair]:
    for choice in choices:
        passage = store.read(choice.row)
        fields: dict[str, Any] = {"stratum": choice.stratum, "method": method, "rank": choice.rank}
        fields["retrieval_score"] = None if choice.score is None else round(choice.score, SCORE_DIGITS)
        for name, rank in found.ranks_of(choice.row).items():
            fields[f"{name}_rank"] = rank
        if passage.metadata:
            fields["metadata"] = passage.metadata
        if query.metadata:
            fields["query_metadata"] = query.metadata
        yield Pair(query_id=query.id, query=query.text, doc_id=passage.doc_id, document=passage.text, fields=fields)


def _generator(query: Query, seed: int) -> np.random.Generator:
    """Draws of one query: they depend on its text and the seed, not on the other queries."""
    digest = hashlib.blake2b(query.text.encode("utf-8"), digest_size=8).digest()
    return np.random.default_rng([seed, int.from_bytes(digest, "little")])


def _name(corpus: Path | str | StoreLocation) -> str:
    return corpus.name if isinstance(corpus, StoreLocation) else str(corpus)
