import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fake_runtime import NAN_WORD, FakeRuntime, fake_bundle, fake_logit
from relgrade.errors import GradingError
from relgrade.grade import evidence as evidence_module
from relgrade.grade.grader import Grader
from relgrade.grade.runtime import RuntimeOutput
from relgrade.grade.sentences import MAX_CHARACTERS, split_sentences
from relgrade.records import Document

TEXT = "Rain fell. The gold lay in the cave. Nobody looked."
TEXTS = [TEXT, "", {"text": TEXT, "title": "Gold", "id": 7}, Document("No treasure."), f"title: Caves\n{TEXT}", "gold"]


class WordRuntime(FakeRuntime):
    """Relevant is what says gold; a sentence more than a long text."""

    def score(self, pairs):
        super().score(pairs)
        logits = [(3.0 if "gold" in text else -3.0) - len(text) / 100 for _, text in pairs]
        return RuntimeOutput(np.array(logits), np.zeros(len(pairs), bool), np.ones(len(pairs), int))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return fake_bundle(tmp_path_factory.mktemp("bundles") / "b")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Dr. Smith paid $3.50. He left.", ["Dr. Smith paid $3.50.", "He left."]),
        ("It cost Acme Inc. 5 dollars at 5 p.m. The end.", ["It cost Acme Inc. 5 dollars at 5 p.m.", "The end."]),
        ("The U.S. Army and J. R. R. Tolkien, e.g. here.", ["The U.S. Army and J. R. R. Tolkien, e.g. here."]),
        ('"Why?" he asked. "Because!" Then silence...', ['"Why?" he asked.', '"Because!"', "Then silence..."]),
        ("It rose in 1999.[3] Twelve fell.", ["It rose in 1999.[3]", "Twelve fell."]),
        (
            "Tools\n- a hammer\n- a saw\n1. First cut.\n2. Glue",
            ["Tools", "- a hammer", "- a saw", "1. First cut.", "2. Glue"],
        ),
        ("One paragraph\r\n\r\nand another", ["One paragraph", "and another"]),
        ("今天天气很好。我们去公园。", ["今天天气很好。", "我们去公园。"]),
        ("यह एक वाक्य है। यह दूसरा है।", ["यह एक वाक्य है।", "यह दूसरा है।"]),
        ("هل هذا صحيح؟ نعم هو.", ["هل هذا صحيح؟", "نعم هو."]),
        ("***\nWords here. !", ["***\nWords here. !"]),
        ("", []),
        (" \n ", []),
    ],
)
def test_where_sentences_end(text, sentences):
    assert [text[start:end] for start, end in split_sentences(text)] == sentences


def test_a_wrapped_line_is_no_sentence():
    text = "A line that an editor broke at the margin of its page, so that it\ngoes on. End here."
    assert [text[a:b] for a, b in split_sentences(text)] == [text[:-10], "End here."]


@given(st.text(st.sampled_from("aB1 .?!\n\r\t。,;()[]\"'-é日\u2028"), max_size=120) | st.text(max_size=60))
def test_no_character_is_lost_and_none_is_in_two_sentences(text):
    spans = split_sentences(text)
    position, left = 0, []
    for start, end in spans:
        assert position <= start < end <= len(text)
        assert text[start:end] == text[start:end].strip()
        left.append(text[position:start])
        position = end
    assert not "".join([*left, text[position:]]).strip()


@pytest.mark.parametrize("text", ["x" * 5000, "word " * 2000, "a, " * 3000, "日" * 1300])
def test_no_sentence_is_longer_than_the_limit(text):
    spans = split_sentences(text)
    assert max(end - start for start, end in spans) <= MAX_CHARACTERS
    assert sum(end - start for start, end in spans) >= len(text) - text.count(" ")


