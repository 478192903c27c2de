"""Readers of vector stores against the stores themselves: Qdrant in its local mode, Chroma embedded, PostgreSQL.

pgvector needs a server: `RELGRADE_TEST_POSTGRES` holds its connection string; a table is made and dropped there.
"""

import json
import os
from importlib import import_module

import numpy as np
import pytest

from candidates_case import WordEncoder
from relgrade.candidates import CandidateSettings, CorpusSettings, Mix, StoreLocation, make_candidates
from relgrade.candidates.corpus import CorpusReport, read_corpus
from relgrade.candidates.stores.records import entry_of
from relgrade.errors import InvalidData, InvalidInput, MissingExtra
from relgrade.formats import read_pairs

N, PAGE = 70, 32  # more than two pages; the local mode of Qdrant is slow to fill
TEXTS = [f"document number {i} on {('cats', 'dogs', 'hens')[i % 3]} and word{i}" for i in range(N)]
ENCODER = WordEncoder()
VECTORS = ENCODER.encode(TEXTS, kind="document")
POSTGRES = os.environ.get("RELGRADE_TEST_POSTGRES")


@pytest.fixture(autouse=True)
def small_pages(monkeypatch):
    for kind, name in (("qdrant", "PAGE_POINTS"), ("chroma", "PAGE_RECORDS"), ("pgvector", "PAGE_ROWS")):
        try:
            module = import_module(f"relgrade.candidates.stores.{kind}")
        except MissingExtra:
            continue
        monkeypatch.setattr(module, name, PAGE)


def read(location, *, has_vectors=True, on_bad=None, **settings):
    settings = CorpusSettings(**settings)
    return list(read_corpus(location, settings, report=CorpusReport(), has_vectors=has_vectors, on_bad=on_bad))


def holds_all(entries, *, name_of=str):
    """The entries are the documents above, each once, with metadata and vector."""
    by_id = {entry.document.id: entry for entry in entries}
    assert len(by_id) == len(entries) == N
    for i in range(N):
        entry = by_id[name_of(i)]
        assert entry.document.text == TEXTS[i]
        assert entry.document.metadata["n"] == i
        length = np.linalg.norm(entry.vector)
        assert entry.vector / length == pytest.approx(VECTORS[i], abs=1e-5)


