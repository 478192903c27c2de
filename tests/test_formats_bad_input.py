"""Lines and files that are no pairs: each is named by its line, and the others can still be read."""

import errno
import gzip
import json
import sys
from pathlib import Path

import pytest

from relgrade.errors import InvalidData, MissingExtra, OutputError
from relgrade.formats import read_pairs, write_pairs
from relgrade.records import Pair

GOOD = {"query_id": "1", "query": "q", "doc_id": "d", "document": "a", "label": 1}


def changed(**fields):
    return json.dumps(GOOD | fields)


def without(name):
    return json.dumps({key: value for key, value in GOOD.items() if key != name})


BAD_LINES = {
    "{": r"not JSON: .* at character \d",
    "[1]": "a JSON object was expected, got list",
    "[" * 100_000: "not JSON: nested too deep",
    '{"query": "q", "document": "a", "label": NaN}': "NaN is not a number of JSON",
    '{"query": "q", "document": "a", "label": 1e999}': "1e999 is out of range",
    changed(query=""): "`query` must be a text that is not blank",
    changed(query=" \n"): "`query` must be a text",
    changed(query=5): "`query` must be a text that is not blank, got 5",
    without("query"): "no such field; the row has .*document",
    without("document"): r"no `document` \(or text, passage, contents\)",
    changed(document=None): "no `document`",
    changed(document=["a"]): "`document` must be a text",
    changed(document={"title": "t"}): "`document` must be a text",
    changed(title=3): "`title` must be a text, got 3",
    changed(label=1.01): "`label` must be 0, 1, .* got 1.01",
    changed(label=-1): "`label` must be",
    changed(label="1"): "`label` must be",
    changed(query_id=" "): "`query_id` is blank",
    changed(doc_id=1.5): "`doc_id` must be a text or a whole number",
    changed(doc_id=True): "`doc_id` must be a text or a whole number",
    changed(split=1): "`split` must be a text",
    changed(source=[]): "`source` must be a text",
    b'{"query": "\xff", "document": "a"}': "not UTF-8 at byte 12 of the line",
}


@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: str(line[:40]))
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_bad_line_is_named_and_the_rest_is_read(tmp_path, line, suffix):
    path = tmp_path / f"a{suffix}"
    raw = line if isinstance(line, bytes) else line.encode()
    data = b"\n".join([json.dumps(GOOD).encode(), b"", raw, json.dumps(GOOD | {"doc_id": "e"}).encode()])
    path.write_bytes(gzip.compress(data) if suffix.endswith(".gz") else data)
    with pytest.raises(InvalidData, match=BAD_LINES[line]) as caught:
        list(read_pairs(path))
    assert (caught.value.path, caught.value.line) == (path, 3)
    assert str(caught.value).startswith(f"{path}:3: ")
    assert len(str(caught.value)) < len(str(path)) + 250
    bad = []
    assert [pair.doc_id for pair in read_pairs(path, on_bad_line=bad.append)] == ["d", "e"]
    assert [error.line for error in bad] == [3]


BAD_ROWS = [
    ("q2,d2\r\n", "4 cells were expected, got 2"),
    ('q2,d2,a "b" c,"x"y\r\n', "not a row: .*; quote cells"),
    ("q2,d2,two,maybe\r\n", "`label` must be"),
    ("q2,d2,two,NaN\r\n", "`label` must be"),
    ("q2,d2,two,2\r\n", "`label` must be"),
    (",d2,two,1\r\n", "`query` must be a text that is not blank"),
    (b"q2,d2,t\xffo,1\r\n", "not UTF-8 in column document"),
    (b"q2,d2,t\xed\xa0\x80o,1\r\n", "not UTF-8 in column document"),
]


@pytest.mark.parametrize(("row", "message"), BAD_ROWS)
def test_a_bad_row_of_csv_is_named_by_the_line_it_starts_on(tmp_path, row, message):
    raw = row if isinstance(row, bytes) else row.encode()
    start = b'query,doc_id,document,label\r\nq1,d1,"one\r\n1",1\r\n\r\n'  # the first record spans two lines
    (tmp_path / "a.csv").write_bytes(start + raw + b"q3,d3,three,0\r\n")
    with pytest.raises(InvalidData, match=message) as caught:
        list(read_pairs(tmp_path / "a.csv"))
    assert caught.value.line == 5
    bad = []
    found = list(read_pairs(tmp_path / "a.csv", on_bad_line=bad.append))
    assert [pair.query for pair in found] == ["q1", "q3"]
    assert [error.line for error in bad] == [5]


