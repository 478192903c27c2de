"""The playground: what documents say stays text, keys are asked for, and a browser runs none of it."""

import html.parser
import os
import shutil
from pathlib import Path
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fake_runtime import NAN_WORD, FakeRuntime, fake_bundle
from tests.serve_case import KEY, ask, make_app
from tests.serve_process import Server

from relgrade.bundle import load_bundle
from relgrade.grade.grader import Grader
from relgrade.serve.playground import pieces_of

HOSTILE = (
    "<script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "' onfocus=window.pwned=1 autofocus hx-get=/health x='",
    "{{ 7*7 }} {% raw %} ${7*7} <svg/onload=window.pwned=1>",
    "</p></li></ol></textarea></pre><iframe src='javascript:window.pwned=1'>",
)
FORM = {"content-type": "application/x-www-form-urlencoded"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "bundle"


class Tags(html.parser.HTMLParser):
    """Every tag and attribute of a page."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


def shape(text):
    """Tags with the names of their attributes; `hidden` and the marks of evidence depend on the verdicts."""
    found = [(tag, sorted({*attributes} - {"hidden"})) for tag, attributes in Tags(text).found]
    return [each for each in found if each not in (("mark", []), ("mark", ["class"]))]


def grade(app, *, part=True, headers=(), **fields):
    sent = {"query": "what is red", "documents": "apple\n\nplum", **fields}
    told = {**FORM, **({"hx-request": "true"} if part else {}), **dict(headers)}
    return ask(app, "/page/grade", urlencode(sent, errors="surrogatepass").encode(), headers=told)


def test_the_page_and_its_files(folder):
    app = make_app(folder)
    page = ask(app, "/", method="GET")
    assert "default-src 'none'; script-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]
    for tag, attributes in Tags(page.text).found:
        assert "style" not in attributes, tag
        assert not [name for name in attributes if name.startswith("on")], tag
        for name in ("href", "src"):
            link = attributes.get(name, "")
            assert not link.startswith(("http", "//", "javascript")), link
            if link.startswith("page/"):
                assert ask(app, f"/{link}", method="GET").status_code == 200, link
    for name in ("settings.py", "page.html", "..%2fsettings.py", "%2e%2e/settings.py"):
        assert ask(app, f"/page/{name}", method="GET").status_code == 404


def test_examples_are_there_for_the_choosing(folder):
    app = make_app(folder)
    texts = {
        name: ask(app, f"/?example={name}", method="GET").text for name in ("clear", "near-misses", "nothing-there")
    }
    assert len(set(texts.values())) == 3
    assert ask(app, "/?example=%3Cscript%3E", method="GET").text.count("<script") == 2  # its own two


@pytest.mark.parametrize("part", [True, False])
def test_results_with_and_without_scripts(folder, part):
    response = grade(make_app(folder), part=part)
    assert response.status_code == 200
    assert ("<html" in response.text) != part
    rows = [attributes for tag, attributes in Tags(response.text).found if tag == "li"]
    assert len(rows) == 2
    assert all(0 <= float(row["data-probability"]) <= 1 for row in rows)
    assert "curl http" in response.text


@pytest.mark.parametrize("part", [True, False])
@pytest.mark.parametrize("hostile", HOSTILE)
def test_what_documents_say_stays_text(folder, hostile, part):
    app = make_app(folder)
    clean = grade(app, part=part, query="x", documents="y").text
    found = grade(app, part=part, query=hostile, documents=hostile, operating_point="balanced").text
    assert shape(found) == shape(clean), "no tag and no attribute more than for plain text"


class Marks(html.parser.HTMLParser):
    """Of each document its text, and what is marked in it."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.marked, self.best = [], [], []
        self._is_text = self._is_marked = False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "p" and ("class", "text") in attrs:
            self._is_text = True
            self.texts.append("")
            self.marked.append([])
        if tag == "mark":
            assert self._is_text
            self._is_marked = True
            self.marked[-1].append("")
            if ("class", "best") in attrs:
                self.best.append((len(self.texts) - 1, len(self.marked[-1]) - 1))

    def handle_endtag(self, tag):
        self._is_text = self._is_text and tag != "p"
        self._is_marked = self._is_marked and tag != "mark"

    def handle_data(self, data):
        if self._is_text:
            self.texts[-1] += data
        if self._is_marked:
            self.marked[-1][-1] += data


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_empty_lines_alone_part_documents(folder, end):
    found = grade(make_app(folder), documents=f"apple\u2028\u2028pear{end}one\x0c\x0cmore{end}{end}plum").text
    assert Marks(found).texts == ["apple\u2028\u2028pear\none\x0c\x0cmore", "plum"]


@pytest.mark.parametrize("part", [True, False])
def test_the_evidence_of_each_document_is_marked(folder, part):
    documents = [
        "The sky 😀 is <b>blue</b>. Apples & pears. One & two; three.",
        "A second one. 日本語の文。 With more & <mark>more</mark> to it.",
        "title: Third\nIt has a title. And two sentences.",
    ]
    found = grade(make_app(folder), part=part, documents="\n\n".join(documents)).text
    graded = Grader(load_bundle(folder), FakeRuntime()).grade("what is red", documents, evidence=True)
    marks = Marks(found)
    assert marks.texts == documents
    expected = [[span.text for span in sorted(each.evidence, key=lambda span: span.start)] for each in graded]
    assert marks.marked == expected
    assert any(expected)
    for i, number in marks.best:
        assert marks.marked[i][number] == graded[i].evidence[0].text
        assert f"best sentence {graded[i].evidence[0].probability:.3f}" in found
    assert len(marks.best) == sum(bool(each.evidence) for each in graded)
    assert "&#34;evidence&#34;: true" in found, "the curl asks for it too"


SPANS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), max_size=4)


