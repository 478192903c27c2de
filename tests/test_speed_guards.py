"""What makes grading fast, counted and not timed: tokens read, sessions opened, texts read once, nothing padded."""

import json

import numpy as np
import pytest
from benchmarks.speed.lists import KINDS, N_DOCUMENTS, draw_lists

from relgrade import Grader
from relgrade.encoding import TextEncoder, TokenCounter
from relgrade.grade import interaction, sessions

QUERY = "who built the harbour?"
DOCUMENTS = [
    "The harbour was built in 1840.",
    "Nothing of it is known.",
    "The harbour was built in 1840.",
    "Sheep graze " * 300,
]


class Counting:
    """A session that counts what it is asked to read."""

    def __init__(self, session):
        self.session = session
        self.shapes = []
        self.n_real = 0

    def get_inputs(self):
        return self.session.get_inputs()

    def run(self, names, feed):
        self.shapes.append(next(iter(feed.values())).shape)
        self.n_real += int(feed["attention_mask"].sum()) if "attention_mask" in feed else 0
        return self.session.run(names, feed)


@pytest.fixture(scope="module")
def opened():
    """The default grader over counting sessions, by role: encoder, head, and list head where there is one."""
    made = []

    def counting(path, **options):
        made.append((path.name, Counting(sessions.open_session(path, **options))))
        return made[-1][1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interaction, "open_session", counting)
        grader = Grader.load(n_threads=2)
    return grader, made


@pytest.fixture
def counted(opened):
    grader, made = opened
    for _, session in made:
        session.shapes.clear()
        session.n_real = 0
    by_name, graphs = dict(made), grader.bundle.manifest.graphs
    return grader, by_name[graphs["encoder"]], by_name[graphs.get("list_head", graphs["head"])]


def test_a_grader_opens_each_graph_once(opened):
    grader, made = opened
    grader.grade(QUERY, DOCUMENTS)
    grader.with_point(grader.operating_point.name).grade(QUERY, DOCUMENTS)
    assert sorted(name for name, _ in made) == sorted(grader.bundle.manifest.graphs.values())


def test_no_token_is_padding(counted):
    grader, encoder, _ = counted
    grader.grade(QUERY, DOCUMENTS)
    n_computed = sum(int(np.prod(shape)) for shape in encoder.shapes)
    assert n_computed == encoder.n_real > 0
    assert all(shape[0] == 1 for shape in encoder.shapes)


def test_each_text_of_a_call_is_read_once(counted):
    grader, encoder, head = counted
    graded = grader.grade(QUERY, DOCUMENTS)
    n_windows = {document: grade.windows for document, grade in zip(DOCUMENTS, graded.grades, strict=True)}
    assert len(encoder.shapes) == 1 + sum(n_windows.values())  # the query, and the windows of three documents
    assert max(n_windows.values()) > 1
    # One run for those of about one length with a list head, else one for each.
    assert len(head.shapes) <= (2 if "list_head" in grader.bundle.manifest.graphs else len(DOCUMENTS))


def test_tokens_computed_are_those_of_the_texts_and_two_a_window(counted):
    grader, encoder, _ = counted
    graded = grader.grade(QUERY, DOCUMENTS[:2])
    n_text = sum(grader._runtime.count_tokens([QUERY, *DOCUMENTS[:2]]))
    n_windows = 1 + sum(grade.windows for grade in graded.grades)
    assert encoder.n_real == n_text + 2 * n_windows


def test_many_queries_share_one_reading_of_a_document(counted):
    grader, encoder, _ = counted
    list(grader.grade_pairs([(f"question {n}?", DOCUMENTS[0]) for n in range(5)]))
    assert len(encoder.shapes) == 5 + 1


def test_a_text_is_tokenised_once_in_a_call(opened, monkeypatch):
    grader, _ = opened
    texts = []
    encode = TextEncoder.encode

    def counting(self, batch, *, kind):
        texts.extend(batch)
        return encode(self, batch, kind=kind)

    monkeypatch.setattr(TextEncoder, "encode", counting)
    grader.grade(QUERY, DOCUMENTS)
    assert sorted(texts) == sorted({QUERY, *DOCUMENTS})


def test_a_document_that_surely_fits_is_not_counted(opened, monkeypatch):
    grader, _ = opened
    counted_texts = []
    count = TokenCounter.count
    monkeypatch.setattr(TokenCounter, "count", lambda self, texts: counted_texts.extend(texts) or count(self, texts))
    short, wide = "The harbour \u2013 \u201cPort\u201d \u2013 is old.", "\u6e2f" * 100
    grader.grade(QUERY, [short, wide])
    assert counted_texts == [wide]


def test_sessions_use_one_thread_and_the_arena(tmp_path, monkeypatch):
    seen = []

    def remember(path, *, sess_options, providers):
        seen.append(sess_options)

    monkeypatch.setattr(sessions.ort, "InferenceSession", remember)
    (tmp_path / "g.onnx").write_bytes(b"")
    sessions.open_session(tmp_path / "g.onnx")
    assert seen[0].intra_op_num_threads == 1
    assert seen[0].enable_cpu_mem_arena
    assert not seen[0].enable_mem_pattern


def test_lists_of_the_benchmark_are_of_their_kind():
    lists = draw_lists(None, n_lists=2)
    lengths = {kind: np.mean([len(d.split()) for _, documents in lists[kind] for d in documents]) for kind in KINDS}
    assert lengths["short"] < lengths["mixed"] < lengths["long"]
    assert all(len(documents) == N_DOCUMENTS for kind in KINDS for _, documents in lists[kind])
    json.dumps(lists)  # as the workers get them
