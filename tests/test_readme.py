import ast
import gzip
import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from fake_runtime import fake_bundle
from relgrade.cli import main
from relgrade.grade import grader as grader_module
from relgrade.grade.runtimes import RUNTIMES
from relgrade.settings import Recipe

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "README.md").read_text(encoding="utf-8")
HAS_DEFAULT = grader_module.DEFAULT_BUNDLE.is_dir()
TOLERANCE = 0.03  # of a probability: what the rounding of another CPU may move
NUMBER = re.compile(r"-?\d+\.\d+")
LONG_COMMANDS = {
    "calibrate",
    "card",
    "evaluate",
    "train",
}  # minutes, or more pairs than a test has: only their options are checked


@pytest.fixture(scope="module")
def maker():
    spec = importlib.util.spec_from_file_location("make_readme", ROOT / "docs" / "make_readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def embedded(monkeypatch, tmp_path_factory):
    """The embedded grader; a fake in its place where the checkout has none yet."""
    if not HAS_DEFAULT:
        folder = tmp_path_factory.mktemp("fake") / "default"
        fake_bundle(folder)
        monkeypatch.setattr(grader_module, "DEFAULT_BUNDLE", folder)
        monkeypatch.setitem(RUNTIMES, "cross-encoder", ("fake_runtime", "FakeRuntime"))
    return HAS_DEFAULT


def blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, flags=re.DOTALL | re.MULTILINE)


def commands():
    """The lines of the shell blocks that call relgrade, without their comments."""
    lines = [line.split("  #")[0].strip() for block in blocks("sh") for line in block.splitlines()]
    return [line for line in lines if line.startswith("relgrade ")]


# --- the page


def test_the_code_prints_what_the_page_says(maker, embedded):
    namespace = {}
    pages = [(block, maker.with_output(block, namespace)) for block in blocks("python")]
    assert len(pages) >= 2
    for written, found in pages:
        if not embedded:
            assert found.count("# -> ") > 0  # a fake's verdicts are its own
            continue
        assert NUMBER.sub("0", found) == NUMBER.sub("0", written), "run: python docs/make_readme.py"
        numbers = [[float(each) for each in NUMBER.findall(text)] for text in (found, written)]
        assert numbers[0] == pytest.approx(numbers[1], abs=TOLERANCE), "run: python docs/make_readme.py"


def test_the_table_of_results_is_that_of_the_report(maker):
    assert maker.with_results(PAGE, maker.read_results()) == PAGE, "out of date; run: python docs/make_readme.py"


def test_the_cards_are_those_of_their_reports(maker):
    card = maker.short_cards(json.loads(maker.RAG_RESULTS.read_text(encoding="utf-8")))
    assert maker.with_part(PAGE, maker.CARD_START, maker.CARD_END, card) == PAGE, "run: python docs/make_readme.py"
    speed = maker.speed(json.loads(maker.SPEED_RESULTS.read_text(encoding="utf-8")))
    assert maker.with_part(PAGE, maker.SPEED_START, maker.SPEED_END, speed) == PAGE, "run: python docs/make_readme.py"
    page = maker.RAG_PAGE.read_text(encoding="utf-8")
    assert maker.with_cards(page) == page, "out of date; run: python docs/make_readme.py"


@pytest.mark.parametrize("command", commands())
def test_the_commands_run(command, embedded, tmp_path, monkeypatch):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    rows = "".join(f'{{"query": "is it {i}?", "document": "it is {i}", "label": 1}}\n' for i in range(3))
    for name in ("pairs.jsonl", "labelled.jsonl"):
        (tmp_path / name).write_text(rows, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    line, _, source = command.partition(" < ")
    words = shlex.split(line)[1:]
    if words[0] in LONG_COMMANDS:
        if words[0] not in main.list_commands(None):
            pytest.skip(f"relgrade {words[0]} is not there yet")
        page = CliRunner().invoke(main, [words[0], "--help"]).output
        assert all(word in page for word in words if word.startswith("--"))
        return
    given = Path(source).read_bytes() if source else None
    result = CliRunner().invoke(main, words, input=given)
    assert result.exit_code in ({0} if embedded else {0, 1}), result.output
    assert Path(words[words.index("-o") + 1]).stat().st_size if "-o" in words else result.output


def test_the_recipe_is_one(tmp_path):
    (text,) = blocks("toml")
    (tmp_path / "recipe.toml").write_text(text, encoding="utf-8")
    recipe = Recipe.read(tmp_path / "recipe.toml")
    assert recipe.sources[0].path == str(tmp_path / "labelled.jsonl")


def test_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_the_tree_is_that_of_the_package():
    (tree,) = blocks("text")
    named = set(re.findall(r"^  (\w+)/ ", tree, flags=re.MULTILINE))
    found = {path.parent.name for path in (ROOT / "src" / "relgrade").glob("*/__init__.py")}
    assert found <= named
    assert named - found <= {"bundles", "pipeline"}  # data, and what a checkout may not have yet


def test_the_targets_are_those_of_the_makefile():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^make ([a-z-]+)|`make ([a-z-]+)`", PAGE, flags=re.MULTILINE)
    assert {"demo", "test", "quality", "train-default"} <= {"".join(pair) for pair in targets}
    assert [pair for pair in targets if f"\n{''.join(pair)}:" not in makefile] == []


def required_options(name):
    """Of a benchmark, read from its source: importing it would need its packages."""
    place = ROOT / "benchmarks" / name.replace(".", "/")
    module = place.with_name(f"{place.name}.py")
    source = module if module.is_file() else place / "__main__.py"
    return [
        call.args[0].value
        for call in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "add_argument"
        for keyword in call.keywords
        if keyword.arg == "required" and keyword.value.value
    ]


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.stem)
def test_benchmarks_are_named_with_the_options_they_need(path):
    for name, options in re.findall(r"python -m benchmarks\.([\w.]*\w)([^`\n]*)", path.read_text(encoding="utf-8")):
        missing = [option for option in required_options(name) if option not in options]
        assert not missing or "--help" in options, f"benchmarks.{name} needs {missing}"


