"""Readers of vector stores: texts, ids, metadata and vectors, a page at a time, through each store's own client.

Nothing is written to a store. Each client is an extra of its own: `qdrant`, `chroma`, `pgvector`.
"""

from collections.abc import Iterator
from importlib import import_module

from relgrade.candidates.passages import Entry
from relgrade.candidates.settings import CorpusSettings
from relgrade.candidates.stores.records import STORE_KINDS, StoreLocation
from relgrade.errors import InvalidData

__all__ = ["STORE_KINDS", "StoreLocation", "read_store"]


def read_store(
    location: StoreLocation, settings: CorpusSettings, *, has_vectors: bool
) -> Iterator[Entry | InvalidData]:
    """The documents of a collection, in the store's own order of ids; one without a text comes as the error.

    Args:
        location: which store and collection.
        settings: names of fields, where they are not the usual ones.
        has_vectors: take the vectors too.

    Raises:
        InvalidData: the store cannot be reached, or has no such collection or field.
        MissingExtra: its client is not installed.
    """
    # Imported here: each module asks for its client.
    module = import_module(f"relgrade.candidates.stores.{location.kind}")
    found: Iterator[Entry | InvalidData] = module.read(location, settings, has_vectors=has_vectors)
    return found
