"""`relgrade candidates`: pairs of queries and documents that may answer them, from a corpus or a vector store.

It knows options and progress; what is done stands in `relgrade.candidates`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relgrade.cli import outcome
from relgrade.cli.bar import StageBars

if TYPE_CHECKING:
    from relgrade.candidates import CandidateReport, CandidateSettings, CorpusSettings, Encoder
    from relgrade.errors import InvalidData

_METHODS = ("bm25", "dense", "hybrid")  # as in candidates.settings, which a test compares

_HELP = """Find documents for each query and write them as pairs.

CORPUS is .jsonl, .csv, .tsv (perhaps .gz) or .parquet with `text`, and perhaps `id` and `title`; a BEIR folder; a
folder of text, markdown, HTML and PDF files, which are cut into chunks; or a vector store with its --collection:
qdrant:FOLDER-OR-URL, chroma:FOLDER-OR-URL, pgvector:CONNECTION. QUERIES is .jsonl, .csv, .tsv or .parquet with
`query`, .txt with a query a line, or a BEIR folder.

Each pair carries `stratum` (top, mid, random), `rank`, `method` and `retrieval_score`. Interrupted, the same command
goes on; run twice, it writes the same file. Vectors stay in OUT.vectors, or in --vectors.

\b
Exit codes:
  0  the pairs are written
  1  they are written, and lines or files were skipped
  2  bad input or usage; rows written before stay
