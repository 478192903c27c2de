import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("bm25s")

from card_case import WORDS, SameWord, WordVectors, count_tokens
from fake_runtime import NAN_WORD, fake_bundle
from relgrade.card import (
    CardSettings,
    Case,
    Listed,
    Lists,
    Scores,
    build_card,
    choose_limits,
    holds_answer,
    read_cases,
    read_lists,
    render_page,
    retrieve_lists,
    score_lists,
    with_lists,
)
from relgrade.card.limits import limit_at_tokens, pick_limit
from relgrade.card.measures import measure
from relgrade.card.render import markdown, sections, sentences, table
from relgrade.errors import GradingError, InvalidData, InvalidInput
from relgrade.evaluate.intervals import draw_queries
from relgrade.grade.grader import Grader


@pytest.fixture
def grader(tmp_path):
    return Grader(fake_bundle(tmp_path / "bundle"), SameWord())


def case(query_id="q", n=3, **known):
    documents = tuple(Listed(f"d{i}", f"text {i} of {query_id}") for i in range(n))
    return Case(query_id=query_id, query=f"where is {query_id}", documents=documents, **known)


def lists_of(rows):
    """Lists from rows of (query_id, is_gold, probabilities, n_gold or None, unanswerable); sizes are 10 tokens."""
    n_top = max(len(row[1]) for row in rows)

    def padded(values, fill):
        return np.array([[*each, *[fill] * (n_top - len(each))] for each in values])

    is_there = padded([[True] * len(row[1]) for row in rows], False).astype(bool)
    scores = padded([row[2] for row in rows], -np.inf).astype(float)
    gold = padded([row[1] for row in rows], False).astype(bool)
    nothing = np.zeros(is_there.shape, bool)
    times = np.full(len(rows), np.nan)
    return Lists(
        query_ids=tuple(row[0] for row in rows),
        is_judged=np.array([row[3] is not None or row[4] for row in rows]),
        is_unanswerable=np.array([row[4] for row in rows]),
        n_gold=np.array([row[3] or 0 for row in rows]),
        is_there=is_there,
        is_gold=gold,
        has_answer=nothing,
        has_answer_left=nothing,
        tokens=np.where(is_there, 10.0, 0.0),
        tokens_left=np.zeros(is_there.shape),
        bm25=scores,
        cosine=scores,
        probability=scores,
        thresholds={"balanced": 0.5},
        milliseconds={name: times for name in ("bm25", "cosine", "grade", "compress")},
    )


# --- cases and files


@pytest.mark.parametrize(
    ("text", "answers", "is_held"),
    [
        ("It rose in 1887.", ["1887"], True),
        ("It cost 18,870 francs", ["1887"], False),
        ("Gustave EIFFEL's company", ["gustave eiffel"], True),
        ("The seiffel", ["eiffel"], False),
        ("caf\u0065\u0301 noir", ["caf\u00e9 noir"], True),
        ("anything", [], False),
        ("anything", ["..."], False),
    ],
)
def test_an_answer_stands_in_a_text_as_whole_words(text, answers, is_held):
    assert holds_answer(text, answers) is is_held


def test_what_is_known_of_a_question():
    assert case(relevant=frozenset(["d1", "elsewhere"])).gold() == [False, True, False]
    assert case(relevant=frozenset(["d1", "elsewhere"])).n_gold() == 2
    by_answer = case(answers=("text 2",))
    assert (by_answer.gold(), by_answer.n_gold(), by_answer.is_answerable) == ([False, False, True], 1, True)
    assert case(answers=("nowhere",)).n_gold() == 1  # not listed is not found, and counts against recall
    assert not case().is_judged
    assert case(is_answerable=False).is_judged
    with pytest.raises(InvalidInput, match="unanswerable"):
        case(answers=("x",), is_answerable=False)
    with pytest.raises(InvalidInput, match="'d0' is listed twice"):
        Case(query_id="q", query="q", documents=(Listed("d0", "a"), Listed("d0", "b")))


@pytest.fixture
def write(tmp_path):
    def written(name, rows):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return written


