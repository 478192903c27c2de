"""`relgrade cache`: read a corpus ahead, look into a document cache, empty it.

It knows options and progress; what is done stands in `relgrade.grade.cache_build` and `relgrade.grade.document_store`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relgrade.cli import outcome
from relgrade.cli.bar import StageBars
from relgrade.errors import InvalidData, OutputError

if TYPE_CHECKING:
    from relgrade.bundle import Bundle
    from relgrade.candidates.settings import CorpusSettings
    from relgrade.grade.document_store import StoreInfo
    from relgrade.records import Document

_BUILD_HELP = """Read the documents of CORPUS into a cache, so that grading them costs the query and little more.

CORPUS is .jsonl, .csv, .tsv (perhaps .gz) or .parquet with `text`, and perhaps `title`; a BEIR folder; or a folder of
text, markdown, HTML and PDF files, which are cut into chunks. The cache is for one encoder; other bundles may share the
folder. Interrupted, the same command goes on; documents that are there are not read again.

What the cache holds can be turned back into much of the text: keep the folder as you keep the documents.

\b
Exit codes:
  0  every document is in the cache
  1  the bound was reached, or lines or files were skipped
  2  bad input or usage, or a folder that cannot be written
"""  # \b keeps the lines of a paragraph as they are

_CACHE = click.option(
    "--cache", "folder", required=True, type=click.Path(file_okay=False, path_type=Path), help="Folder."
)


@click.group()
def cache() -> None:
    """Keep what the model read of documents, for other queries."""


@cache.command(help=_BUILD_HELP)
@click.argument("corpus")
@_CACHE
@click.option("--bundle", metavar="FOLDER|HUB-ID", help="Grader to prepare for. Default: the embedded one.")
@click.option("--revision", metavar="COMMIT", help="Commit of the Hub id, where it is no HUB-ID@COMMIT.")
@click.option(
    "--max-bytes", type=click.IntRange(min=1_000_000), help="Bound of the folder.  [default: its own, or 4 GB]"
)
@click.option("--threads", type=click.IntRange(min=1), help="Documents read at a time; default: the cores.")
@click.option(
    "--chunk-tokens", type=click.IntRange(min=8), help="Per chunk.  [default: 200 for files, rows stay whole]"
)
@click.option("--chunk-overlap", type=click.IntRange(min=0), default=0, help="Tokens that neighbours share.")
@click.option("--encoding", help="Of text files that are not Unicode, such as cp1252.")
@click.option("--text-field", help="Name of the field or column of the text.")
@click.option("--title-field", help="Of the title.")
@click.option("--skip-bad", is_flag=True, help="Report lines and files that cannot be read and go on; exit code 1.")
@click.option("--no-progress", is_flag=True, help="Never draw a bar.")
def build(
    corpus: str,
    folder: Path,
    bundle: str | None,
    revision: str | None,
    max_bytes: int | None,
    threads: int | None,
    skip_bad: bool,
    no_progress: bool,
    **reading: Any,
) -> None:
    """Read and store; `_BUILD_HELP` is what the user reads."""
    from relgrade.candidates.settings import CorpusSettings
    from relgrade.grade.cache_build import build_cache
    from relgrade.grade.grader import open_bundle

    opened = open_bundle(bundle, revision=revision)
    n_bad = 0

    def on_bad(error: InvalidData) -> None:
        nonlocal n_bad
        if not skip_bad:
            raise error
        n_bad += 1
        outcome.warn(f"skipped {error}")

    documents = _documents(corpus, CorpusSettings(**reading), opened, on_bad)
    with StageBars(has_bar=not no_progress) as progress:
        report = build_cache(
            opened,
            documents,
            folder,
            limit_bytes=max_bytes,
            n_threads=threads,
            advance=lambda n_more: progress.advance("documents", n_more, None),
        )
    outcome.warn(
        f"{report.n_documents:,} documents: {report.n_new:,} texts new, {report.n_known:,} there before, "
        f"{report.n_blank:,} blank documents left out"
    )
    for line in _told(report.info):
        outcome.warn(line)
    if report.is_full:
        outcome.warn("the bound is reached and the rest is not stored; raise --max-bytes and run the command again")
    if report.is_full or n_bad:
        click.get_current_context().exit(outcome.NOT_FOUND)


@cache.command()
@_CACHE
def info(folder: Path) -> None:
    """Print what a cache holds, bytes a document and how often a document was found."""
    from relgrade.grade.document_store import StoreFailed

    try:
        for line in _told(_existing(folder).info()):
            click.echo(line)
    except StoreFailed as error:
        raise OutputError(str(error), path=folder) from error


@cache.command()
@_CACHE
def clear(folder: Path) -> None:
    """Take every document out of a cache; processes that use it go on."""
    from relgrade.grade.document_store import StoreFailed

    try:
        _existing(folder).clear()
    except StoreFailed as error:
        raise OutputError(str(error), path=folder) from error


def _existing(folder: Path) -> Any:
    from relgrade.grade.document_store import FILE_NAME, DocumentStore

    if not (folder / FILE_NAME).is_file():  # opening it would make one
        raise InvalidData(
            f"no document cache here; `relgrade cache build CORPUS --cache {folder}` makes one", path=folder
        )
    return DocumentStore(folder)


def _documents(corpus: str, settings: CorpusSettings, bundle: Bundle, on_bad: Any) -> Iterator[Document]:
    from relgrade.candidates.corpus import CorpusReport, read_corpus
    from relgrade.grade.tokenizer import read_tokenizer

    entries = read_corpus(corpus, settings, report=CorpusReport(), tokenizer=read_tokenizer(bundle), on_bad=on_bad)
    return (entry.document for entry in entries)


def _told(info: StoreInfo) -> list[str]:
    ratio = (
        "nothing was looked up yet" if info.hit_ratio is None else f"{info.hit_ratio:.1%} of {info.n_lookups:,} lookups"
    )
    return [
        f"{info.path}: {info.n_documents:,} texts of {info.n_tokens:,} tokens",
        f"size: {info.n_bytes:,} bytes of at most {info.limit_bytes:,}; {info.bytes_per_document:,.0f} bytes a text",
        f"found: {ratio}",
    ]
