"""The playground in a real browser: nothing that is pasted runs, the keyboard is enough, and a phone is wide enough."""

import os
import shutil
from pathlib import Path

import pytest
from tests.fake_runtime import fake_bundle
from tests.serve_process import Server

sync_api = pytest.importorskip("playwright.sync_api")

WAIT_MS = 60_000  # for conditions, never for time to pass
PHONE, DESK = {"width": 375, "height": 740}, {"width": 1280, "height": 900}
HOSTILE = (
    "<script>window.pwned=1</script>",
    "</p></mark></li></ol></section><script>window.pwned=2</script>",
    '"><img src=x onerror="window.pwned=3">',
    "' onfocus=window.pwned=4 autofocus tabindex=1 x='",
    "<svg/onload=window.pwned=5><animate onbegin=window.pwned=5 attributeName=x dur=1s>",
    "<svg><style><img src=x onerror=window.pwned=6></style></svg>",
    "<math><mtext></form><form><mglyph><style></math><img src onerror=window.pwned=7>",
    "<iframe srcdoc='<script>parent.pwned=8</script>'></iframe><iframe src=javascript:parent.pwned=8>",
    "</textarea><img src=x onerror=window.pwned=9></pre></title></noscript>",
    "<a href='javascript:window.pwned=10' id=graded>click</a><base href=//evil.example/>",
    "<div hx-get=/health hx-trigger=load hx-on::load=window.pwned=11 hx-vals='js:{x:window.pwned=11}'></div>",
    "{{ 7*7 }} ${7*7} {% include '/etc/passwd' %} <%= 7 %> #{7*7}",
    "<meta http-equiv=refresh content='0;url=//evil.example'><link rel=stylesheet href=//evil.example/x.css>",
    "\uff1cscript\uff1ewindow.pwned=12\uff1c/script\uff1e \u202egnp.txt\u202c \u2066\u2067 z\u0335a\u0337l\u0336go",
    "<\u017fcript>window.pwned=13</\u017fcript> <\u0130mg src=x onerror=window.pwned=13> \u00a0\ufeff\u200b\u00ad",
    "&lt;script&gt;window.pwned=14&lt;/script&gt; &#60;script&#62; &amp;lt; \\u003cscript\\u003e %3Cscript%3E",
    "<!--><script>window.pwned=15</script--> <![CDATA[<script>window.pwned=15</script>]]>",
    "$(touch /tmp/x) `id` '; echo pwned; ' \\' \" \\ -d @/etc/passwd",
    "<style>@import '//evil.example/x.css'; *{display:none}</style>",
    "<img name=cookie><form id=ask><input name=requestSubmit></form><output id=n-kept>99</output>",
)
QUIET = "the server responded with a status of 422"  # Chromium's own note on a refusal
# Counts what a page must not do, from before its first script on.
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
"""


def browser_path():
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    return found if found and Path(found).exists() else None


pytestmark = pytest.mark.skipif(browser_path() is None, reason="no chromium")


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    folder = tmp_path_factory.mktemp("playground") / "bundle"
    fake_bundle(folder)
    with Server(folder) as server:
        yield server.url


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=browser_path(), timeout=WAIT_MS)
        yield found
        found.close()


@pytest.fixture
def watched(browser, url):
    """A function that opens the page, and at the end checks that it did nothing it must not."""
    pages = []

    def open_page(*, path="/", **options):
        context = browser.new_context(**{"viewport": DESK, **options})
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        page.add_init_script(WATCH)
        seen = {"said": [], "asked": []}
        page.on("pageerror", lambda error: seen["said"].append(str(error)))
        page.on("console", lambda message: None if QUIET in message.text else seen["said"].append(message.text))
        page.on("dialog", lambda dialog: (seen["said"].append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: seen["asked"].append(request.url))
        page.goto(url + path, wait_until="load")
        pages.append((context, page, seen, options.get("java_script_enabled", True)))
        return page

    yield open_page
    for context, page, seen, has_scripts in pages:
        assert seen["said"] == [], "the console is not clean"
        assert [each for each in seen["asked"] if not each.startswith(f"{url}/")] == [], "it called another site"
        if has_scripts:
            assert page.evaluate("window.violations") == []
            assert page.evaluate("window.pwned") is None
        context.close()


def n_graded(page, n):
    """Wait until so many documents are graded."""
    page.wait_for_selector(f"#graded > li:nth-child({n})", state="attached", timeout=WAIT_MS)


def grade(page, query, documents):
    page.fill("#query", query)
    page.fill("#documents", "\n\n".join(documents))
    page.click("#go")
    n_graded(page, len(documents))


def texts(page):
    return page.eval_on_selector_all("#graded > li .text", "rows => rows.map(row => row.textContent)")


def tags(page):
    return page.eval_on_selector_all("body *", "all => [...new Set(all.map(each => each.localName))].sort()")


def is_wide(page):
    return page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")


def test_no_document_runs(watched):
    page = watched()
    grade(page, "plain", ["plain"] * 2)
    clean = tags(page)
    grade(page, HOSTILE[2], HOSTILE)
    assert texts(page) == list(HOSTILE)
    assert set(tags(page)) <= {*clean, "mark"}, "an element that a document brought"
    page.click("summary")
    assert HOSTILE[0] in page.inner_text("#curl")
    page.hover("#graded > li:nth-child(3) .text")
    page.click("#graded > li:nth-child(10) .text")
    page.check("#sorted")
    assert sorted(texts(page)) == sorted(HOSTILE)


@pytest.mark.parametrize("hostile", [HOSTILE[1], HOSTILE[8], HOSTILE[10]])
def test_no_question_runs_and_it_comes_back_as_it_was(watched, hostile):
    """Without scripts the form is answered by a whole page, with everything in it once more."""
    page = watched(java_script_enabled=False)
    grade(page, hostile, [hostile, "other"])
    assert page.input_value("#query") == hostile
    assert page.input_value("#documents") == f"{hostile}\n\nother"
    assert texts(page) == [hostile, "other"]


@pytest.mark.parametrize(
    "path", ["/?example=%3Cscript%3Ewindow.pwned=1%3C/script%3E", "/#%3Cimg%20src=x%20onerror=pwned=1%3E"]
)
def test_no_address_runs(watched, path):
    page = watched(path=path)
    assert page.inner_text("h1").startswith("relgrade")
    assert "pwned" not in page.content()


def test_a_refusal_is_shown_as_text(watched):
    page = watched()
    page.fill("#query", "q")
    page.fill("#documents", "d")
    page.eval_on_selector("#point", "(point, text) => { point.options[0].value = text; }", HOSTILE[2])
    with page.expect_response("**/page/grade") as answered:
        page.click("#go")
    assert answered.value.status == 422
    page.wait_for_selector("[role=alert]", state="attached", timeout=WAIT_MS)
    assert page.query_selector("#results img") is None
    assert page.evaluate("window.pwned") is None


def test_the_keyboard_is_enough(watched):
    page = watched()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "jump"
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        name = page.evaluate("document.activeElement.id || document.activeElement.localName")
        has_ring = page.evaluate(
            "(() => { const style = getComputedStyle(document.activeElement);"
            " return style.outlineStyle !== 'none' || style.boxShadow !== 'none'; })()"
        )
        assert name == "body" or has_ring, f"nothing shows that {name} has the focus"
        reached.append(name)
        if name == "go":
            break
    assert [name for name in reached if name != "a"] == ["query", "documents", "point", "go"]
    page.focus("#query")
    page.keyboard.press("Control+A")
    page.keyboard.type("what is red")
    page.keyboard.press("Tab")
    page.keyboard.press("Control+A")
    page.keyboard.type("apple")
    page.keyboard.press("Control+Enter")
    sync_api.expect(page.locator("#graded > li")).to_have_count(1, timeout=WAIT_MS)
    page.focus("#threshold")
    page.keyboard.press("Home")
    sync_api.expect(page.locator("#n-kept")).to_have_text("1", timeout=WAIT_MS)
    page.keyboard.press("End")
    sync_api.expect(page.locator("#n-kept")).to_have_text("0", timeout=WAIT_MS)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "sorted"
    page.keyboard.press("Space")
    assert page.is_checked("#sorted")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.localName") == "summary"
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("details.curl[open]")).to_have_count(1, timeout=WAIT_MS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_is_wide_enough(watched, scheme, tmp_path):
    page = watched(viewport=PHONE, color_scheme=scheme, has_touch=True)
    assert not is_wide(page)
    grade(page, "w" * 400, ["w" * 3000, "https://example.org/" + "a/" * 400, "\u202e" + "x " * 50, *HOSTILE[:3]])
    assert not is_wide(page)
    page.click("summary")
    assert not is_wide(page)
    small = "all => all.filter(each => each.getBoundingClientRect().right > innerWidth + 1).map(each => each.outerHTML)"
    assert (
        page.eval_on_selector_all("main button, main select, main input, main textarea, .badge, .number", small) == []
    )
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    light = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")[:3]) > 380
    assert light == (scheme == "light")
    folder = Path(os.environ.get("RELGRADE_SCREENSHOTS") or tmp_path)
    page.screenshot(path=folder / f"phone-{scheme}.png", full_page=True)
    page.set_viewport_size(DESK)
    page.screenshot(path=folder / f"desk-{scheme}.png")