def test_questions_are_read_with_all_that_may_be_known(write):
    path = write(
        "q.jsonl",
        [
            {"id": "a", "query": "q a", "relevant": ["d1"], "answers": ["one", 2]},
            {"id": "b", "query": "q b", "relevant": []},
            {"id": "c", "query": "q c", "answers": {"text": ["squad"], "answer_start": [3]}},
            {"id": "d", "query": "q d", "answers": {"text": [], "answer_start": []}},
            {"id": "e", "query": "q e", "answerable": False},
            {"id": "f", "query": "q f", "answer": None},
            {"id": "g", "query": "q g", "retrieved": ["a text", {"id": "d2", "title": "T", "text": "body"}, "a text"]},
        ],
    )
    found = {each.query_id: each for each in read_cases(path)}
    assert found["a"].relevant == {"d1"}
    assert found["a"].answers == ("one", "2")
    assert [found[name].is_answerable for name in "abcdef"] == [True, False, True, False, False, None]
    assert found["c"].answers == ("squad",)
    assert [document.text for document in found["g"].documents] == ["a text", "title: T\nbody"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"answerable": "no"}, "`answerable` must be true or false"),
        ({"answers": [{"x": 1}]}, "`answers` must be a text or a list"),
        ({"retrieved": "text"}, "`retrieved` must be a list, got str"),
        ({"retrieved": [3]}, "document 0"),
        ({"relevant": ["d"], "answerable": False}, "unanswerable"),
    ],
)
def test_a_field_that_holds_something_else_is_named(write, row, message):
    with pytest.raises(InvalidData, match=message) as error:
        read_cases(write("q.jsonl", [{"id": "x", "query": "q", **row}]))
    assert "q.jsonl" in str(error.value)


def test_lists_come_from_a_file_of_pairs(write):
    cases = [case("a", 0), case("b", 0, relevant=frozenset(["z"])), case("c", 0)]
    rows = [
        {"query_id": "a", "query": "q", "doc_id": "second", "document": "2", "rank": 2, "label": 0},
        {"query_id": "a", "query": "q", "doc_id": "first", "document": "1", "rank": 1, "label": 1},
        {"query_id": "b", "query": "r", "doc_id": "z", "document": "z", "label": 0},
    ]
    a, b, c = with_lists(cases, write("lists.jsonl", rows))
    assert [document.doc_id for document in a.documents] == ["first", "second"]
    assert a.relevant == {"first"}
    assert b.relevant == {"z"}  # the questions go before the labels
    assert (c.documents, c.relevant) == ((), None)
    with pytest.raises(InvalidData, match="lists none of the 1 questions; their ids look like 'x'"):
        with_lists([case("x", 0)], write("lists.jsonl", rows))


# --- limits


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=30))
def test_the_limit_has_the_best_f1(rows):
    scores = np.array([[float(score) for score, _ in rows]])
    is_gold = np.array([[gold for _, gold in rows]])

    def f1(limit):
        kept = scores >= limit
        return 2 * (kept & is_gold).sum() / (kept.sum() + is_gold.sum())

    limit = pick_limit(scores, is_gold)
    if not is_gold.any():
        assert limit is None
    else:
        assert f1(limit) == pytest.approx(max(f1(each) for each in range(5)))


@given(
    st.lists(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=4), min_size=2, max_size=12),
    st.integers(0, 11),
)
def test_no_question_helps_to_choose_its_own_limit(drawn, changed):
    changed %= len(drawn)

    def limits(rows):
        named = [
            (f"q{i}", [gold for gold, _ in row], [float(score) for _, score in row], 1, False)
            for i, row in enumerate(rows)
        ]
        return choose_limits(lists_of(named), None)

    before = limits(drawn)
    other = [[(not gold, 9 - score) for gold, score in row] if i == changed else row for i, row in enumerate(drawn)]
    after = limits(other)
    if "relgrade" in before.of_question and "relgrade" in after.of_question:
        assert before.of_question["relgrade"][changed] == after.of_question["relgrade"][changed]


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 9)), min_size=1, max_size=20), st.integers(0, 100))
def test_no_more_is_sent_than_the_budget(rows, budget):
    scores = np.array([[float(score) for score, _ in rows]])
    tokens = np.array([[float(size) for _, size in rows]])
    limit = limit_at_tokens(scores, tokens, budget=budget)
    assert tokens[scores >= limit].sum() <= budget
    lower = max((each for each in np.unique(scores) if each < limit), default=None)
    if lower is not None:
        assert tokens[scores >= lower].sum() > budget


def test_calibration_questions_are_other_questions():
    rows = [("a", [True, False], [0.9, 0.1], 1, False), ("b", [False], [0.2], 1, False)]
    lists = lists_of(rows)
    with pytest.raises(InvalidInput, match=r"1 questions are calibration questions and reported ones, such as 'b'"):
        build_card(lists, lists_of(rows[1:]), default_point="balanced")
    other = lists_of([("c", [False, True], [0.9, 0.7], 1, False)])
    card = build_card(lists, other, default_point="balanced", settings=CardSettings(n_draws=20))
    assert card.plain["limits"]["values"]["relgrade"] == (0.7,)
    nothing = lists_of([("c", [False], [0.9], 1, False)])
    card = build_card(lists, nothing, default_point="balanced", settings=CardSettings(n_draws=20))
    assert "cosine" not in card.rows
    assert "no calibration question" in card.plain["limits"]["missing"]["cosine"]
    with pytest.raises(InvalidInput, match="no operating point 'x'; there are balanced"):
        build_card(lists, None, default_point="x")


