"""Reads a collection of Chroma: a server, or the folder of its embedded mode."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from relgrade.candidates.passages import Entry
from relgrade.candidates.settings import CorpusSettings
from relgrade.candidates.stores.records import StoreLocation, entry_of
from relgrade.errors import InvalidData, MissingExtra, RelgradeError

try:
    import chromadb
except ImportError as error:
    raise MissingExtra("chromadb", extra="chroma", purpose="read a Chroma collection") from error

PAGE_RECORDS = 256


def read(location: StoreLocation, settings: CorpusSettings, *, has_vectors: bool) -> Iterator[Entry | InvalidData]:
    """Records in the order they were added; see `read_store`."""
    try:
        client = _open(location)
        names = sorted(each if isinstance(each, str) else each.name for each in client.list_collections())
        if location.collection not in names:
            raise InvalidData(
                f"{location.name}: there is no such collection; found: {', '.join(names)[:200] or 'none'}"
            )
        # Without an embedding function: the default one would fetch a model.
        collection = client.get_collection(location.collection, embedding_function=None)
        wanted = ["documents", "metadatas", *(["embeddings"] if has_vectors else [])]
        n_read = 0
        while page := collection.get(limit=PAGE_RECORDS, offset=n_read, include=wanted):
            if not page["ids"]:
                return
            for i, identity in enumerate(page["ids"]):
                vector = page["embeddings"][i] if has_vectors else None
                values = page["metadatas"][i] or {}
                text = page["documents"][i]
                yield entry_of(identity, values, vector, store=location, settings=settings, text=text)
            n_read += len(page["ids"])
    except RelgradeError:
        raise
    except Exception as error:  # of the client, its database and its HTTP library; they share no base
        raise InvalidData(f"{location.name}: {type(error).__name__}: {error}"[:400]) from error


def _open(location: StoreLocation) -> Any:
    settings = chromadb.Settings(anonymized_telemetry=False)
    if location.is_server:
        url = urlsplit(location.location)
        return chromadb.HttpClient(
            host=url.hostname or "localhost",
            port=url.port or (443 if url.scheme == "https" else 8000),
            ssl=url.scheme == "https",
            headers={"x-chroma-token": location.api_key} if location.api_key else None,
            settings=settings,
        )
    path = Path(location.location)
    if not (path / "chroma.sqlite3").is_file():  # the client would make a new store there
        raise InvalidData("no Chroma store; a folder with chroma.sqlite3, or a URL, was expected", path=path)
    return chromadb.PersistentClient(path=str(path), settings=settings)