@pytest.mark.parametrize("piece", ["Hello there world. ", "a.\n", "1. ", ".)", " \n", "[a] ", "U.S. ", "x", "( ."])
def test_a_large_text_takes_little_time(piece):
    """A pattern that goes back over the text would take minutes; the limit of the whole test run would catch it."""
    split_sentences(piece * (200_000 // len(piece)))


def test_evidence_is_the_sentences_that_reach_the_point_best_first(bundle):
    grader = Grader(bundle, WordRuntime())
    text = "The gold lay in the deep cave. Rain fell. Much gold."
    (grade,) = grader.grade("where is gold", [text], evidence=True)
    assert [span.text for span in grade.evidence] == ["Much gold.", "The gold lay in the deep cave."]
    assert [text[span.start : span.end] for span in grade.evidence] == [span.text for span in grade.evidence]
    assert grade.evidence[0].logit == pytest.approx(3.0 - 0.1)
    assert 0.5 < grade.evidence[1].probability < grade.evidence[0].probability < 1


def test_grades_are_the_same_with_and_without_evidence(bundle):
    grader = Grader(bundle, WordRuntime())
    plain, explained = grader.grade("gold", TEXTS), grader.grade("gold", TEXTS, evidence=True)
    assert plain == explained
    assert all(grade.evidence is None for grade in plain)
    assert [len(grade.evidence) for grade in explained] == [1, 0, 1, 0, 1, 1]
    assert all(grade.document is text for grade, text in zip(explained, TEXTS, strict=True))


def test_a_sentence_is_read_under_its_title_and_counted_in_the_text(bundle):
    runtime = WordRuntime()
    grades = Grader(bundle, runtime).grade("gold", TEXTS, evidence=True)
    read = [text for _, text in runtime.calls[-1]]
    assert "title: Gold\nThe gold lay in the cave." in read
    assert "title: Caves\nThe gold lay in the cave." in read
    assert not any(text.endswith("No treasure.") for text in read)  # what is rejected is not read again
    for i in (2, 4):
        (span,) = grades[i].evidence
        text = TEXT if i == 2 else TEXTS[4]
        assert text[span.start : span.end] == span.text == "The gold lay in the cave."


def test_the_best_sentence_stands_in_where_none_reaches_the_point(bundle):
    class Whole(WordRuntime):
        def score(self, pairs):
            output = super().score(pairs)
            is_whole = np.array([len(text) > 40 for _, text in pairs])
            return RuntimeOutput(np.where(is_whole, 5.0, output.logits - 9), output.truncated, output.windows)

    (grade,) = Grader(bundle, Whole()).grade("gold", [TEXT], evidence=True)
    assert grade.relevant
    assert [span.text for span in grade.evidence] == ["The gold lay in the cave."]
    assert grade.evidence[0].probability < 0.5


def test_a_surrogate_and_a_nul_keep_the_offsets(bundle):
    text = "Rain\0 fell \ud800. The \0gold \U0001f600 lay. End."
    (grade,) = Grader(bundle, WordRuntime()).grade("gold", [text], evidence=True)
    assert [span.text for span in grade.evidence] == ["The \0gold \U0001f600 lay."]
    assert text[grade.evidence[0].start : grade.evidence[0].end] == grade.evidence[0].text


def test_a_sentence_without_a_logit_names_its_document(bundle):
    class Broken(WordRuntime):
        def score(self, pairs):
            output = super().score(pairs)
            alone = np.array([text == "Nobody looked." for _, text in pairs])
            return RuntimeOutput(np.where(alone, np.nan, output.logits), output.truncated, output.windows)

    with pytest.raises(GradingError) as caught:
        Grader(bundle, Broken()).grade("gold", ["gold", TEXT], evidence=True)
    assert caught.value.index == 1
    assert NAN_WORD not in TEXT


def test_many_sentences_are_read_up_to_a_limit(bundle, monkeypatch):
    monkeypatch.setattr(evidence_module, "MAX_SENTENCES", 3)
    runtime = WordRuntime()
    Grader(bundle, runtime).grade("gold", ["Some gold here. " * 9], evidence=True)
    assert len(runtime.calls[-1]) == 3


def test_the_score_of_a_sentence_is_that_of_a_document_alone(bundle):
    grader = Grader(bundle, FakeRuntime())
    texts = [f"Sentence {i} of this. Another {i} here. Third {i} one." for i in range(20)]
    for grade in grader.grade("q", texts, evidence=True):
        for span in grade.evidence:
            assert span.logit == fake_logit("q", span.text)
