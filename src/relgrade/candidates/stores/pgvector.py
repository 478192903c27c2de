"""Reads a table or view of PostgreSQL that has a column of pgvector. Passwords belong in a service or pgpass file."""

import json
from collections.abc import Iterator
from typing import Any

from relgrade.candidates.passages import Entry
from relgrade.candidates.settings import CorpusSettings
from relgrade.candidates.stores.records import ID_NAMES, StoreLocation, entry_of
from relgrade.errors import InvalidData, MissingExtra

try:
    import psycopg
    from psycopg import sql
except ImportError as error:
    raise MissingExtra("psycopg", extra="pgvector", purpose="read a table of PostgreSQL") from error

PAGE_ROWS = 256
_VECTOR_TYPES = ("vector", "halfvec")
_COLUMNS = """
    SELECT a.attname, t.typname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    WHERE a.attrelid = %s::regclass AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""


def read(location: StoreLocation, settings: CorpusSettings, *, has_vectors: bool) -> Iterator[Entry | InvalidData]:
    """Rows in the order of their ids, in one transaction that may not write; see `read_store`."""
    table = sql.Identifier(*location.collection.split("."))
    try:
        with psycopg.connect(location.location, connect_timeout=30) as connection:
            connection.read_only = True
            types: dict[str, str] = dict(connection.execute(_COLUMNS, [table.as_string(connection)]).fetchall())
            identity = _choose(settings.id_field, list(ID_NAMES), types, "id", location)
            vectors = [name for name, kind in types.items() if kind in _VECTOR_TYPES]
            chosen = _choose(settings.vector_field, vectors, types, "vector", location) if has_vectors else None
            # Everything but vectors as JSON: it knows how to write dates, ids and arrays.
            select = sql.SQL("SELECT t.{id}::text, to_jsonb(t) - %s::text[], {vector} FROM {table} t ORDER BY t.{id}")
            query = select.format(
                id=sql.Identifier(identity),
                table=table,
                vector=sql.SQL("NULL") if chosen is None else sql.SQL("t.{}::text").format(sql.Identifier(chosen)),
            )
            with connection.cursor(name="relgrade") as cursor:  # on the server: a page at a time comes over
                cursor.itersize = PAGE_ROWS
                cursor.execute(query, [[*vectors, identity]])
                for own_id, values, vector in cursor:
                    if has_vectors and vector is None:
                        yield InvalidData(f"{location.name}: row {own_id!r} has no vector in {chosen}")
                        continue
                    found = None if vector is None else json.loads(vector)
                    yield entry_of(own_id, values, found, store=location, settings=settings)
    except psycopg.Error as error:
        reason = str(error).strip().split("\n")[0]
        raise InvalidData(f"{location.name}: {type(error).__name__}: {reason}"[:400]) from error


def _choose(wanted: str | None, usual: list[str], types: dict[str, Any], what: str, location: StoreLocation) -> str:
    found = [name for name in usual if name in types]
    if wanted is not None:
        found = [wanted] if wanted in types else []
    if not found or (what == "vector" and len(found) > 1):
        problem = "several columns" if found else "no column"
        raise InvalidData(
            f"{location.name}: {problem} for the {what}; its columns are {', '.join(types)[:200]}; name one"
        )
    return found[0]
