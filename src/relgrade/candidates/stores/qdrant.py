"""Reads a collection of Qdrant: a server, or the folder of its local mode."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from relgrade.candidates.passages import Entry
from relgrade.candidates.settings import CorpusSettings
from relgrade.candidates.stores.records import StoreLocation, entry_of
from relgrade.errors import InvalidData, MissingExtra, RelgradeError

try:
    from qdrant_client import QdrantClient
except ImportError as error:
    raise MissingExtra("qdrant-client", extra="qdrant", purpose="read a Qdrant collection") from error

PAGE_POINTS = 256


def read(location: StoreLocation, settings: CorpusSettings, *, has_vectors: bool) -> Iterator[Entry | InvalidData]:
    """Points in the order of their ids; see `read_store`."""
    try:
        with closing(_open(location)) as client:
            if not client.collection_exists(location.collection):
                names = ", ".join(sorted(each.name for each in client.get_collections().collections)) or "none"
                raise InvalidData(f"{location.name}: there is no such collection; found: {names}")
            offset: Any = None
            while True:
                points, offset = client.scroll(
                    location.collection,
                    limit=PAGE_POINTS,
                    offset=offset,
                    with_payload=True,
                    with_vectors=has_vectors,
                )
                for point in points:
                    vector = _vector_of(point, location, settings) if has_vectors else None
                    yield entry_of(point.id, point.payload or {}, vector, store=location, settings=settings)
                if offset is None:
                    return
    except RelgradeError:
        raise
    except Exception as error:  # of the client, its HTTP library and its local mode; they share no base
        raise InvalidData(f"{location.name}: {type(error).__name__}: {error}"[:400]) from error


def _open(location: StoreLocation) -> Any:
    if location.is_server:
        # The check of versions runs in a thread of its own and warns where a server is slow to answer.
        return QdrantClient(url=location.location, api_key=location.api_key, timeout=60, check_compatibility=False)
    path = Path(location.location)
    if not (path / "meta.json").is_file():  # the client would make a new store there
        raise InvalidData("no local Qdrant store; a folder with meta.json, or a URL, was expected", path=path)
    return QdrantClient(path=str(path))


def _vector_of(point: Any, location: StoreLocation, settings: CorpusSettings) -> Any:
    vector = point.vector
    if isinstance(vector, dict):
        dense = {name: value for name, value in vector.items() if isinstance(value, list)}  # sparse ones are objects
        if settings.vector_field is None and len(dense) != 1:
            raise InvalidData(f"{location.name}: points have vectors {sorted(dense)}; name one (vector field)")
        vector = dense.get(settings.vector_field or next(iter(dense)))
    if vector is None:
        raise InvalidData(f"{location.name}: point {point.id!r} has no vector {settings.vector_field or ''}")
    return vector
