"""What each format reads, and that every format gives back what was written."""

import csv
import gzip
import json
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relgrade.errors import InvalidData, InvalidInput, OutputError
from relgrade.formats import read_pairs, read_trec, write_pairs
from relgrade.formats.rows import RESERVED_FIELDS
from relgrade.records import Pair

SUFFIXES = [".jsonl", ".jsonl.gz", ".ndjson", ".csv", ".csv.gz", ".tsv", ".parquet"]

# NUL is cleaned from texts and ids, as in grading; in other fields it stays.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
named = texts.filter(lambda text: text.strip())
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)
# A few names shared by many pairs, so that columns hold values of one type and of several.
field_names = st.sampled_from(["rank", "note", "text", "qid", "_id", "", "neg type", "é\n"])
extra_fields = st.dictionaries(field_names, values | texts | st.sampled_from(["1", "null", '"', "a,b", "-", " 2"]))
pairs_strategy = st.builds(
    Pair,
    query_id=named,
    query=named,
    doc_id=named,
    document=texts,
    label=st.none() | st.sampled_from([0.0, 1.0]) | st.floats(0, 1),
    split=st.none() | st.sampled_from(["train", "test", "a\tb"]),
    source=st.none() | st.sampled_from(["first", "2"]),
    fields=extra_fields,
)


def numbered(pairs):
    """The pairs with ids that make each of them a query of its own."""
    return [replace(pair, query_id=f"{i}{pair.query_id}") for i, pair in enumerate(pairs)]


def write_lines(path, lines):
    data = b"".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def write_json(path, *rows):
    return write_lines(path, [json.dumps(row) + "\n" for row in rows])


