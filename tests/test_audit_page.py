"""The annotation page in a real headless Chromium; skipped where there is no browser."""

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack

import pytest

from audit_case import labelled_pairs, serving
from relgrade.audit.annotations import read_annotations
from relgrade.audit.cases import Case, draw_sample, write_cases

playwright = pytest.importorskip("playwright.sync_api")
BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)
HOSTILE = (
    "title: <b>bold</b>\n<img src=x onerror=\"document.title='owned'\"><script>document.title='owned'</script>\n"
    "</div><h1>heading</h1> &lt;kept&gt;"
)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        try:
            running = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        yield running
        running.close()


class Served:
    """The command itself, in a process that can be killed."""

    def __init__(self, sample, answers, *options):
        command = [sys.executable, "-m", "relgrade", "audit", "serve", sample, "-o", answers, "--no-open", *options]
        self.process = subprocess.Popen(
            [*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.url = self.process.stdout.readline().strip()

    def end(self, sign=signal.SIGINT):
        if self.process.poll() is None:
            os.kill(self.process.pid, sign)
        self.process.wait(20)
        self.process.stdout.close()
        return self.process.returncode


@pytest.fixture
def serve(tmp_path):
    running = []

    def start(cases, *options):
        write_cases(tmp_path / "sample.jsonl", cases)
        running.append(Served(tmp_path / "sample.jsonl", tmp_path / "a.jsonl", *options))
        return running[-1]

    yield start
    for each in running:
        each.end(signal.SIGKILL)


@pytest.fixture
def url_of(tmp_path):
    """The address of a server in this process, which is up at once."""
    with ExitStack() as stack:

        def start(cases, *annotators):
            path = tmp_path / "a.jsonl"
            rubric = cases[0].rubric
            return stack.enter_context(serving(cases, path, annotators=annotators or ("ann",), rubric=rubric)).url

        yield start


@pytest.fixture
def open_page(browser):
    contexts = []

    def open_at(url, *, width=1280, height=800, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.set_default_timeout(10_000)
        contexts.append(context)
        page = context.new_page()
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(url)
        page.wait_for_selector("#work:not([hidden]), #finish:not([hidden])")
        return page

    yield open_at
    for context in contexts:
        context.close()


def press(page, *keys):
    for key in keys:
        before = page.inner_text("#count")
        page.keyboard.press(key)
        page.wait_for_function("before => document.getElementById('count').innerText !== before", arg=before)


def place(page):
    return int(re.match(r"\d+", page.inner_text("#count"))[0])


def test_label_five_undo_reload_resume_and_finish(tmp_path, serve, open_page):
    cases = draw_sample(labelled_pairs(), n=7, seed=0).cases
    served = serve(cases, "--annotator", "ann")
    page = open_page(served.url)
    assert page.inner_text("#query") == cases[0].query
    press(page, "1", "0", "1", "s", "1")
    assert page.inner_text("#count").startswith("4 of 7, 1 skipped")
    assert page.inner_text("#query") == cases[5].query
    press(page, "u")
    assert page.inner_text("#query") == cases[4].query
    page.reload()
    page.wait_for_selector("#work:not([hidden])")
    assert (place(page), page.inner_text("#query")) == (3, cases[4].query)
    press(page, "0")
    served.end(signal.SIGKILL)
    page.keyboard.press("1")
    page.wait_for_selector("#problem:not([hidden])")
    assert "Not stored" in page.inner_text("#problem")
    assert page.inner_text("#query") == cases[5].query

    served = serve(cases, "--annotator", "ann")
    page = open_page(served.url)
    assert (place(page), page.inner_text("#query")) == (4, cases[5].query)
    press(page, "1", "1")
    page.wait_for_selector("#finish:not([hidden])")
    page.click("#revisit")
    page.wait_for_selector("#work:not([hidden])")
    assert page.inner_text("#query") == cases[3].query
    press(page, "0")
    page.wait_for_selector("#finish:not([hidden])")
    assert page.inner_text("#finish-head") == "All pairs are judged"
    assert page.problems == []
    assert served.end() == 0
    answers = {each.case: each.answer for each in read_annotations(tmp_path / "a.jsonl")}
    assert [answers[case.case] for case in cases] == [1, 0, 1, 0, 0, 1, 1]


def test_a_document_is_text_whatever_it_holds(url_of, open_page):
    case = Case(case="c1", query="<i>query</i>", document=HOSTILE, rubric="answer-bearing", sample="s")
    page = open_page(url_of([case], "<b>ann</b>"))
    assert page.inner_text("#query") == "<i>query</i>"
    assert page.inner_text("#title") == "<b>bold</b>"
    assert page.inner_text("#document") == HOSTILE.partition("\n")[2]
    assert page.evaluate("document.querySelectorAll('#work img, #work script, #work b, #work i, #work h1').length") == 0
    assert "owned" not in page.title()
    assert page.problems == []


def test_buttons_keys_off_and_a_second_person(tmp_path, url_of, open_page):
    cases = draw_sample(labelled_pairs(), n=5, seed=0).cases
    page = open_page(url_of(cases, "ann", "bob"))
    page.click(".answer >> nth=1")
    page.wait_for_function("() => document.getElementById('count').innerText.startsWith('1 ')")
    page.keyboard.press("?")
    page.uncheck("#keys-on")
    page.keyboard.press("Escape")
    page.keyboard.press("1")
    page.select_option("#annotator", "bob")
    page.wait_for_function("() => document.getElementById('count').innerText.startsWith('0 ')")
    page.click("#skip")
    page.wait_for_function("() => document.getElementById('count').innerText.includes('1 skipped')")
    assert {(each.annotator, each.answer) for each in read_annotations(tmp_path / "a.jsonl")} == {("ann", 1)}


def test_grades_are_given_by_their_digits(tmp_path, url_of, open_page):
    cases = draw_sample(labelled_pairs(), n=5, seed=0, rubric="graded-0-3").cases
    page = open_page(url_of(cases))
    press(page, "3", "0", "2")
    page.keyboard.press("4")
    assert place(page) == 3
    assert [each.answer for each in read_annotations(tmp_path / "a.jsonl")] == [3, 0, 2]
    assert {each.scale for each in read_annotations(tmp_path / "a.jsonl")} == {"graded"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_everything_without_scrolling_sideways(url_of, open_page, scheme):
    long_word = Case(
        case="c", query="q" * 300, document="w" * 5000 + "\n" + "text " * 900, rubric="topical", sample="s"
    )
    page = open_page(url_of([long_word], "A person with a very long name"), width=360, height=640, scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    for button in ("#choices button >> nth=0", "#choices button >> nth=1", "#skip", "#undo"):
        box = page.locator(button).bounding_box()
        assert box["y"] + box["height"] <= 640
        assert box["height"] >= 40
    page.click("#show-guideline")
    assert page.locator("#guideline-text").is_visible()


def test_the_page_can_be_used_without_seeing_it(url_of, open_page):
    cases = draw_sample(labelled_pairs(), n=3, seed=0).cases
    page = open_page(url_of(cases))
    assert page.get_by_role("heading", name="Query").count() == 1
    assert page.get_by_role("region", name="Document").count() >= 1
    assert page.get_by_role("group", name="Your answer").get_by_role("button").count() == 2
    assert page.get_by_role("progressbar", name="Pairs answered").count() == 1
    press(page, "1")
    assert page.inner_text("#spoken").startswith("Stored: Relevant. Pair 2 of 3. Query: ")
    for _ in range(12):  # everything is reached with the keyboard alone
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.dataset.value") == "0":
            break
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.getElementById('count').innerText.startsWith('2 ')")
    controls = "[...document.querySelectorAll('button, select, input')]"
    unnamed = f"{controls}.filter(e => e.offsetParent && !e.textContent && !e.labels?.length)"
    assert page.evaluate(f"{unnamed}.length") == 0


def test_without_the_token_the_page_says_what_to_open(url_of, browser):
    page = browser.new_page()
    page.goto(url_of(draw_sample(labelled_pairs(), n=3, seed=0).cases).partition("#")[0])
    page.wait_for_selector("#problem:not([hidden])")
    assert "whole address" in page.inner_text("#problem")
    assert page.locator("#work").is_hidden()
    page.close()