@given(st.text(max_size=30), SPANS)
def test_pieces_are_the_text_again(text, spans):
    taken, evidence = 0, []
    for gap, length in spans:
        start, end = taken + gap, taken + gap + length
        if end <= len(text):
            evidence.append({"start": start, "end": end})
            taken = end
    evidence.reverse()
    pieces = pieces_of(text, evidence)
    assert "".join(piece.text for piece in pieces) == text
    marked = [piece.text for piece in pieces if piece.kind != "rest"]
    assert marked == [text[span["start"] : span["end"]] for span in reversed(evidence)]
    assert sum(piece.kind == "best" for piece in pieces) == bool(evidence)


def test_a_hostile_operating_point_is_shown_as_text(folder):
    response = grade(make_app(folder), operating_point=HOSTILE[0])
    assert response.status_code == 422
    assert "<script" not in response.text


def test_bad_forms_are_refused_in_words(folder):
    app = make_app(folder)
    for response in (
        grade(app, documents="  \n\n "),
        grade(app, query=" "),
        grade(app, documents=NAN_WORD),
        ask(app, "/page/grade", b"\xff\xfe=\x00", headers=FORM),
        ask(app, "/page/grade", b"a=1&" * 50, headers=FORM),
        ask(app, "/page/grade", b"{}"),
    ):
        assert 400 <= response.status_code < 500
        assert 'role="alert"' in response.text


def test_other_sites_cannot_post_the_form(folder):
    assert grade(make_app(folder), headers={"sec-fetch-site": "cross-site"}).status_code == 401
    assert grade(make_app(folder), headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_a_server_with_keys_asks_for_one(folder):
    app = make_app(folder, keys={"one": KEY})
    assert 'type="password"' in ask(app, "/", method="GET").text
    assert grade(app).status_code == 401
    assert grade(app, key=KEY).status_code == 200
    assert KEY not in grade(app, key=KEY).text


def test_a_server_may_have_no_page(folder):
    app = make_app(folder, has_playground=False)
    assert ask(app, "/", method="GET").status_code == 405  # POST is TEI's
    assert ask(app, "/page/page.js", method="GET").status_code == 404


def browser_path():
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    return found if found and Path(found).exists() else None


@pytest.mark.skipif(browser_path() is None, reason="no chromium")
def test_a_browser_grades_moves_the_threshold_and_runs_no_document(folder):
    sync_api = pytest.importorskip("playwright.sync_api")
    fake_bundle(folder)
    with Server(folder) as server, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path())
        try:
            page = browser.new_page(viewport={"width": 390, "height": 800})
            errors = []
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.goto(server.url)
            page.fill("#query", HOSTILE[1])
            page.fill("#documents", "\n\n".join(HOSTILE))
            page.keyboard.press("Control+Enter")
            page.wait_for_selector("#graded > li:nth-child(5)")
            assert page.evaluate("window.pwned") is None
            assert page.inner_text("#graded > li:nth-child(1) .text") == HOSTILE[0]
            page.focus("#threshold")
            page.keyboard.press("Home")
            assert page.inner_text("#n-kept") == "5"
            page.keyboard.press("End")
            assert page.inner_text("#n-kept") == "0"
            assert page.is_visible("#none-kept")
            assert not page.evaluate("document.documentElement.scrollWidth > innerWidth"), "it scrolls sideways"
            assert errors == []
        finally:
            browser.close()