def one(path, **options):
    (pair,) = read_pairs(path, **options)
    return pair


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(pairs=st.lists(pairs_strategy, max_size=5))
def test_what_is_written_is_read_back(tmp_path, suffix, pairs):
    pairs = numbered(pairs)
    path = tmp_path / f"pairs{suffix}"
    assert write_pairs(path, iter(pairs)) == len(pairs)
    found = list(read_pairs(path))
    assert found == pairs
    for before, after in zip(pairs, found, strict=True):  # == does not tell 1 from 1.0 and True
        assert repr(sorted(before.fields.items())) == repr(sorted(after.fields.items()))
    assert [path.name for path in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
@given(value=st.text(st.characters(categories=["Cs", "Ll", "Cc"]), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_lone_surrogates_survive_in_fields_and_are_cleaned_from_texts(tmp_path, suffix, value):
    # A high one before a low one is not lone: JSON's escapes can only mean the character that the two stand for.
    value = re.sub("([\ud800-\udbff])(?=[\udc00-\udfff])", r"\1-", value)
    pair = Pair(query_id="q", query="what?", doc_id="d", document=f"\ud800a\0{value}", fields={"note": value})
    path = tmp_path / f"pairs{suffix}"
    write_pairs(path, [pair])
    found = one(path)
    assert found.fields == pair.fields
    assert found.document.startswith("\ufffda ")
    found.document.encode("utf-8")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_pairs_give_the_same_bytes(tmp_path, suffix):
    pairs = [
        Pair(query_id=str(i), query="q", doc_id="d", document="text " * i, label=i / 9, fields={"n": i})
        for i in range(9)
    ]
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    write_pairs(first, pairs)
    write_pairs(second, pairs)
    assert first.read_bytes() == second.read_bytes()
    if suffix.endswith(".gz"):
        assert first.read_bytes()[3:8] == bytes(5)  # no name, and no time, which within one second would not show


def test_the_names_a_row_may_use(tmp_path):
    path = write_json(
        tmp_path / "a.jsonl",
        {"query": "q1", "text": "one", "qid": 7, "docid": "d1", "label": True},
        {"query": "q2", "passage": "two", "_id": "d2", "label": 0.25, "split": "test", "source": "s", "rank": 3},
        {"query": "q3", "document": {"text": "three", "title": "T", "id": 5, "url": "u"}, "label": None},
        {"query": "q4", "document": "four", "text": "other", "query_id": "x", "qid": "y", "split": "", "title": None},
    )
    first, second, third, fourth = read_pairs(path)
    assert first == Pair(query_id="7", query="q1", doc_id="d1", document="one", label=1.0)
    assert (second.doc_id, second.label, second.split, second.source) == ("d2", 0.25, "test", "s")
    assert second.fields == {"rank": 3}
    assert (third.document, third.doc_id, third.label) == ("title: T\nthree", "5", None)
    assert third.fields == {"document_fields": {"url": "u"}}
    assert (fourth.document, fourth.query_id, fourth.split) == ("four", "x", None)
    assert fourth.fields == {"text": "other", "qid": "y"}


@pytest.mark.parametrize(
    ("title", "text", "expected"),
    [
        ("Paris", "A city.", "title: Paris\nA city."),
        ("Paris", "Paris is a city.", "title: Paris\nParis is a city."),  # begins with the word, not with a title line
        ("Paris", "Paris\nA city.", "Paris\nA city."),
        (" Paris ", "title:  Paris\nA city.", "title:  Paris\nA city."),
        ("two\nlines", "text", "title: two lines\ntext"),
        ("  ", "text", "text"),
        ("Paris", "", "title: Paris\n"),
    ],
)
def test_a_title_becomes_the_first_line_once(tmp_path, title, text, expected):
    path = write_json(tmp_path / "a.jsonl", {"query": "q", "document": text, "title": title})
    pair = one(path)
    assert pair.document == expected
    write_pairs(tmp_path / "b.jsonl", [pair])
    assert one(tmp_path / "b.jsonl") == pair


def test_ids_that_are_missing_depend_on_the_text_alone(tmp_path):
    rows = [{"query": "q", "document": "a"}, {"query": "q", "document": "b"}, {"query": "other", "document": "a"}]
    forward = list(read_pairs(write_json(tmp_path / "a.jsonl", *rows)))
    backward = list(read_pairs(write_json(tmp_path / "b.jsonl", *rows[::-1])))
    assert forward == backward[::-1]
    assert len({pair.query_id for pair in forward}) == len({pair.doc_id for pair in forward}) == 2
    assert forward[0].query_id == "q-2b3570fb29bd1435"  # of this and every other process


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_source_names_and_split_selects(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_pairs(
        path,
        [
            Pair(query_id="1", query="q", doc_id="d", document="a", split="train", source="old"),
            Pair(query_id="2", query="r", doc_id="d", document="a", split="test"),
        ],
    )
    assert [pair.source for pair in read_pairs(path)] == ["old", None]
    assert [pair.source for pair in read_pairs(path, source="new")] == ["new", "new"]
    assert [pair.query_id for pair in read_pairs(path, split="test")] == ["2"]
    with pytest.raises(InvalidData, match="no row of split 'dev'; found: test, train"):
        list(read_pairs(path, split="dev"))


def test_csv_of_other_tools(tmp_path):
    rows = [
        "query,text,label,rank,code,gone\r\n",
        '"a, ""b""?","line 1\nline 2",True,3,007,\r\n',
        "c,,,x,1e400,null\r\n",
    ]
    first, second = read_pairs(write_lines(tmp_path / "a.csv", [b"\xef\xbb\xbf", *rows]))
    assert (first.query, first.document, first.label) == ('a, "b"?', "line 1\nline 2", 1.0)
    assert first.fields == {"rank": 3, "code": "007"}
    assert (second.document, second.label) == ("", None)
    assert second.fields == {"rank": "x", "code": "1e400", "gone": None}


def test_a_long_cell_and_a_line_separator_inside_a_text(tmp_path):
    pair = Pair(query_id="1", query="q", doc_id="d", document="a\u2028b\x85c" * 200_000)
    for suffix in SUFFIXES:
        write_pairs(tmp_path / f"a{suffix}", [pair])
        assert one(tmp_path / f"a{suffix}") == pair


def test_csv_cells_follow_rfc_4180(tmp_path):
    pair = Pair(query_id="1", query='say "x", y', doc_id="d", document="a\r\nb")
    write_pairs(tmp_path / "a.csv", [pair])
    with (tmp_path / "a.csv").open(newline="") as file:
        assert next(iter(csv.DictReader(file)))["query"] == pair.query


def test_parquet_of_other_tools(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import datetime

    import pyarrow.parquet as pq

    table = {
        "query": ["q", "r"],
        "document": [{"text": "a", "title": "T"}, {"text": "b", "title": None}],
        "label": [1, 0],
        "day": [datetime.date(2020, 1, 2), None],
        "score": [float("nan"), 1.5],
        "tags": [["x", None], []],
    }
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    first, second = read_pairs(tmp_path / "a.parquet")
    assert (first.document, first.label) == ("title: T\na", 1.0)
    assert first.fields == {"day": "2020-01-02", "score": None, "tags": ["x", None]}
    assert second.fields == {"score": 1.5, "tags": []}


def test_parquet_columns_keep_their_types(tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    fields = {"rank": 1, "ok": True, "share": 0.5, "note": "x", "mixed": 1}
    write_pairs(
        tmp_path / "a.parquet",
        [
            Pair(query_id="1", query="q", doc_id="d", document="a", fields=fields),
            Pair(query_id="2", query="r", doc_id="d", document="a", fields={"mixed": "1"}),
        ],
    )
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert [str(schema.field(name).type) for name in fields] == ["int64", "bool", "double", "string", "string"]


def beir(folder, *, corpus, queries, qrels, packed=False):
    suffix = ".gz" if packed else ""
    (folder / "qrels").mkdir(parents=True)
    write_json(folder / f"corpus.jsonl{suffix}", *corpus)
    write_json(folder / f"queries.jsonl{suffix}", *queries)
    for split, lines in qrels.items():
        write_lines(folder / "qrels" / f"{split}.tsv", ["query-id\tcorpus-id\tscore\n", *lines])
    return folder


CORPUS = [{"_id": "d1", "title": "T", "text": "one"}, {"_id": "d2", "title": "", "text": "two"}]
QUERIES = [{"_id": "1", "text": "what?"}, {"_id": "2", "text": "who?"}]


@pytest.mark.parametrize("packed", [False, True])
def test_a_beir_folder(tmp_path, packed):
    qrels = {"train": ["2\td2\t1\n"], "test": ["1\td1\t2\n", "1\td2\t0\n"]}
    folder = beir(tmp_path / "b", corpus=CORPUS, queries=QUERIES, qrels=qrels, packed=packed)
    pairs = list(read_pairs(folder, source="b"))
    assert [(pair.split, pair.query_id, pair.doc_id, pair.label) for pair in pairs] == [
        ("test", "1", "d1", 1.0),
        ("test", "1", "d2", 0.0),
        ("train", "2", "d2", 1.0),
    ]
    assert pairs[0] == Pair(
        query_id="1",
        query="what?",
        doc_id="d1",
        document="title: T\none",
        label=1.0,
        split="test",
        source="b",
        fields={"grade": 2},
    )
    assert [pair.split for pair in read_pairs(folder, split="train")] == ["train"]
    assert [pair.label for pair in read_pairs(folder, cut=2)] == [1.0, 0.0, 0.0]
    with pytest.raises(InvalidData, match="no qrels of split dev; found: test, train"):
        list(read_pairs(folder, split="dev"))


def test_lines_of_a_beir_folder_that_are_no_judgement(tmp_path):
    lines = [
        "1\td1\t1\n",
        "1\tnone\t1\n",
        "9\td1\t1\n",
        "1\td2\n",
        "1\td2\tnan\n",
        b"\xff\td2\t1\n",
        "\n",
        "2\td2\t1\n",
    ]
    folder = beir(tmp_path / "b", corpus=CORPUS, queries=QUERIES, qrels={"test": lines})
    bad = []
    assert [pair.query_id for pair in read_pairs(folder, on_bad_line=bad.append)] == ["1", "2"]
    assert [error.line for error in bad] == [3, 4, 5, 6, 7]
    assert all(error.path == folder / "qrels" / "test.tsv" for error in bad)
    assert "no document has the id 'none'" in str(bad[0])
    assert "no query has the id '9'" in str(bad[1])
    with pytest.raises(InvalidData, match=r"test\.tsv:3: "):
        list(read_pairs(folder))


def test_a_beir_folder_that_is_not_whole(tmp_path):
    folder = beir(tmp_path / "b", corpus=CORPUS, queries=QUERIES, qrels={"test": ["1\td1\t1\n"]})
    (folder / "corpus.jsonl").rename(folder / "texts.jsonl")
    with pytest.raises(InvalidData, match=r"holds corpus\.jsonl"):
        list(read_pairs(folder))
    headless = beir(tmp_path / "c", corpus=CORPUS, queries=QUERIES, qrels={})
    write_lines(headless / "qrels" / "test.tsv", ["1\td1\t1\n"])
    with pytest.raises(InvalidData, match=r"test\.tsv:1: the header"):
        list(read_pairs(headless))


def trec_files(folder, qrels):
    write_lines(folder / "qrels.txt", qrels)
    write_lines(folder / "queries.tsv", ['1\twhat "is" it?\n', "2\twho?\n"])
    write_json(folder / "docs.jsonl", {"docid": "d1", "contents": "one", "title": "T"}, {"id": "d2", "text": "two"})
    return folder / "qrels.txt", folder / "queries.tsv", folder / "docs.jsonl"


def test_trec_judgements(tmp_path):
    files = trec_files(tmp_path, ["1 0 d1 2\n", "1 0 d2 1\r\n", "2\tQ0\td2\t-1\n"])
    pairs = list(read_trec(*files))
    assert [(pair.query, pair.document, pair.label, pair.fields["grade"]) for pair in pairs] == [
        ('what "is" it?', "title: T\none", 1.0, 2),
        ('what "is" it?', "two", 1.0, 1),
        ("who?", "two", 0.0, -1),
    ]
    assert [pair.label for pair in read_trec(*files, cut=2)] == [1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("3 0 d1 1\n", r"qrels\.txt:2: the query '3' is not in .*queries\.tsv"),
        ("1 0 d9 1\n", r"qrels\.txt:2: the document 'd9' is not in .*docs\.jsonl"),
        ("1 0 d2\n", r"qrels\.txt:2: query id, iteration, document id and relevance were expected"),
        ("1 0 d2 high\n", r"qrels\.txt:2: a score must be a number"),
        ("1 0 d1 0\n", r"qrels\.txt:2: .* has label 0\.0 here and 1\.0 on line 1"),
        (b"1 0 \xff 0\n", r"qrels\.txt:2: not UTF-8 at byte 5"),
    ],
)
def test_trec_errors_carry_the_line(tmp_path, line, message):
    files = trec_files(tmp_path, ["1 0 d1 1\n", line])
    with pytest.raises(InvalidData, match=message):
        list(read_trec(*files))


def test_texts_of_trec_that_cannot_be_read(tmp_path):
    qrels, queries, documents = trec_files(tmp_path, ["1 0 d1 1\n"])
    for path, content, message in [
        (queries, "1 no tab\n", r"queries\.tsv:1: an id, a tab"),
        (queries, b"1\t\xff\n", r"queries\.tsv:1: not UTF-8"),
        (documents, '{"text": "x"}\n', r"docs\.jsonl:1: an id was expected"),
        (documents, '{"id": "d1", "text": 4}\n', r"docs\.jsonl:1: `text`"),
        (documents, '{"id": "d1", "text": "a"}\n{"id": "d1", "text": "b"}\n', r"docs\.jsonl:2: .* two different texts"),
        (documents, "{\n", r"docs\.jsonl:1: not JSON"),
    ]:
        before = path.read_bytes()
        write_lines(path, [content])
        with pytest.raises(InvalidData, match=message):
            list(read_trec(qrels, queries, documents))
        path.write_bytes(before)
    with pytest.raises(InvalidData, match=r"\.jsonl and \.tsv"):
        list(read_trec(qrels, tmp_path / "queries.xml", documents))


@pytest.mark.parametrize("name", sorted(RESERVED_FIELDS))
def test_a_reserved_field_name_is_refused(tmp_path, name):
    pair = Pair(query_id="1", query="q", doc_id="d", document="a", fields={name: "x"})
    with pytest.raises(InvalidInput, match=f"may not hold {name}"):
        write_pairs(tmp_path / "a.jsonl", [pair])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv", ".parquet"])
@pytest.mark.parametrize(
    "bad",
    [
        {"query": " "},
        {"doc_id": ""},
        {"label": float("nan")},
        {"label": 1.5},
        {"fields": {"x": float("inf")}},
        {"fields": {"x": object()}},
        {"fields": {"x": {1, 2}}},
    ],
)
def test_a_pair_that_could_not_be_read_back_leaves_the_old_file(tmp_path, suffix, bad):
    good = Pair(query_id="1", query="q", doc_id="d", document="a")
    path = tmp_path / f"a{suffix}"
    write_pairs(path, [good])
    before = path.read_bytes()
    with pytest.raises(InvalidInput):
        write_pairs(path, [good, replace(good, **bad)])
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_where_a_file_cannot_be_written(tmp_path):
    pair = Pair(query_id="1", query="q", doc_id="d", document="a")
    with pytest.raises(InvalidInput, match=r"\.jsonl, \.csv, \.tsv"):
        write_pairs(tmp_path / "a.xlsx", [pair])
    with pytest.raises(OutputError, match="no such file or directory") as caught:
        write_pairs(tmp_path / "none" / "a.jsonl", [pair])
    assert caught.value.path == tmp_path / "none" / "a.jsonl"
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match="not a plain file"):
        write_pairs(tmp_path / "folder.csv", [pair])


def test_a_link_goes_on_pointing_to_what_is_written(tmp_path):
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "real.jsonl")
    write_pairs(tmp_path / "link.jsonl", [Pair(query_id="1", query="q", doc_id="d", document="a")])
    assert (tmp_path / "link.jsonl").is_symlink()
    assert one(tmp_path / "real.jsonl").query == "q"
