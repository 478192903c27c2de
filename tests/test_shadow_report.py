import json
import re

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from integration_case import QUERY, TEXTS, WordGrader, fake_client
from relgrade.cli import main
from relgrade.errors import GradingError, UndefinedMeasure
from relgrade.formats import read_pairs
from relgrade.metrics import cohen_kappa
from relgrade.shadow import Compared, LoggedVerdict, Prices, ReportSettings, build_report, replay
from relgrade.shadow.page import render_page
from relgrade.shadow.verdicts import OwnVerdict


def logged(query="q", document="d", says=True, **more):
    return LoggedVerdict(query=query, document=document, query_id=query, doc_id=document, is_relevant=says, **more)


def compared(llm, own, *, query="q", document=None, margin=1.0, **more):
    probability = None if own is None else 0.8 if own else 0.2
    verdict = OwnVerdict(is_relevant=own, probability=probability, margin=margin if own is not None else None)
    return Compared(logged(query, document or f"{llm}{own}{margin}", llm, **more), verdict)


def measure(pairs, **settings):
    return build_report(pairs, ReportSettings(n_draws=100, **settings))


# --- the replay


def test_the_log_is_graded_query_by_query_and_each_pair_once():
    grader = WordGrader()
    verdicts = [
        logged(QUERY, TEXTS[1]),
        logged("plum", TEXTS[0], False),
        logged(QUERY, TEXTS[0]),
        logged(QUERY, TEXTS[1]),
    ]
    found = replay(verdicts, grader)
    assert [(query, len(documents)) for query, documents in grader.calls] == [(QUERY, 2), ("plum", 1)]
    assert [(each.logged.document, each.own.is_relevant) for each in found] == [
        (TEXTS[1], True),
        (TEXTS[0], False),
        (TEXTS[1], True),
        (TEXTS[0], False),
    ]
    assert all(each.own.latency_s > 0 for each in found)
    assert all((each.own.margin > 0) is each.own.is_relevant for each in found)


def test_what_a_live_run_graded_is_not_graded_again():
    own = OwnVerdict(is_relevant=False, probability=0.1, margin=-2.0)
    grader = WordGrader()
    (found,) = replay([logged(own=own)], grader)
    assert found.own is own
    assert not grader.calls


def test_one_document_without_a_number_costs_the_others_nothing():
    class Picky(WordGrader):
        def grade(self, query, documents):
            if any("nan" in document.text for document in documents):
                raise GradingError("the model gave nan", index=0)
            return super().grade(query, documents)

    found = replay([logged(QUERY, "nan"), logged(QUERY, TEXTS[1])], Picky())
    assert [each.own.is_relevant for each in found] == [None, True]
    assert found[0].own.error == "the model gave nan"


# --- the report


def test_counts_agreement_and_the_table():
    pairs = [
        compared(True, True, query="a"),
        compared(False, False, query="a"),
        compared(True, False, query="b"),
        compared(False, True, query="b", document="x"),
        compared(None, True, query="b", document="y"),
        compared(True, None, query="c", document="z"),
    ]
    plain = measure(pairs).plain
    assert plain["counts"] == {
        "verdicts": 6,
        "pairs": 6,
        "queries": 3,
        "compared": 4,
        "unreadable": 1,
        "not_graded": 1,
    }
    assert plain["agreement"]["raw"]["value"] == 0.5
    assert plain["agreement"]["kappa"]["value"] == 0.0
    assert plain["table"] == {"both_keep": 1, "only_llm_keeps": 1, "only_relgrade_keeps": 1, "both_drop": 1}
    json.dumps(plain, allow_nan=False)


def test_queries_that_one_grader_empties():
    pairs = [
        compared(True, False, query="a"),
        compared(False, True, query="b"),
        compared(False, False, query="c"),
        compared(True, True, query="d"),
    ]
    assert measure(pairs).plain["queries"] == {
        "compared": 4,
        "emptied_by_both": 1,
        "emptied_by_llm_alone": 1,
        "emptied_by_relgrade_alone": 1,
    }


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=30))
def test_kappa_is_that_of_the_metrics(said):
    pairs = [compared(llm, own, query=str(i % 4), document=str(i)) for i, (llm, own) in enumerate(said)]
    kappa = build_report(pairs, ReportSettings(n_draws=20)).plain["agreement"]["kappa"]
    first, second = np.array(said).T
    try:
        expected = cohen_kappa(first, second)
    except UndefinedMeasure:
        assert kappa["value"] is None
        assert kappa["reason"]
        return
    assert kappa["value"] == pytest.approx(expected)
    assert kappa["low"] is None or kappa["low"] <= kappa["high"]


def test_an_llm_that_changes_its_mind_is_told_and_counts_once():
    pairs = [compared(True, True, document="d"), compared(False, True, document="d"), compared(True, True)]
    plain = measure(pairs).plain
    assert plain["self_agreement"] == {"pairs": 1, "same": 0, "share": 0.0}
    assert plain["counts"]["compared"] == 2