def search_by_store_vectors(location, tmp_path):
    """Search with vectors that store and queries bring: a document's own vector finds it."""
    rows = [{"id": f"q{i}", "query": f"query {i}", "vector": VECTORS[i].tolist()} for i in (0, 7, N - 1)]
    (tmp_path / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = CandidateSettings(method="dense", mix=Mix(top=2, random=1), has_store_vectors=True)
    make_candidates(tmp_path / "queries.jsonl", location, tmp_path / "out.jsonl", settings=settings)
    best = [pair for pair in read_pairs(tmp_path / "out.jsonl") if pair.fields.get("rank") == 1]
    assert [pair.document for pair in best] == [TEXTS[i] for i in (0, 7, N - 1)]
    assert [pair.fields["retrieval_score"] for pair in best] == pytest.approx([1, 1, 1], abs=1e-4)


# --- Qdrant


@pytest.fixture(scope="module")
def qdrant(tmp_path_factory):
    qdrant_client = pytest.importorskip("qdrant_client")
    models = qdrant_client.models
    folder = tmp_path_factory.mktemp("qdrant")
    client = qdrant_client.QdrantClient(path=str(folder))
    space = models.VectorParams(size=ENCODER.dimension, distance=models.Distance.COSINE)
    client.create_collection("plain", vectors_config=space)
    client.create_collection("named", vectors_config={"small": space, "large": space})
    payloads = [{"page_content": text, "metadata": {"n": i}} for i, text in enumerate(TEXTS)]  # as LangChain writes
    for name in ("plain", "named"):
        vectors = VECTORS.tolist() if name == "plain" else [{"small": v, "large": v} for v in VECTORS.tolist()]
        points = [
            models.PointStruct(id=i, vector=vectors[i], payload=payloads[i] if name == "plain" or i else {"n": 0})
            for i in range(N)
        ]
        client.upsert(name, points)
    client.close()
    return folder


def test_qdrant_is_read_whole_and_in_one_order(qdrant):
    location = StoreLocation("qdrant", str(qdrant), "plain")
    entries = read(location)
    holds_all(entries)
    assert [entry.document.id for entry in entries] == [entry.document.id for entry in read(location)]
    assert all(entry.vector is None for entry in read(location, has_vectors=False))


def test_qdrant_vectors_are_searched(qdrant, tmp_path):
    search_by_store_vectors(StoreLocation("qdrant", str(qdrant), "plain"), tmp_path)


def test_qdrant_points_without_text_and_several_vectors_are_said_so(qdrant):
    location = StoreLocation("qdrant", str(qdrant), "named")
    with pytest.raises(InvalidData, match=r"vectors \['large', 'small'\]; name one"):
        read(location)
    with pytest.raises(InvalidData, match="record 0 has no text under text or page_content"):
        read(location, vector_field="small")
    skipped = []
    assert len(read(location, vector_field="small", on_bad=skipped.append)) == N - 1
    assert len(skipped) == 1


def test_a_qdrant_that_is_not_there_is_said_so_and_none_is_made(qdrant, tmp_path):
    with pytest.raises(InvalidData, match="no such collection; found: named, plain"):
        read(StoreLocation("qdrant", str(qdrant), "other"))
    with pytest.raises(InvalidData, match="no local Qdrant store"):
        read(StoreLocation("qdrant", str(tmp_path / "new"), "plain"))
    assert not (tmp_path / "new").exists()
    with pytest.raises(InvalidData, match="qdrant collection 'plain'"):
        read(StoreLocation("qdrant", "http://127.0.0.1:9", "plain"))


# --- Chroma


@pytest.fixture(scope="module")
def chroma(tmp_path_factory):
    chromadb = pytest.importorskip("chromadb")
    folder = tmp_path_factory.mktemp("chroma")
    client = chromadb.PersistentClient(str(folder), settings=chromadb.Settings(anonymized_telemetry=False))
    collection = client.create_collection("plain", embedding_function=None)
    for start in range(0, N, 50):
        part = slice(start, start + 50)
        collection.add(
            ids=[f"c{i}" for i in range(N)][part],
            documents=TEXTS[part],
            metadatas=[{"n": i} for i in range(N)][part],
            embeddings=VECTORS[part].tolist(),
        )
    return folder


def test_chroma_is_read_whole_and_in_one_order(chroma):
    location = StoreLocation("chroma", str(chroma), "plain")
    entries = read(location)
    holds_all(entries, name_of=lambda i: f"c{i}")
    assert [entry.document.id for entry in entries] == [entry.document.id for entry in read(location)]
    assert all(entry.vector is None for entry in read(location, has_vectors=False))


def test_chroma_vectors_are_searched(chroma, tmp_path):
    search_by_store_vectors(StoreLocation("chroma", str(chroma), "plain"), tmp_path)


def test_a_chroma_that_is_not_there_is_said_so_and_none_is_made(chroma, tmp_path):
    with pytest.raises(InvalidData, match="no such collection; found: plain"):
        read(StoreLocation("chroma", str(chroma), "other"))
    with pytest.raises(InvalidData, match="no Chroma store"):
        read(StoreLocation("chroma", str(tmp_path / "new"), "plain"))
    assert not (tmp_path / "new").exists()


# --- pgvector


@pytest.fixture(scope="module")
def postgres():
    psycopg = pytest.importorskip("psycopg")
    if not POSTGRES:
        pytest.skip("RELGRADE_TEST_POSTGRES names no server")
    vectors = ["[" + ",".join(map(str, vector)) + "]" for vector in VECTORS.tolist()]
    with psycopg.connect(POSTGRES, autocommit=True) as connection:
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute("CREATE SCHEMA relgrade_test")
        connection.execute(
            'CREATE TABLE relgrade_test."Chunks" '
            f"(id bigint PRIMARY KEY, content text, n int, made date, embedding vector({ENCODER.dimension}))"
        )
        with connection.cursor() as cursor:
            cursor.executemany(
                """INSERT INTO relgrade_test."Chunks" VALUES (%s, %s, %s, '2024-02-29', %s)""",
                [(i, TEXTS[i], i, vectors[i]) for i in reversed(range(N))],
            )
        connection.execute("""CREATE VIEW relgrade_test.bare AS SELECT n, content FROM relgrade_test."Chunks" """)
        try:
            yield psycopg
        finally:
            connection.execute("DROP SCHEMA relgrade_test CASCADE")


def test_pgvector_is_read_whole_and_in_one_order(postgres):
    location = StoreLocation("pgvector", POSTGRES, "relgrade_test.Chunks")
    entries = read(location)
    holds_all(entries)
    assert [entry.document.id for entry in entries] == [str(i) for i in range(N)]
    assert entries[0].document.metadata == {"n": 0, "made": "2024-02-29"}
    assert all(entry.vector is None for entry in read(location, has_vectors=False))


def test_pgvector_vectors_are_searched(postgres, tmp_path):
    search_by_store_vectors(StoreLocation("pgvector", POSTGRES, "relgrade_test.Chunks"), tmp_path)


def test_pgvector_tables_that_do_not_fit_are_said_so(postgres):
    with pytest.raises(InvalidData, match=r'relation "relgrade_test.gone" does not exist'):
        read(StoreLocation("pgvector", POSTGRES, "relgrade_test.gone"))
    bare = StoreLocation("pgvector", POSTGRES, "relgrade_test.bare")
    with pytest.raises(InvalidData, match=r"no column for the id; its columns are n, content; name one"):
        read(bare)
    with pytest.raises(InvalidData, match="no column for the vector"):
        read(bare, id_field="n")
    assert len(read(bare, id_field="n", has_vectors=False)) == N
    with pytest.raises(InvalidData, match=r"no such|does not exist"):
        read(StoreLocation("pgvector", POSTGRES, 'x"; DROP SCHEMA relgrade_test; --'))


def test_a_server_that_is_not_there_is_said_so_without_its_password():
    pytest.importorskip("psycopg")
    location = StoreLocation("pgvector", "host=127.0.0.1 port=9 password=secret123", "t")
    with pytest.raises(InvalidData, match="pgvector collection 't': OperationalError") as caught:
        read(location)
    assert "secret123" not in str(caught.value)


# --- what they share


def test_a_location_is_read_from_a_word():
    parse = StoreLocation.parse
    assert parse("qdrant:http://h:6333", collection="c").location == "http://h:6333"
    assert parse("pgvector:", collection="s.t") == StoreLocation("pgvector", "", "s.t")
    for text in ("corpus.jsonl", "qdrant", "./qdrant:x", "C:/data"):
        assert parse(text, collection="c") is None
    with pytest.raises(InvalidInput, match=r"name of a collection is needed; .* collection= in Python"):
        parse("chroma:x", collection=None)
    assert "key" not in repr(parse("qdrant:x", collection="c", api_key="key"))


@pytest.mark.parametrize(
    ("values", "metadata"),
    [
        ({"text": "t", "n": 1}, {"n": 1}),
        ({"page_content": "t", "metadata": {"n": 1, "title": "T"}}, {"n": 1}),
        ({"content": "t", "meta": {"n": 1}, "score": None}, {"n": 1}),
        ({"text": "t", "metadata_": {"n": 1, "text": "inner"}}, {"n": 1}),
    ],
)
def test_records_of_common_frameworks_are_documents(values, metadata):
    store = StoreLocation("qdrant", "x", "c")
    entry = entry_of(5, values, None, store=store, settings=CorpusSettings())
    assert (entry.document.id, entry.document.text, entry.document.metadata) == ("5", "t", metadata)


def test_a_client_that_is_not_installed_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "chromadb", None)
    monkeypatch.delitem(sys.modules, "relgrade.candidates.stores.chroma", raising=False)
    with pytest.raises(MissingExtra, match=r"pip install 'relgrade\[chroma\]'"):
        read(StoreLocation("chroma", "x", "c"))
