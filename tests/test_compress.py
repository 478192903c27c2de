import copy
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import FakeRuntime, fake_bundle
from relgrade.errors import InvalidInput
from relgrade.grade import evidence as evidence_module
from relgrade.grade.grader import Grader
from relgrade.grade.runtime import RuntimeOutput
from relgrade.records import Document, KeepPolicy, VerdictPoints

TEXT = "Rain fell on us. The gold lay here. Much gold is left. Nobody looked. A gold end."


class WordRuntime(FakeRuntime):
    def score(self, pairs):
        super().score(pairs)
        logits = [{True: 2.0, False: -3.0}["gold" in text] + ("much" in text.lower()) for _, text in pairs]
        return RuntimeOutput(np.array(logits), np.zeros(len(pairs), bool), np.ones(len(pairs), int))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("bundles") / "b")


@pytest.fixture
def grader(bundle):
    return Grader(bundle, WordRuntime())


def test_the_sentences_above_the_point_stay(grader, bundle):
    (item,) = compressed = grader.compress("gold", ["nothing", TEXT])
    assert item.text == "The gold lay here. Much gold is left. A gold end."
    assert [TEXT[start:end] for start, end in item.spans] == ["The gold lay here. Much gold is left.", "A gold end."]
    assert [span.text for span in item.sentences] == ["The gold lay here.", "Much gold is left.", "A gold end."]
    assert (item.n_sentences, item.n_unread, item.grade.index) == (5, 0, 1)
    assert (item.tokens_before, item.tokens_after) == (17, 11)
    assert (compressed.tokens_before, compressed.tokens_after) == (17, 11)
    assert item.document is compressed.documents[0] is TEXT
    assert compressed.texts == [item.text]
    assert (compressed.bundle_hash, compressed.sentence_threshold) == (bundle.hash, 0.5)
    assert compressed.operating_point.name == "balanced"
    assert compressed[0:1] == (compressed[0],)


def test_the_title_stays(grader):
    given_one = {"text": f"{TEXT}", "title": "A title", "id": "x"}
    rendered = f"title: A title\n{TEXT}"
    first, second = grader.compress("gold", [given_one, rendered])
    assert first.text == "The gold lay here. Much gold is left. A gold end."
    assert second.text == f"title: A title\n{first.text}"
    assert first.tokens_after == second.tokens_after == 11 + 3
    assert second.spans[0] == (0, len("title: A title"))


def test_a_kept_document_is_never_empty(grader):
    (item,) = grader.compress("gold", [TEXT], threshold=1.0)
    assert item.text == "Much gold is left."
    (rejected,) = grader.compress("gold", ["Rain fell much. Snow fell."], policy=KeepPolicy(min_keep=1))
    assert rejected.text == "Rain fell much."
    (blank,) = grader.compress("gold", [" \n"], policy=KeepPolicy(min_keep=1))
    assert (blank.text, blank.tokens_before, blank.n_sentences) == (" \n", 0, 0)


def test_the_point_of_sentences_can_be_another(tmp_path):
    points = VerdictPoints("strict", "balanced")
    grader = Grader(fake_bundle(tmp_path / "b", verdict_points=points), WordRuntime(), operating_point="strict")
    assert grader.compress("gold", [TEXT]).texts == ["The gold lay here. Much gold is left. A gold end."]
    assert grader.compress("gold", [TEXT]).sentence_threshold == 0.5
    assert grader.compress("gold", [TEXT], threshold=0.0).texts == [TEXT]
    assert grader.compress("gold", [TEXT], point="strict").sentence_threshold == 0.9
    # logit 3 is probability 0.986, logit 2 0.940
    assert grader.compress("gold", [TEXT], threshold=0.97).texts == ["Much gold is left."]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 1.5}, "probability"),
        ({"threshold": float("nan")}, "probability"),
        ({"threshold": True}, "probability"),
        ({"point": "none such"}, "none such"),
        ({"point": "strict", "threshold": 0.5}, "both"),
        ({"policy": 3}, "KeepPolicy"),
    ],
)
def test_what_cannot_be_used_is_refused(grader, arguments, message):
    with pytest.raises(InvalidInput, match=message):
        grader.compress("gold", [TEXT], **arguments)


def test_tokens_of_the_policy_are_those_left(grader):
    texts = ["Short gold.", TEXT]
    assert [item.grade.index for item in grader.compress("gold", texts, policy=KeepPolicy(max_tokens=11))] == [1]
    assert len(grader.filter("gold", texts, policy=KeepPolicy(max_tokens=13))) == 1
    assert len(grader.compress("gold", texts, policy=KeepPolicy(max_tokens=13))) == 2
    fill = KeepPolicy(min_keep=2, max_tokens=13)
    kept = grader.compress("gold", [TEXT, "Rain fell on many a far hill.", "No."], policy=fill)
    assert [item.grade.index for item in kept] == [0, 2]


def test_the_caller_keeps_what_was_given(grader):
    documents = [{"text": TEXT, "metadata": {"a": [1]}}, Document(TEXT, "T")]
    before = copy.deepcopy(documents)
    compressed = grader.compress("gold", (document for document in documents))
    assert documents == before
    assert all(item.document is document for item, document in zip(compressed, documents, strict=True))
    assert len(grader.compress("gold", [])) == 0


def test_what_is_not_read_is_told(grader, monkeypatch):
    monkeypatch.setattr(evidence_module, "MAX_SENTENCES", 2)
    (item,) = grader.compress("gold", [TEXT])
    assert (item.n_sentences, item.n_unread, item.text) == (5, 3, "The gold lay here.")


@given(st.lists(st.text(st.sampled_from("ab. gold\n!日。"), max_size=60), max_size=4), st.floats(0, 1), st.floats(0, 1))
def test_less_is_kept_at_a_higher_threshold_and_all_of_it_is_the_callers(bundle, texts, low, high):
    low, high = sorted((low, high))
    grader = Grader(bundle, FakeRuntime())
    more, less = (grader.compress("q", texts, threshold=value) for value in (low, high))
    assert [item.grade for item in more] == list(grader.filter("q", texts))
    for item, shorter in zip(more, less, strict=True):
        assert set(shorter.sentences) <= set(item.sentences)
        assert item.text.strip()
        assert all(start < end for start, end in item.spans)
        assert all(item.document[span.start : span.end] == span.text for span in item.sentences)
        assert "".join(item.text.split()) == "".join("".join(item.document[a:b] for a, b in item.spans).split())
        assert item.tokens_after <= item.tokens_before


def test_the_code_of_the_page_prints_what_it_says(capsys):
    page = (Path(__file__).parent.parent / "docs" / "evidence.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE))
    exec(code, {})
    assert capsys.readouterr().out.splitlines() == re.findall(r"^# -> (.*)$", code, flags=re.MULTILINE)