# --- the script


def estimate(value, low=None, high=None):
    return {"value": value, "low": low, "high": high, "n_queries": 5, "n_pairs": 20}


def report(**changes):
    def measured(ap, false_keep):
        verdicts = {key: estimate(0.5) for key in ("precision", "recall", "losing_all", "brier", "calibration_error")}
        return {
            "n_queries": 1200,
            "n_pairs": 5000,
            "average_precision": estimate(ap),
            "false_keep": estimate(false_keep),
            **verdicts,
        }

    return {
        "summary": {"macro_ap": {"grader": 0.7, "bm25": 0.5}, "bundle_hash": "abcdef0123456789"},
        "macro": {"grader": estimate(0.7, 0.65, 0.75), "bm25": estimate(0.5, 0.45, 0.55)},
        "collections": {
            "b": {"grader": measured(0.8, None), "bm25": measured(0.4, None)},
            "a": {"grader": measured(0.6, 0.25), "bm25": measured(0.6, 0.5)},
        },
        "n_draws": 1000,
        "environment": {"cpu": "some CPU"},
        **changes,
    }


def test_the_tables_say_what_the_report_says(maker):
    lines = maker.results(report()).splitlines()
    assert lines[0] == "| average precision | queries | relgrade | BM25 |"
    assert lines[2] == "| a | 1,200 | **0.600** | **0.600** |"
    assert lines[3] == "| b | 1,200 | **0.800** | 0.400 |"
    assert lines[4] == "| **macro average** |  | 0.700 [0.650, 0.750] | 0.500 [0.450, 0.550] |"
    assert "| unanswerable queries that keep something | 0.250 | 0.500 |" in lines  # of the one that has some
    assert "2 collections, 2,400 queries, 10,000 pairs" in lines[-1]
    assert "abcdef012345" in lines[-1]


def test_a_report_of_the_benchmark_can_be_shown(maker, tmp_path):
    pytest.importorskip("bm25s")
    from benchmarks import quality

    from test_quality_benchmark import FakeGrader, rows_of

    with gzip.open(tmp_path / "first.jsonl.gz", "wt") as file:
        rows = rows_of("train", 60, seed=0) + rows_of("test", 24, seed=1)
        file.writelines(json.dumps(row) + "\n" for row in rows)
    places = f"--data {tmp_path} --cache {tmp_path}/cache --output {tmp_path}/out.json --draws 50 --quiet"
    assert quality.main(places.split(), load_grader=lambda bundle: FakeGrader()) == 0
    found = maker.results(json.loads((tmp_path / "out.json").read_text(encoding="utf-8")))
    assert "| first | 24 | **1.000** |" in found


def test_a_card_says_what_its_report_says(maker):
    measured = {"value": 0.5, "low": 0.25, "high": 0.75}
    none = {"value": None, "low": None, "high": None}
    known = dict.fromkeys(("precision", "recall", "gold_survives", "empty_answerable"), measured)
    row = {"filter": "a", **known, "answer_survives": none, "empty_unanswerable": none, "tokens": {"value": 1234.5}}
    rows = [{**row, "milliseconds": {"p50": 700.2}}, {**row, "filter": "relgrade, tuned", "milliseconds": None}]
    card = {
        "about": {"corpus": "wiki", "retriever": "bm25", "n_documents": 1200},
        "sample": {"n_top": 20, "n_questions": 9, "n_unanswerable": 2},
        "rows": rows,
        "equal_tokens": {"tokens": 300.0, "as": "top 5", "rows": rows[:1]},
    }
    page = maker.cards({"corpora": {"wiki": {"bm25": card}}}).splitlines()
    assert page[0] == "### wiki, bm25 top 20: 9 questions (2 unanswerable), 1,200 documents"
    assert page[2].startswith("| filter | context precision | context recall | gold survives | answerable: empty | tok")
    assert page[4].endswith("| 0.50 [0.25, 0.75] | 1,234 | 700 |")
    assert page[5].endswith("| 1,234 | - |")
    assert page[7] == "With 300 tokens a question, as top 5 sends:"
    short = maker.short_cards({"corpora": {"wiki": {"bm25": card}}})
    assert "tuned" not in short
    assert "| a | 0.50 [0.25, 0.75] | 0.50 [0.25, 0.75] | 1,234 |" in short


def test_only_the_part_between_the_markers_changes(maker):
    page = f"before\n{maker.START}\nold\n{maker.END}\nafter\n"
    assert maker.with_results(page, None) == f"before\n{maker.START}\n{maker.NOT_MEASURED}\n{maker.END}\nafter\n"
    with pytest.raises(ValueError, match="expected one"):
        maker.with_results(f"{maker.END}{maker.START}", None)


def test_output_replaces_output_and_nothing_else(maker):
    block = "a = 1\nprint(a)\n# -> 7\n# -> 8\n\nprint(a + 1)\n# -> ?\nb = 2\n"
    assert maker.with_output(block, {}) == "a = 1\nprint(a)\n# -> 1\n\nprint(a + 1)\n# -> 2\nb = 2\n"
    with pytest.raises(ValueError, match="no # -> line"):
        maker.with_output("print(3)\n", {})