def test_costs_of_the_log_go_before_prices_and_what_is_unknown_is_not_free():
    pairs = [
        compared(True, True, document="1", cost=0.5, input_tokens=10),
        compared(True, True, document="2", input_tokens=1_000_000, output_tokens=2),
        compared(True, True, document="3"),
    ]
    money = measure(pairs, prices=Prices(input_per_million=2.0, output_per_million=0.0)).plain["money"]
    assert (money["cost"], money["verdicts_with_cost"], money["input_tokens"]) == (2.5, 2, 1_000_010)
    assert money["cost_per_1000_verdicts"] == 1250.0
    assert measure(pairs[1:]).plain["money"]["cost"] is None
    assert measure(pairs[2:], prices=Prices(per_verdict=0.25)).plain["money"]["cost"] == 0.25


def test_times_by_document_and_by_query():
    pairs = [compared(True, True, query="a", document=str(i), latency_s=0.1 * (i + 1)) for i in range(3)]
    pairs.append(compared(True, True, query="b", document="x", latency_s=None))
    latency = measure(pairs).plain["latency"]
    assert latency["llm_document_ms"]["p50"] == pytest.approx(200.0)
    assert latency["llm_query_ms"] == pytest.approx({"n": 1, "p50": 600.0, "p95": 600.0})
    assert latency["relgrade_document_ms"] is None


def test_pairs_worth_labelling_take_turns_and_say_why():
    pairs = [
        compared(True, False, margin=-1.0),
        compared(True, False, margin=-3.0),
        compared(False, True, margin=2.0),
        compared(None, True, margin=1.0),
        compared(True, True, margin=0.1),
        compared(True, True, margin=4.0),
    ]
    wanted = measure(pairs).wanted
    assert [(each.reason, each.compared.own.margin) for each in wanted] == [
        ("only the LLM keeps it", -3.0),
        ("only relgrade keeps it", 2.0),
        ("only the LLM keeps it", -1.0),
        ("the LLM gave no verdict", 1.0),
        ("close to the threshold", 0.1),
        ("close to the threshold", 4.0),
    ]
    assert len(measure(pairs, n_wanted=2).wanted) == 2
    pair = wanted[0].to_pair()
    assert (pair.label, pair.fields["llm"], pair.fields["relgrade"]) == (None, True, False)


def test_the_page_shows_texts_as_text_and_loads_nothing():
    evil = "<script>alert(1)</script>"
    page = render_page(measure([compared(True, False, query=evil, document=evil), compared(True, True)]).plain)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "default-src 'none'" in page
    assert not re.search(r"https?://|src=|@import", page)
    assert render_page(measure([compared(None, None)]).plain)  # nothing to compare is a page too


# --- the command


@pytest.fixture
def log(tmp_path):
    rows = [{"query": QUERY, "document": text, "verdict": says} for text, says in zip(TEXTS, "yyyn?", strict=True)]
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps({**row, "latency_ms": 500}) + "\n" for row in rows), encoding="utf-8")
    return path


def test_the_command_reports_writes_and_exits_0(log, tmp_path, monkeypatch):
    made = fake_client(monkeypatch)
    names = [str(tmp_path / name) for name in ("r.json", "r.html", "p.jsonl")]
    options = ["--grader", "http://localhost:1", "--json", names[0], "--html", names[1], "--pairs", names[2]]
    done = CliRunner().invoke(main, ["shadow", str(log), *options, "--verdict-price", "0.001", "--draws", "50"])
    assert done.exit_code == 0, done.output
    assert "They agree on 25 % of 4 pairs" in done.output
    assert "1 verdicts of the LLM cannot be read" in done.output
    assert "cost 0.005" in done.output
    assert json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["table"]["only_relgrade_keeps"] == 1
    assert "relgrade shadow" in (tmp_path / "r.html").read_text(encoding="utf-8")
    pairs = list(read_pairs(tmp_path / "p.jsonl"))
    assert len(pairs) == 5
    assert made[0].url == "http://localhost:1"


def test_lines_that_are_passed_over_are_told_by_the_exit_code(log, monkeypatch):
    fake_client(monkeypatch)
    log.write_text(log.read_text(encoding="utf-8") + '{"query": "q"}\n', encoding="utf-8")
    done = CliRunner().invoke(main, ["shadow", str(log), "--grader", "http://localhost:1"])
    assert done.exit_code == 1
    assert "1 lines of" in done.output


def test_a_log_without_a_verdict_is_bad_input(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text('{"a": 1}\n', encoding="utf-8")
    done = CliRunner().invoke(main, ["shadow", str(path)])
    assert done.exit_code == 2
    assert "no verdict was found" in done.output