"""  # \b keeps the lines of a paragraph as they are


@click.command(help=_HELP)
@click.option("--queries", "queries_path", required=True, type=click.Path(), help="File, or BEIR folder.")
@click.option("--corpus", required=True, help="File, folder, or vector store.")
@click.option("-o", "--output", required=True, type=click.Path(), help="File of JSON lines to write.")
@click.option("--top", type=click.IntRange(min=1), help="Documents per query, in all.  [default: 20]")
@click.option("--mix", "mix_text", help="How they are divided.  [default: half top, a quarter mid, a quarter random]")
@click.option("--method", type=click.Choice(_METHODS), default="hybrid", show_default=True, help="Of the search.")
@click.option(
    "--depth", type=click.IntRange(min=1), default=100, show_default=True, help="Ranks looked at; mid ends here."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the draws.")
@click.option("--split", help="Queries of a BEIR folder: those judged in qrels/SPLIT.tsv.")
@click.option(
    "--bundle", type=click.Path(), help="Bundle whose encoder makes the vectors.  [default: the embedded one]"
)
@click.option("--vectors", "vectors_folder", type=click.Path(), help="Folder that keeps vectors, for other runs too.")
@click.option("--threads", type=click.IntRange(min=1), help="Texts encoded at once; default: the cores.")
@click.option(
    "--chunk-tokens", type=click.IntRange(min=8), help="Per chunk.  [default: 200 for files, rows stay whole]"
)
@click.option("--chunk-overlap", type=click.IntRange(min=0), default=0, help="Tokens that neighbours share.")
@click.option("--encoding", help="Of text files that are not Unicode, such as cp1252.")
@click.option("--text-field", help="Name of the field, column or payload key of the text.")
@click.option("--id-field", help="Of the id.")
@click.option("--title-field", help="Of the title.")
@click.option("--collection", help="Of the vector store; for pgvector a table or view.")
@click.option("--store-vectors", is_flag=True, help="Search by the store's vectors; queries then need a `vector`.")
@click.option("--vector-field", help="Name of the vector, or of its column.")
@click.option(
    "--api-key-file", type=click.Path(exists=True, dir_okay=False), help="File with the key of the store's server."
)
@click.option("--skip-bad", is_flag=True, help="Report lines and files that cannot be read and go on; exit code 1.")
@click.option("--overwrite", is_flag=True, help="Throw away rows that are there.")
@click.option("--no-progress", is_flag=True, help="Never draw a bar.")
def candidates(
    queries_path: str,
    corpus: str,
    output: str,
    split: str | None,
    vectors_folder: str | None,
    skip_bad: bool,
    overwrite: bool,
    no_progress: bool,
    **options: Any,
) -> None:
    """Find candidates; `_HELP` is what the user reads."""
    from relgrade.candidates import StoreLocation, make_candidates

    settings, corpus_settings = _settings(options)
    key_file = options["api_key_file"]
    api_key = Path(key_file).read_text(encoding="utf-8").strip() if key_file else None
    store = StoreLocation.parse(corpus, collection=options["collection"], api_key=api_key)
    if store is None and options["collection"]:
        raise click.UsageError("--collection belongs to a store: --corpus qdrant:..., chroma:... or pgvector:...")
    bad = _Bad()
    with StageBars(has_bar=not no_progress) as progress:
        report = make_candidates(
            queries_path,
            store or corpus,
            output,
            settings=settings,
            corpus_settings=corpus_settings,
            encoder=_encoder(settings, corpus_settings, options["bundle"], options["threads"], corpus=corpus),
            vectors_folder=vectors_folder,
            split=split,
            overwrite=overwrite,
            on_bad=bad.report if skip_bad else None,
            advance=progress.advance,
        )
    _tell(report)
    if bad.n:
        outcome.warn(f"skipped {bad.n:,} lines or files that cannot be read")
        click.get_current_context().exit(outcome.NOT_FOUND)


def _settings(options: dict[str, Any]) -> tuple[CandidateSettings, CorpusSettings]:
    from relgrade.candidates import CandidateSettings, CorpusSettings, Mix

    top, mix_text = options["top"], options["mix_text"]
    mix = Mix.parse(mix_text) if mix_text else Mix.of(top or 20)
    if top is not None and mix.total != top:
        raise click.UsageError(f"--mix {mix_text} is {mix.total} documents a query, --top says {top}")
    settings = CandidateSettings(
        method=options["method"],
        mix=mix,
        depth=options["depth"],
        seed=options["seed"],
        has_store_vectors=options["store_vectors"],
    )
    names = ("chunk_tokens", "chunk_overlap", "encoding", "text_field", "id_field", "title_field", "vector_field")
    return settings, CorpusSettings(**{name: options[name] for name in names})


def _encoder(
    settings: CandidateSettings,
    corpus_settings: CorpusSettings,
    bundle: str | None,
    threads: int | None,
    *,
    corpus: str,
) -> Encoder | None:
    """The encoder, or None where nothing needs it: BM25 over whole rows, or the vectors of a store."""
    from relgrade.candidates.tables import TABLE_SUFFIXES, table_suffix

    has_whole_rows = corpus_settings.chunk_tokens is None and table_suffix(Path(corpus)) in TABLE_SUFFIXES
    if settings.has_store_vectors or (not settings.is_dense and has_whole_rows):
        return None
    from relgrade.grade.text_vectors import TextVectors  # onnxruntime comes with it

    return TextVectors.load(bundle, n_threads=threads)


class _Bad:
    """Reports what is skipped, on the way."""

    def __init__(self) -> None:
        self.n = 0

    def report(self, error: InvalidData) -> None:
        self.n += 1
        outcome.warn(f"skipped {error}")


def _tell(report: CandidateReport) -> None:
    strata = ", ".join(f"{count:,} {name}" for name, count in report.strata.items()) or "none new"
    lines = [f"{report.n_pairs:,} pairs of {report.n_queries:,} queries in {report.output} (this run: {strata})"]
    if report.n_pairs_found:
        lines.append(f"{report.n_pairs_found:,} of them were written before")
    if report.n_short:
        lines.append(f"{report.n_short:,} queries have fewer pairs than asked for: too few documents were found")
    if report.n_blank or report.n_repeated:
        lines.append(f"left out of the corpus: {report.n_blank:,} blank, {report.n_repeated:,} repeated documents")
    if report.unknown:
        found = ", ".join(f"{count:,} {suffix}" for suffix, count in sorted(report.unknown.items()))
        lines.append(f"files that are no documents by their name: {found}")
    for line in lines:
        outcome.warn(line)
