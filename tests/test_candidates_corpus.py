import gzip
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relgrade.candidates import CorpusSettings, file_text, read_queries
from relgrade.candidates.chunks import Chunker, page_of
from relgrade.candidates.corpus import CorpusReport, read_corpus
from relgrade.candidates.passages import Entry, PassageStore
from relgrade.errors import InvalidData, InvalidInput, InvalidSettings
from relgrade.records import Document

pytest.importorskip("bs4")
pytest.importorskip("pypdf")
pytest.importorskip("semantic_text_splitter")


def pdf(*pages, title=None):
    """A PDF of one line of text per page, with its table of objects."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    kids = " ".join(f"{4 + 2 * i} 0 R" for i in range(len(pages)))
    objects.append(f"<</Type/Pages/Kids[{kids}]/Count {len(pages)}>>".encode())
    objects.append(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
    for i, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 10 100 Td ({text}) Tj ET".encode()
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
            % (5 + 2 * i)
        )
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(stream), stream))
    if title:
        objects.append(f"<</Title({title})>>".encode())
    body, places = b"%PDF-1.4\n", []
    for number, each in enumerate(objects, start=1):
        places.append(len(body))
        body += b"%d 0 obj%s\nendobj\n" % (number, each)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    info = b"/Info %d 0 R" % len(objects) if title else b""
    size = len(objects) + 1
    return body + b"xref\n0 %d\n0000000000 65535 f \n%strailer<</Size %d/Root 1 0 R%s>>\nstartxref\n%d\n%%%%EOF" % (
        size,
        table,
        size,
        info,
        len(body),
    )


@pytest.fixture
def read(tiny_tokenizer):
    """Entries of a corpus, what was skipped, and the report."""

    def read_all(source, skip_bad=False, **changes):
        report, skipped = CorpusReport(), []
        entries = list(
            read_corpus(
                source,
                CorpusSettings(**changes),
                report=report,
                tokenizer=tiny_tokenizer,
                on_bad=skipped.append if skip_bad else None,
            )
        )
        return [entry.document for entry in entries], skipped, report

    return read_all


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "docs"
    (root / "deep" / "er").mkdir(parents=True)
    (root / ".git").mkdir()
    (root / ".git" / "secret.txt").write_text("hidden")
    (root / "b.txt").write_text("the red apple " * 30)
    (root / "a.md").write_text("# Fruit of the hill\n\nThe pear is green.\n")
    (root / "deep" / "page.html").write_bytes(
        b"<html><head><title>A  page</title><style>x{}</style></head><body><script>evil()</script>"
        b"<p>The <b>cat</b> sat</p><p>on a rock</p><table><tr><td>one</td><td>two</td></tr></table></body></html>"
    )
    (root / "deep" / "er" / "two.pdf").write_bytes(pdf("the white horse", "the black hen", title="On animals"))
    (root / "picture.png").write_bytes(b"\x89PNG\0\0")
    return root


def test_a_folder_is_read_in_order_with_places_and_titles(read, folder):
    documents, _, report = read(folder, chunk_tokens=20)
    assert [each.metadata["path"] for each in documents] == [
        "a.md",
        *["b.txt"] * (len(documents) - 3),
        "deep/er/two.pdf",
        "deep/page.html",
    ]
    assert documents[0].title == "Fruit of the hill"
    text = (folder / "b.txt").read_text()
    for each in documents[1:-2]:
        start, end = each.metadata["start"], each.metadata["end"]
        assert each.text == text[start:end]
        assert each.id == f"b.txt#{start}-{end}"
    assert documents[-1].text == "The cat sat\non a rock\none\ntwo"
    assert documents[-1].title == "A page"
    assert "white horse" in documents[-2].text
    assert documents[-2].title == "On animals"
    assert (documents[-2].metadata["page"], documents[-2].metadata["last_page"]) == (1, 2)
    assert report.unknown == {".png": 1}


def test_chunks_of_a_pdf_know_their_page(read, tmp_path):
    path = tmp_path / "long.pdf"
    path.write_bytes(pdf(*["the red cat of the hill and the grey dog"] * 5))
    documents, _, _ = read(path, chunk_tokens=8)
    assert [each.metadata["page"] for each in documents] == sorted(each.metadata["page"] for each in documents)
    assert {each.metadata["page"] for each in documents} == {1, 2, 3, 4, 5}
    assert page_of(0, (0, 10)) == 1
    assert page_of(10, (0, 10)) == 2


@settings(max_examples=40)
@given(st.text(alphabet="abc red cat.\n\n é😀\t#", max_size=300), st.booleans())
def test_chunks_are_pieces_of_the_text_and_lose_no_word(tiny_tokenizer, text, is_markdown):
    chunks = list(Chunker(tiny_tokenizer, max_tokens=8).cut(text, is_markdown=is_markdown))
    for chunk in chunks:
        assert chunk.text == text[chunk.start : chunk.end]
    covered = {position for chunk in chunks for position in range(chunk.start, chunk.end)}
    assert all(text[position].isspace() for position in range(len(text)) if position not in covered)


def test_chunks_have_at_most_their_tokens_and_a_huge_text_is_cut_in_segments(tiny_tokenizer):
    text = "the red apple was sweet. " * 9000  # more than two segments
    chunks = list(Chunker(tiny_tokenizer, max_tokens=50).cut(text))
    assert max(len(tiny_tokenizer.encode(chunk.text, add_special_tokens=False).ids) for chunk in chunks) <= 50
    assert "".join(chunk.text for chunk in chunks).replace(" ", "") == text.replace(" ", "")
    assert all(chunk.text == text[chunk.start : chunk.end] for chunk in chunks)


def test_a_word_without_end_is_cut_all_the_same(tiny_tokenizer):
    chunks = list(Chunker(tiny_tokenizer, max_tokens=50).cut("x" * 5000))
    assert "".join(chunk.text for chunk in chunks) == "x" * 5000
    assert max(len(chunk.text) for chunk in chunks) <= 50 * 24


BAD_FILES = {
    "binary.txt": (b"a\0b", "is binary"),
    "latin.txt": ("the café".encode("cp1252"), "not utf-8 at byte 8"),
    "cut.pdf": (pdf("the cat")[:120], "cannot be read as PDF"),
    "nothing.pdf": (b"", "cannot be read as PDF"),
    "pictures.pdf": (pdf(""), "no text on its 1 pages"),
    "binary.html": (b"<p>\0", "is binary"),
    "utf16.txt": (b"\xff\xfea", "not utf-16 at byte"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_broken_file_is_named_and_can_be_skipped(read, tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / "a.txt").write_text("the red cat")
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidData, match=message) as caught:
        read(tmp_path)
    assert caught.value.path == tmp_path / name
    documents, skipped, report = read(tmp_path, skip_bad=True)
    assert [each.id for each in documents] == ["a.txt#0-11"]
    assert [each.path for each in skipped] == [tmp_path / name]
    assert len(report.bad) == 1


def test_an_encrypted_pdf_is_named(read, tmp_path):
    import pypdf

    writer = pypdf.PdfWriter()
    writer.add_blank_page(100, 100)
    writer.encrypt("secret", algorithm="RC4-128")
    with (tmp_path / "locked.pdf").open("wb") as file:
        writer.write(file)
    with pytest.raises(InvalidData, match="is encrypted"):
        read(tmp_path)


def test_encodings(read, tmp_path):
    (tmp_path / "1.txt").write_bytes("the café".encode("utf-8-sig"))
    (tmp_path / "2.txt").write_bytes("the café".encode("utf-16"))
    (tmp_path / "3.txt").write_bytes("the café".encode("utf-32"))
    (tmp_path / "4.txt").write_bytes("the café".encode("cp1252"))
    (tmp_path / "5.html").write_bytes("<meta charset='iso-8859-2'><p>Łódź".encode("iso-8859-2"))
    documents, _, _ = read(tmp_path, encoding="cp1252")
    assert [each.text for each in documents] == ["the café"] * 4 + ["Łódź"]
    with pytest.raises(InvalidSettings, match="no encoding 'klingon'"):
        CorpusSettings(encoding="klingon")


def test_a_huge_file_is_refused_before_it_is_read(read, tmp_path, monkeypatch):
    monkeypatch.setattr(file_text, "MAX_TEXT_BYTES", 10)
    (tmp_path / "big.txt").write_text("x" * 11)
    with pytest.raises(InvalidData, match="divide it"):
        read(tmp_path)


def test_links_in_a_circle_end(read, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.txt").write_text("the cat")
    (tmp_path / "a" / "back").symlink_to(tmp_path)
    (tmp_path / "nowhere.txt").symlink_to(tmp_path / "gone")
    documents, _, _ = read(tmp_path)
    assert [each.text for each in documents] == ["the cat"]


def write_table(path, rows):
    if path.suffix == ".parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.name.endswith(".csv"):
        lines = [",".join(rows[0]), *(",".join(f'"{value}"' for value in row.values()) for row in rows)]
        path.write_text("\n".join(lines))
    else:
        data = "".join(json.dumps(row) + "\n" for row in rows).encode()
        path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


@pytest.mark.parametrize("name", ["c.jsonl", "c.jsonl.gz", "c.csv", "c.parquet"])
def test_tables_give_the_same_documents(read, tmp_path, name):
    rows = [
        {"id": "007", "title": "Fruit", "text": "1", "colour": "red"},
        {"id": "8", "title": "", "text": "two", "colour": "b"},
    ]
    write_table(tmp_path / name, rows)
    documents, _, _ = read(tmp_path / name)
    assert [(each.id, each.text, each.metadata["colour"]) for each in documents] == [
        ("007", "1", "red"),
        ("8", "two", "b"),
    ]
    assert documents[0].title == "Fruit"


def test_fields_may_have_names_of_their_own(read, tmp_path):
    write_table(tmp_path / "c.jsonl", [{"key": 3, "body": "the cat", "text": "no", "head": "T"}])
    (document,), _, _ = read(tmp_path / "c.jsonl", text_field="body", id_field="key", title_field="head")
    assert (document.id, document.text, document.title, document.metadata) == ("3", "the cat", "T", {"text": "no"})


def test_a_beir_folder_gives_corpus_and_queries(read, tmp_path):
    (tmp_path / "qrels").mkdir()
    write_table(tmp_path / "corpus.jsonl", [{"_id": "d1", "title": "", "text": "the cat", "metadata": {"url": "u"}}])
    write_table(tmp_path / "queries.jsonl", [{"_id": "q1", "text": "which cat"}, {"_id": "q2", "text": "which dog"}])
    (tmp_path / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq2\td1\t1\n")
    (document,), _, _ = read(tmp_path)
    assert (document.id, document.metadata) == ("d1", {"url": "u"})
    assert [query.id for query in read_queries(tmp_path)] == ["q1", "q2"]
    assert [query.id for query in read_queries(tmp_path, split="test")] == ["q2"]


def test_bad_rows_are_named_and_can_be_skipped(read, tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "the cat"}\nnot json\n{"texts": 1}\n{"text": 5}\n{"text": "b", "id": true}\n')
    with pytest.raises(InvalidData, match=r"c.jsonl:2: not JSON"):
        read(path)
    documents, skipped, _ = read(path, skip_bad=True)
    assert [each.line for each in skipped] == [2, 3, 4, 5]
    assert len(documents) == 1
    assert documents[0].id.startswith("d-")


def test_rows_are_chunked_when_asked(read, tmp_path):
    write_table(tmp_path / "c.jsonl", [{"id": "x", "text": "the red cat of the hill " * 4, "url": "u"}])
    documents, _, _ = read(tmp_path / "c.jsonl", chunk_tokens=10)
    assert len(documents) > 1
    for each in documents:
        assert each.id == f"x#{each.metadata['start']}-{each.metadata['end']}"
        assert (each.metadata["document_id"], each.metadata["url"]) == ("x", "u")


def test_a_corpus_that_is_none_is_said_so(read, tmp_path):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(InvalidData, match="a corpus is a folder or a file of"):
        read(tmp_path / "x.png")
    with pytest.raises(InvalidData, match="no such file"):
        read(tmp_path / "gone")


# --- the store of passages


def test_the_store_gives_back_what_was_added_and_leaves_out_copies_and_blanks(tmp_path):
    with PassageStore(tmp_path / "store") as store:
        assert store.add(Entry(Document("the cat\nü😀", "On cats", "a", {"n": 1}))) == 0
        assert store.add(Entry(Document("the cat\nü😀", "On cats", "a", {"n": 1}))) is None
        assert store.add(Entry(Document("  ", "A title alone", "b"))) is None
        assert store.add(Entry(Document("The  CAT", None, "c"))) == 1
        assert store.add(Entry(Document("the cat", None, "d"))) == 2
        with pytest.raises(InvalidData, match="'a' stands for two different texts"):
            store.add(Entry(Document("a dog", None, "a")))
        store.close_writing()
        assert (store.n_repeated, store.n_blank, len(store)) == (1, 1, 3)
        assert store.read(0).text == "title: On cats\nthe cat\nü😀"
        assert store.read(0).metadata == {"n": 1}
        assert store.read(2).doc_id == "d"
        assert list(store.texts()) == ["title: On cats\nthe cat\nü😀", "The  CAT", "the cat"]
        assert store.text_keys[1] == store.text_keys[2] != store.text_keys[0]
    assert not (tmp_path / "store").exists()


def test_metadata_that_json_cannot_hold_is_refused(tmp_path):
    with PassageStore(tmp_path / "store") as store, pytest.raises(InvalidInput, match="document 'a' holds what JSON"):
        store.add(Entry(Document("x", None, "a", {"n": float("nan")})))


# --- queries


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("q.txt", "which cat\n\n  which dog \nwhich cat\n"),
        ("q.jsonl", '{"query": "which cat"}\n{"question": "which dog"}\n'),
        ("q.csv", "query,note\nwhich cat,1\nwhich dog,2\n"),
        ("q.tsv", "text\nwhich cat\nwhich dog\n"),
    ],
)
def test_queries_are_read_alike(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    queries = read_queries(tmp_path / name)
    assert [query.text for query in queries] == ["which cat", "which dog"]
    assert len({query.id for query in queries}) == 2


def test_bad_queries_are_named(tmp_path):
    path = tmp_path / "q.jsonl"
    path.write_text(
        '{"query": "a cat", "id": 1}\n{"query": " "}\n{"query": "a dog", "id": 1}\n{"query": "x", "vector": ["a"]}\n'
    )
    with pytest.raises(InvalidData, match=r"q.jsonl:2: the query is blank"):
        read_queries(path)
    skipped = []
    assert len(read_queries(path, on_bad=skipped.append)) == 1
    assert [each.line for each in skipped] == [2, 3, 4]
    path.write_text("")
    with pytest.raises(InvalidData, match="no query in it"):
        read_queries(path)
    (tmp_path / "q.pdf").write_text("")
    with pytest.raises(InvalidData, match="queries are read from"):
        read_queries(tmp_path / "q.pdf")
