"""The report as JSON and as a page: the schema holds, documents stay text, nothing is loaded from anywhere."""

import json
import re
from html.parser import HTMLParser
from importlib.resources import files

import numpy as np
import pytest

from relgrade.errors import InvalidInput
from relgrade.evaluate import Contender, Judgements, ReportSettings, build_report, render_page
from relgrade.probability import sigmoid

jsonschema = pytest.importorskip("jsonschema")
pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

EVIL = '<script>alert("x")</script><img src=x onerror="alert(1)">{{ 7 * 7 }}</style>\u2028'


def sample(seed=0, n_queries=30, per_query=5):
    generator = np.random.default_rng(seed)
    query = np.repeat(np.arange(n_queries), per_query)
    labels = (generator.random(query.size) < 0.3).astype(int)
    return query, labels, 2.0 * labels - 1.0 + generator.normal(size=query.size)


def columns(query, **more):
    n = query.size
    return {
        "query_ids": [f"q{each}" for each in query],
        "doc_ids": [f"d{row}" for row in range(n)],
        "queries": [f"question {each} {EVIL}" for each in query],
        "documents": [f"{EVIL} document {row}" for row in range(n)],
        "fields": {"domain": [["a", EVIL, None][each % 3] for each in query]},
        **more,
    }


@pytest.fixture(scope="module")
def report():
    query, labels, scores = sample()
    p = sigmoid(scores)
    grader = Contender(
        name="grader", kind="grader", scores=scores, probabilities=p, is_kept=p >= 0.5, threshold=0.5, note=EVIL
    )
    keep_all = Contender(
        name="keep everything", kind="baseline", scores=np.zeros(query.size), is_kept=np.ones(query.size)
    )
    words = Contender(name="BM25", kind="baseline", scores=scores * 0.2 + labels)
    other = Contender(name=f"other {EVIL}", kind="grader", scores=-scores, is_kept=p >= 0.7)
    found = build_report(
        Judgements(labels=labels, **columns(query)),
        [grader, keep_all, words],
        against=other,
        about={"subject": f"grader {EVIL}", "data": "test.jsonl", "bundle_hash": "f" * 64},
        notes=[EVIL],
        settings=ReportSettings(by=("domain",), n_draws=40, n_mistakes=3),
    )
    return found.to_json()


@pytest.fixture(scope="module")
def page(report):
    return render_page(report)


