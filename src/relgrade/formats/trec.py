"""TREC judgements with their texts as pairs.

A line of qrels is `query_id iteration document_id relevance`, separated by whitespace; the iteration is not used.
"""

from collections.abc import Iterator
from pathlib import Path

from relgrade.errors import InvalidData, InvalidInput
from relgrade.formats.lines import Row, read_lines
from relgrade.formats.read import checked_pairs
from relgrade.formats.rows import grade_label, parse_score
from relgrade.formats.texts import read_texts
from relgrade.records import Pair


def read_trec(qrels: Path | str, queries: Path | str, documents: Path | str, *, cut: float = 1) -> Iterator[Pair]:
    """Read judged pairs.

    Args:
        qrels: the judgements.
        queries: `.jsonl` or `.tsv` of id and text, perhaps `.gz`.
        documents: the same; a `title` in JSON becomes the first line of the document.
        cut: relevant when relevance >= cut (TREC's passage tasks use 2); the relevance is kept as field `grade`.

    Yields:
        One pair per line of `qrels`, in its order, without split and source.

    Raises:
        InvalidData: a file or line cannot be read, an id is unknown, or a judgement is repeated.
    """
    path = Path(qrels)
    rows = list(_read_qrels(path, cut))
    query_texts = read_texts(Path(queries), wanted={row.values["query_id"] for row in rows})
    document_texts = read_texts(Path(documents), wanted={row.values["doc_id"] for row in rows})

    def joined() -> Iterator[Row]:
        for row in rows:
            query_id, doc_id = row.values["query_id"], row.values["doc_id"]
            if query_id not in query_texts:
                raise InvalidData(f"the query {query_id!r} is not in {queries}", path=path, line=row.line)
            if doc_id not in document_texts:
                raise InvalidData(f"the document {doc_id!r} is not in {documents}", path=path, line=row.line)
            document = document_texts[doc_id]
            texts = {"query": query_texts[query_id].text, "document": document.text, "title": document.title}
            yield Row(path, row.line, {**row.values, **texts})

    yield from checked_pairs(joined())


def _read_qrels(path: Path, cut: float) -> Iterator[Row]:
    for line in read_lines(path):
        try:
            cells = line.raw.decode("utf-8").split()
            if not cells:
                continue
            if len(cells) != 4:
                raise InvalidInput(f"query id, iteration, document id and relevance were expected, got {cells[:6]!r}")
            judged = grade_label(parse_score(cells[3]), cut=cut)
        except UnicodeDecodeError as error:
            message = f"not UTF-8 at byte {error.start + 1} of the line"
            raise InvalidData(message, path=path, line=line.number) from error
        except InvalidInput as error:
            raise InvalidData(str(error), path=path, line=line.number) from error
        yield Row(path, line.number, {"query_id": cells[0], "doc_id": cells[2], **judged})