# --- measures


def test_measures_by_hand():
    lists = lists_of(
        [
            ("a", [True, False, True], [0.9, 0.9, 0.1], 4, False),
            ("b", [False, True, False], [0.1, 0.1, 0.1], 1, False),
            ("c", [False, False], [0.9, 0.1], None, True),
            ("d", [False, False], [0.1, 0.1], None, True),
            ("e", [False, False, False], [0.9, 0.9, 0.9], None, False),  # nothing is known of it
        ]
    )
    counts = draw_queries(5, n_draws=50, seed=0)
    found = measure(lists, lists.probability >= 0.5, counts)
    assert {name: each.value for name, each in found.items()} == {
        "precision": pytest.approx(1 / 3),
        "recall": 0.125,  # a quarter of four, and none of one
        "gold_survives": 0.5,
        "answer_survives": None,
        "empty_unanswerable": 0.5,
        "empty_answerable": 0.5,
        "tokens": 12.0,
    }
    assert [found[name].n_queries for name in ("precision", "recall", "gold_survives", "tokens")] == [2, 2, 2, 5]
    nothing = measure(lists, lists.probability > 2, counts)
    assert (nothing["precision"].value, nothing["empty_unanswerable"].value) == (None, 1.0)
    assert nothing["empty_unanswerable"].low < 0.5  # two of two say little


@given(st.integers(0, 2**16), st.integers(1, 6))
def test_stricter_filters_never_find_more(seed, n):
    rng = np.random.default_rng(seed)
    rows = [
        (f"q{i}", (rng.random(4) < 0.4).tolist(), rng.random(4).tolist(), 4, bool(rng.random() < 0.2)) for i in range(n)
    ]
    lists = lists_of(rows)
    counts = draw_queries(n, n_draws=5, seed=0)
    loose, strict = (measure(lists, lists.probability >= limit, counts) for limit in (0.3, 0.6))
    for name in ("recall", "gold_survives", "tokens"):
        assert (strict[name].value or 0) <= (loose[name].value or 0)
    assert (strict["empty_unanswerable"].value or 0) >= (loose["empty_unanswerable"].value or 0)


# --- end to end, with a fake model


@pytest.fixture
def corpus(write):
    rows = [
        {"id": f"{word}{n}", "text": f"The {word} is {n}. Some rain fell on {place}."}
        for word in WORDS[:6]
        for n, place in enumerate(["hills", "roofs"])
    ]
    return write("corpus.jsonl", rows)


def questions():
    known = [
        Case(query_id=word, query=f"where is some {word}", relevant=frozenset([f"{word}0"]), answers=(f"{word} is 0",))
        for word in WORDS[:6]
    ]
    return [*known, Case(query_id="none", query="where is some rain of heron", is_answerable=False)]


@pytest.mark.parametrize("method", ["bm25", "dense", "hybrid"])
def test_the_card_of_a_corpus(corpus, grader, tmp_path, method):
    scored = retrieve_lists(
        questions(), corpus, encoder=WordVectors(), folder=tmp_path / "work", method=method, n_top=4
    )
    assert scored.n_documents == 12
    assert all(len(each.documents) == 4 for each in scored.cases)
    assert {document.doc_id for document in scored.cases[0].documents} >= {"apple0", "apple1"}
    assert scored.scores[0].bm25.shape == scored.scores[0].cosine.shape == (4,)
    readings = read_lists(scored.cases, grader, n_timed=2)
    manifest = grader.bundle.manifest
    lists = Lists.of(scored.cases, scored.scores, readings, manifest=manifest, count_tokens=count_tokens)
    settings = CardSettings(n_draws=50, n_few=1, max_keep=1)
    card = build_card(lists, default_point="balanced", settings=settings)
    rows = card.rows
    assert rows["no filter"]["gold_survives"]["value"] == 1.0
    assert rows["no filter"]["empty_unanswerable"]["value"] == 0.0
    graded = rows["relgrade balanced"]
    assert graded["precision"]["value"] == 0.5  # both documents of the word
    assert (graded["recall"]["value"], graded["answer_survives"]["value"]) == (1.0, 1.0)
    assert graded["empty_unanswerable"]["value"] == 1.0
    assert graded["tokens"]["value"] == pytest.approx(6 * 2 * 9 / 7)
    assert graded["milliseconds"]["n_questions"] == 2
    compressed = rows["relgrade + compress"]
    assert compressed["answer_survives"]["value"] == 1.0
    assert compressed["tokens"]["value"] == pytest.approx(6 * 2 * 4 / 7)  # "The apple is 0." alone
    assert rows["relgrade balanced, at most 1"]["tokens"]["value"] == pytest.approx(6 * 9 / 7)
    text = "\n".join(each if isinstance(each, str) else markdown(each) for each in sections(card.plain))
    assert "| relgrade + compress | 0.50" in text
    assert "7 questions (6 answerable, 1 unanswerable)" in text
    assert json.loads(json.dumps(card.plain, allow_nan=False))["sample"]["n_reachable"] == 6