@pytest.fixture(scope="module")
def schema():
    found = json.loads(files("relgrade.evaluate").joinpath("report.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(found)
    return jsonschema.Draft202012Validator(found)


class Tags(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.seen, self.attributes, self.text = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_data(self, data):
        self.text.append(data)


def reports_of_all_kinds():
    query, labels, scores = sample(1, n_queries=12)
    p = sigmoid(scores)
    alone = [Contender(name="g", kind="grader", scores=scores, probabilities=p, is_kept=p >= 0.5, threshold=0.5)]
    flat = [Contender(name="g", kind="grader", scores=p * 0, probabilities=p * 0 + 0.3, is_kept=p < 2, threshold=0.3)]
    bare = [Contender(name="table.csv", kind="predictions", is_kept=labels)]
    scored_only = [Contender(name="g", kind="grader", scores=scores)]
    nothing, everything = np.zeros(query.size), np.ones(query.size)
    ids = columns(query)
    yield "plain", Judgements(labels=labels, **ids), alone
    yield "all scores equal", Judgements(labels=labels, **ids), flat
    yield "nothing relevant", Judgements(labels=nothing, **ids), alone
    yield "everything relevant", Judgements(labels=everything, **ids), alone
    yield "no verdicts", Judgements(labels=labels, **ids), scored_only
    yield "no ids", Judgements(labels=labels), bare
    yield "no ids, probabilities", Judgements(labels=labels, block_length=4), alone
    yield "one query", Judgements(labels=labels, query_ids=["q"] * query.size), alone


@pytest.mark.parametrize(
    ("judgements", "contenders"),
    [pytest.param(judgements, contenders, id=name) for name, judgements, contenders in reports_of_all_kinds()],
)
def test_every_kind_of_report_keeps_to_the_schema_and_renders(schema, judgements, contenders):
    plain = build_report(judgements, contenders, settings=ReportSettings(n_draws=10)).to_json()
    text = json.dumps(plain, allow_nan=False)
    assert json.loads(text) == plain
    schema.validate(plain)
    assert "nan" not in Tags(render_page(plain)).text


def test_the_full_report_keeps_to_the_schema(schema, report):
    schema.validate(report)
    assert json.loads(json.dumps(report, allow_nan=False)) == report


def test_the_schema_can_fail(schema, report):
    for broken in (
        {**report, "kind": "other"},
        {**report, "extra": 1},
        {**report, "data": {**report["data"], "base_rate": 1.5}},
        {name: value for name, value in report.items() if name != "curve"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            schema.validate(broken)


def test_documents_and_names_show_as_text(page):
    tags = Tags(page)
    assert "script" not in tags.seen
    assert "img" not in tags.seen
    assert not [each for each in tags.attributes if each[1].startswith("on")]
    # As text the tag is there to be read, in the mistakes, the slices, the note and the title.
    assert "".join(tags.text).count('<script>alert("x")</script>') >= 8
    assert "{{ 7 * 7 }}" in page
    assert page.count("</style>") == 1


def test_nothing_is_loaded_and_nothing_may_run(page):
    tags = Tags(page)
    policy = next(
        value for tag, name, value in tags.attributes if tag == "meta" and str(value).startswith("default-src")
    )
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    assert not set(tags.seen) & {"script", "link", "img", "iframe", "object", "embed", "form", "base", "video", "audio"}
    addresses = [
        value for _, name, value in tags.attributes if name in ("href", "src", "xlink:href", "srcset", "action")
    ]
    assert all(value.startswith("#") for value in addresses), addresses
    style = re.search(r"<style>(.*?)</style>", page, flags=re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_figures_take_their_colours_from_the_page(page):
    figures = re.findall(r"<svg.*?</svg>", page, flags=re.DOTALL)
    assert len(figures) == 2
    for figure in figures:
        assert "var(--first)" in figure
        assert not re.search(r"(fill|stroke): ?#(?!0{6})", figure)
        assert "<metadata" not in figure
        assert "<?xml" not in figure
    ids = re.findall(r'\bid="([^"]+)"', "".join(figures))
    assert len(ids) == len(set(ids))
    assert "threshold 0.500" in figures[1]


def test_the_same_report_gives_the_same_page(report, page):
    assert render_page(json.loads(json.dumps(report))) == page


def test_dark_and_print_are_cared_for(page):
    assert "prefers-color-scheme: dark" in page
    assert "@media print" in page
    assert 'name="viewport"' in page


def test_the_verdict_comes_first(report, page):
    evaluation = report["contenders"][0]["evaluation"]
    lead = report["summary"][0]
    assert f"{100 * evaluation['recall']['value']:.1f} %" in lead
    assert f"{100 * evaluation['precision']['value']:.1f} %" in lead
    assert page.index(lead) < page.index("<table")


def test_few_queries_and_one_class_are_noted():
    notes = {}
    for name, judgements, contenders in reports_of_all_kinds():
        notes[name] = " ".join(build_report(judgements, contenders, settings=ReportSettings(n_draws=5)).notes)
    assert "Only 12 queries" in notes["plain"]
    assert "All scores are equal" in notes["all scores equal"]
    assert "labelled irrelevant" in notes["nothing relevant"]
    assert "labelled relevant" in notes["everything relevant"]
    assert "no query ids" in notes["no ids"]


def test_baselines_are_compared_with_the_grader(report):
    grader, keep_all, words = report["contenders"]
    assert grader["ap_difference"] is None
    assert keep_all["evaluation"]["average_precision"]["value"] == pytest.approx(report["data"]["base_rate"])
    assert words["evaluation"]["precision"]["reason"] == "no threshold was chosen for it"
    expected = grader["evaluation"]["average_precision"]["value"] - words["evaluation"]["average_precision"]["value"]
    assert words["ap_difference"]["value"] == pytest.approx(expected)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"query_ids": ["a"]}, "query_ids must have one value"),
        ({"query_ids": ["a", "a"], "doc_ids": ["d", "d"]}, "rows 1 and 2 are the same pair"),
        ({"labels": [0, 2]}, "labels must be 0 or 1"),
        ({"labels": [0, float("nan")]}, "labels must be 0 or 1"),
        ({"labels": []}, "shape"),
        ({"fields": {"f": [1, 2]}}, "cannot be sliced"),
        ({"block_length": -1}, "block needs a length"),
    ],
)
def test_bad_rows_are_refused(more, message):
    with pytest.raises(InvalidInput, match=message):
        Judgements(**{"labels": [0, 1], **more})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"scores": [0.1, float("nan")]}, "NaN or infinity at row 1"),
        ({"probabilities": [0.1, 1.2]}, "look like logits"),
        ({"is_kept": [0, 2]}, "verdicts must be 0 or 1"),
        ({"scores": [0.1]}, "must have shape"),
        ({"scores": ["a", "b"]}, "could not convert|must be numbers"),
    ],
)
def test_bad_columns_are_refused(more, message):
    judgements = Judgements(labels=[0, 1], query_ids=["a", "b"])
    with pytest.raises((InvalidInput, ValueError), match=message):
        build_report(judgements, [Contender(name="g", kind="grader", **more)])


def test_what_does_not_fit_together_is_refused():
    judgements = Judgements(labels=[0, 1], query_ids=["a", "b"])
    verdicts = Contender(name="g", kind="grader", is_kept=[0, 1])
    with pytest.raises(InvalidInput, match="different names"):
        build_report(judgements, [verdicts, verdicts])
    with pytest.raises(InvalidInput, match="no field 'domain'"):
        build_report(judgements, [verdicts], settings=ReportSettings(by=("domain",)))
    with pytest.raises(InvalidInput, match="verdicts of both"):
        build_report(judgements, [verdicts], against=Contender(name="o", kind="grader", scores=[0.1, 0.2]))