def test_a_stray_quote_at_the_start_of_a_cell_swallows_nothing_silently(tmp_path):
    (tmp_path / "a.tsv").write_text('query\tdocument\nq1\t"open\nq2\ttwo\n')
    bad = []
    assert list(read_pairs(tmp_path / "a.tsv", on_bad_line=bad.append)) == []
    assert [error.line for error in bad] == [2]


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("", "a header with `query` was expected, got ''"),
        ("question,text\n", "got 'question, text'"),
        ("query,a,a\n", "two columns have one name: a"),
    ],
)
def test_headers_that_are_none(tmp_path, header, message):
    (tmp_path / "a.csv").write_text(header)
    with pytest.raises(InvalidData, match=message) as caught:
        list(read_pairs(tmp_path / "a.csv", on_bad_line=lambda error: None))
    assert caught.value.line == 1


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ({}, "query '1' with document 'd' repeats line 1"),
        ({"label": 0}, "has label 0.0 here and 1.0 on line 1"),
        ({"label": None}, "has label None here and 1.0 on line 1"),
        ({"document": "b"}, "has another text on line 1; each passage needs a doc_id of its own"),
        ({"query": "r", "doc_id": "e"}, "the query id '1' stood for another query on line 1"),
    ],
)
def test_a_row_that_repeats_or_contradicts_an_earlier_one(tmp_path, second, message):
    rows = [GOOD, GOOD | second, GOOD | {"doc_id": "f"}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(InvalidData, match=message) as caught:
        list(read_pairs(tmp_path / "a.jsonl"))
    assert caught.value.line == 2
    bad = []
    assert [pair.doc_id for pair in read_pairs(tmp_path / "a.jsonl", on_bad_line=bad.append)] == ["d", "f"]
    assert len(bad) == 1


@pytest.mark.parametrize("second", [{"copy": 1}, {"split": "test"}, {"source": "other"}])
def test_rows_that_are_no_repeats(tmp_path, second):
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(GOOD)}\n{json.dumps(GOOD | second)}\n")
    assert len(list(read_pairs(tmp_path / "a.jsonl"))) == 2


def test_parquet_rows_are_named_by_number(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    table = {"query": ["a", "b", None], "document": ["x"] * 3, "label": [1.0, float("nan"), 0.0]}
    pq.write_table(pa.table(table), tmp_path / "a.parquet")
    bad = []
    assert [pair.query for pair in read_pairs(tmp_path / "a.parquet", on_bad_line=bad.append)] == ["a"]
    assert [error.line for error in bad] == [2, 3]
    assert "`label` must be 0, 1" in str(bad[0])


def test_parquet_files_that_are_none(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"question": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(InvalidData, match="no column `query`; found: question"):
        list(read_pairs(tmp_path / "a.parquet"))
    write_pairs(tmp_path / "b.parquet", [Pair(query_id="1", query="q", doc_id="d", document="a" * 1000)])
    whole = (tmp_path / "b.parquet").read_bytes()
    for data in (b"", b"PAR1", whole[:-9], whole[:40] + b"\0" * 60 + whole[100:]):
        (tmp_path / "b.parquet").write_bytes(data)
        with pytest.raises(InvalidData, match="cannot be read as parquet"):
            list(read_pairs(tmp_path / "b.parquet"))


def test_parquet_without_pyarrow_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "relgrade.formats.parquet", raising=False)
    (tmp_path / "a.parquet").touch()
    with pytest.raises(MissingExtra, match=r"relgrade\[parquet\]"):
        list(read_pairs(tmp_path / "a.parquet"))
    with pytest.raises(MissingExtra):
        write_pairs(tmp_path / "b.parquet", [])
    assert not (tmp_path / "b.parquet").exists()


def test_files_that_cannot_be_opened(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "a.txt").touch()
    for name, message in [
        ("none.jsonl", "no such file"),
        ("folder", r"\(BEIR\)"),
        ("a.txt", r"read from \.jsonl"),
    ]:
        with pytest.raises(InvalidData, match=message) as caught:
            read_pairs(tmp_path / name)
        assert caught.value.path == tmp_path / name


def test_a_gzip_file_that_is_cut_off_is_not_taken_for_whole(tmp_path):
    lines = b"".join(json.dumps(GOOD | {"doc_id": str(i)}).encode() + b"\n" for i in range(2000))
    packed = gzip.compress(lines)
    damaged = packed[: len(packed) // 2] + b"\0" * 50 + packed[len(packed) // 2 + 50 :]
    for data in (packed[: len(packed) // 2], packed[:-4], damaged, b"plain text\n"):
        (tmp_path / "a.jsonl.gz").write_bytes(data)
        with pytest.raises(InvalidData, match="not a whole gzip file"):
            list(read_pairs(tmp_path / "a.jsonl.gz", on_bad_line=lambda error: None))


def test_an_empty_file_has_no_pairs(tmp_path):
    (tmp_path / "a.jsonl").touch()
    assert list(read_pairs(tmp_path / "a.jsonl", split="test")) == []


class FullDisk:
    """A file on a disk with room for some bytes."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, data):
        if len(data) > self._room:
            self._file.write(bytes(data)[: self._room])
            raise OSError(errno.ENOSPC, "No space left on device")
        self._room -= len(data)
        return self._file.write(data)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self._file.close()

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".csv", ".parquet"])
def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, suffix):
    path = tmp_path / f"a{suffix}"
    write_pairs(path, [Pair(query_id="1", query="q", doc_id="d", document="old")])
    before = path.read_bytes()
    real_open = Path.open
    monkeypatch.setattr(
        Path,
        "open",
        lambda self, mode="r", *more, **options: (
            FullDisk(real_open(self, mode), 300) if mode == "xb" else real_open(self, mode, *more, **options)
        ),
    )
    pairs = (
        Pair(query_id=f"{i:x}{hash(str(i)):x}", query="q", doc_id="d", document=f"{hash(str(-i)):x}")
        for i in range(3000)
    )
    with pytest.raises(OutputError, match="cannot be written: no space left on device") as caught:
        write_pairs(path, pairs)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.path == path
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
