"""The example corpus in a real vector store: Qdrant's local mode, which is a library and no server.

The vectors are those of the embedded grader's own encoder, so nothing is fetched. Every framework example searches
here; `pip install 'relgrade[qdrant]'`.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

from relgrade.grade.text_vectors import TextVectors

HERE = Path(__file__).parent
DOCUMENTS = HERE / "corpus" / "documents.jsonl"
QUERIES = HERE / "queries.jsonl"
COLLECTION = "corpus"


@dataclass(frozen=True, slots=True)
class Found:
    """A document as the store gives it back."""

    id: str
    title: str
    text: str
    subject: str
    score: float  # cosine of the vectors


class CorpusStore:
    """The corpus, searchable by meaning. In memory; a path instead of `:memory:` keeps it on disk."""

    def __init__(self, location: str = ":memory:") -> None:
        self._encoder = TextVectors.load()
        self._client = QdrantClient(location)
        rows = read_jsonl(DOCUMENTS)
        vectors = self._encoder.encode([f"{row['title']}. {row['text']}" for row in rows], kind="document")
        self._client.create_collection(
            COLLECTION, vectors_config=VectorParams(size=self._encoder.dimension, distance=Distance.COSINE)
        )
        self._client.upsert(
            COLLECTION,
            points=[
                PointStruct(id=i, vector=vector.tolist(), payload=row)
                for i, (row, vector) in enumerate(zip(rows, vectors, strict=True))
            ],
        )

    def search(self, query: str, *, k: int = 8) -> list[Found]:
        """The k nearest documents, the nearest first."""
        (vector,) = self._encoder.encode([query], kind="query")
        points = self._client.query_points(COLLECTION, query=vector.tolist(), limit=k).points
        return [
            Found(
                point.payload["id"],
                point.payload["title"],
                point.payload["text"],
                point.payload["metadata"]["subject"],
                point.score,
            )
            for point in points
        ]

    def close(self) -> None:
        """Give the store back."""
        self._client.close()


def read_jsonl(path: Path) -> list[dict]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def gold(query: dict) -> str:
    """What people say answers a query of the corpus."""
    return ", ".join(query["relevant"]) or "nothing"