def test_lists_of_the_system_need_no_corpus(grader, tmp_path):
    cases = [case("apple"), case("bread", 1), case("heron", 0)]
    scored = score_lists(cases, encoder=WordVectors(), folder=tmp_path / "work")
    assert [each.bm25.shape for each in scored.scores] == [(3,), (1,), (0,)]
    assert scored.n_documents == 4
    readings = read_lists(scored.cases, grader, has_compression=False, n_timed=0)
    manifest = grader.bundle.manifest
    lists = Lists.of(cases, scored.scores, readings, manifest=manifest, count_tokens=count_tokens)
    card = build_card(lists, default_point="balanced", settings=CardSettings(n_draws=20))
    assert "relgrade + compress" not in card.rows
    assert card.rows["no filter"]["precision"]["value"] is None  # nothing is known of the answers
    assert card.rows["relgrade balanced"]["tokens"]["value"] == pytest.approx(4 * 4 / 3)
    assert [line[0] for line in table(card.plain)] == ["filter", "", *card.rows]
    assert table(card.plain)[0] == ["filter", "tokens", "ms"]
    assert "left out" in " ".join(sentences(card.plain))
    with pytest.raises(InvalidData, match="no question has a document"):
        score_lists(cases[2:], encoder=WordVectors(), folder=tmp_path / "work")


def test_a_killed_run_reads_nothing_twice(grader, tmp_path):
    cases = [case(word) for word in WORDS[:5]]
    path = tmp_path / "read.jsonl"
    first = read_lists(cases, grader, n_timed=1, journal=path)
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-3]) + lines[-3][:20])  # torn
    runtime = grader._runtime
    runtime.calls.clear()
    again = read_lists(cases, grader, n_timed=1, journal=path)
    assert [each.logits.tolist() for each in again] == [each.logits.tolist() for each in first]
    assert [each.compressed for each in again] == [each.compressed for each in first]
    n_read = len({pair for call in runtime.calls for pair in call})
    runtime.calls.clear()
    read_lists(cases, grader, n_timed=1, journal=path)
    assert runtime.calls == []
    assert 0 < n_read < 15
    # Another point decides otherwise what is kept, and nothing of it is mixed up.
    strict = read_lists(cases, grader.with_point("strict"), n_timed=0, journal=path)
    assert [each.logits.tolist() for each in strict] == [each.logits.tolist() for each in first]


def test_the_journal_says_what_is_wrong_with_it(grader, tmp_path):
    path = tmp_path / "read.jsonl"
    path.write_text('{"key": "a", "other": 1}\n')
    with pytest.raises(InvalidData, match=r"read.jsonl:1: no row of a card's journal"):
        read_lists([case()], grader, journal=path)


def test_a_logit_that_is_none_stops_the_card(grader):
    bad = Case(query_id="q", query="q", documents=(Listed("d", NAN_WORD),))
    with pytest.raises(GradingError):
        read_lists([bad], grader, n_timed=0)


def test_the_page_escapes_names():
    rows = [("<b>", [True, False], [0.9, 0.1], 1, False), ("c", [True], [0.2], 1, False)]
    card = build_card(
        lists_of(rows), default_point="balanced", settings=CardSettings(n_draws=20), about={"queries": "<script>x"}
    )
    page = render_page(card.plain)
    assert "<script>" not in page
    assert "&lt;script&gt;x" in page
    assert "default-src 'none'" in page


def test_scores_are_padded_below_every_limit():
    cases = [case("a", 1), case("b", 3)]
    scores = [Scores(np.zeros(1), np.zeros(1), 0.1, 0.1), Scores(np.ones(3), np.ones(3), 0.1, 0.1)]
    assert (
        lists_of([("a", [True], [-5.0], 1, False), ("b", [True] * 3, [1.0] * 3, 3, False)]).bm25_share[0, 1] == -np.inf
    )
    assert [len(each.bm25) for each in scores] == [len(each.documents) for each in cases]


@pytest.mark.parametrize("name", ["n_few", "max_keep", "n_draws"])
def test_settings_are_checked(name):
    with pytest.raises(InvalidInput, match=f"CardSettings.{name}"):
        CardSettings(**{name: 0})
