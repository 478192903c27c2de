"""Which tokens of a document only repeat the question, and what the evidence makes of the rest."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from relgrade.student.echo import asking_tokens, echoed, windows_without  # noqa: E402
from relgrade.student.evidence import NAMES, Evidence  # noqa: E402

WORDS = (
    *(
        "<none>",
        "when",
        "where",
        "what",
        "who",
        "how",
        "did",
        "does",
        "is",
        "the",
        "a",
        "of",
        "to",
        "in",
        "it",
        "at",
        "?",
    ),
    *("ship", "leave", "left", "harbour", "sail", "sank", "noon", "after", "two", "days", "gate", "."),
    *("red", "blue", "green", "plum", "apple", "fig", "cat", "dog", "hen", "goat"),
)
IDS = {word: number for number, word in enumerate(WORDS)}
ASKING = asking_tokens(IDS, len(IDS))


def ids(text, width=0):
    found = [IDS[word] for word in text.split()]
    return torch.tensor([found + [0] * (width - len(found))])


def echo_of(query, document, *, padding=0):
    """The echoed words of a document."""
    query_ids = ids(query, len(query.split()) + padding)
    document_ids = ids(document, len(document.split()) + padding)
    query_mask = (query_ids > 0).float()
    same = (query_ids[:, :, None] == document_ids[:, None]).float() * query_mask[:, :, None]
    same = same * (document_ids > 0).float()[:, None]
    found = echoed(same, query_mask, ASKING[query_ids] * query_mask)[0]
    assert not found[len(document.split()) :].any(), "padding is no echo"
    return " ".join(word for word, is_echo in zip(document.split(), found.tolist(), strict=False) if is_echo)


QUESTION = "when did the ship leave the harbour ?"


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize(
    ("query", "document", "echo"),
    [
        (QUESTION, QUESTION, QUESTION),
        (QUESTION, f"{QUESTION} it left at noon .", QUESTION),
        (QUESTION, f"after two days . {QUESTION}", QUESTION),
        (QUESTION, f"{QUESTION} {QUESTION} red", f"{QUESTION} {QUESTION}"),
        (QUESTION, "the ship left the harbour at noon .", ""),  # a statement
        (QUESTION, "the ship did leave the harbour at noon .", ""),
        (QUESTION, "when did the dog leave the gate ?", ""),  # another question
        ("the ship did leave the harbour .", "the ship did leave the harbour .", ""),  # a claim
        ("ship leave harbour noon", "ship leave harbour noon", ""),  # keywords
        ("who left ?", "who left ?", ""),  # too short to tell
        (
            "in what harbour did the ship sail ?",
            "in what harbour did the ship sail ? red",
            "in what harbour did the ship sail ?",
        ),
        ("the ship sank in what harbour ?", "the ship sank in the harbour .", ""),  # the statement asked about
    ],
)
def test_a_repeated_question_is_an_echo_and_an_answer_is_not(query, document, echo, padding):
    assert echo_of(query, document, padding=padding) == echo


def test_a_question_with_words_changed_or_in_twice_is_still_one():
    assert echo_of(QUESTION, "when did the red ship leave the harbour ? it sank") == QUESTION
    assert echo_of(QUESTION, "what when did the ship leave harbour ? fig fig fig").count("ship") == 1
    assert "leave" not in echo_of(QUESTION, "when the ship sank the cat left . did it leave the red harbour ?")


@given(st.lists(st.sampled_from(WORDS[1:]), min_size=1, max_size=12), st.lists(st.sampled_from(WORDS[1:]), max_size=30))
def test_a_text_that_shares_fewer_words_than_an_echo_needs_has_none(query, document):
    shared = sum(word in document for word in query)
    if shared < 0.8 * len(query) - 1e-3 or len(query) < 4:
        assert echo_of(" ".join(query), " ".join(document)) == "" if document else True


def evidence(query, document, *, seed=0, n_windows=1):
    """Measures by name; every word has a vector of its own, alike everywhere."""
    vectors = torch.from_numpy(np.random.default_rng(seed).normal(size=(len(WORDS), 16)).astype(np.float32))
    query_ids, document_ids = ids(query), ids(document)
    states = vectors[document_ids]
    size = -(-document_ids.shape[1] // n_windows)
    windows = torch.stack([part.mean(1) for part in states.split(size, dim=1)], dim=1)
    found = Evidence(torch.ones(len(WORDS)), torch.zeros(len(WORDS)), ASKING)(
        query_ids,
        torch.ones(query_ids.shape),
        vectors[query_ids],
        vectors[query_ids].mean(1),
        document_ids,
        torch.ones(document_ids.shape),
        states,
        windows,
        torch.ones(windows.shape[:2]),
    )
    return dict(zip(NAMES, found[0].tolist(), strict=True))


def test_an_echo_adds_nothing_to_the_evidence():
    plain = evidence(QUESTION, "red cat sank . blue plum apple fig")
    dressed = evidence(QUESTION, f"{QUESTION} red cat sank . blue plum apple fig")
    assert dressed == pytest.approx(plain, abs=1e-5)


def test_only_the_window_of_the_echo_is_read_without_it():
    other = "hen goat dog cat fig apple plum green"
    plain = evidence(QUESTION, f"{other} {other}", n_windows=2)
    dressed = evidence(QUESTION, f"{other} {QUESTION}", n_windows=2)
    assert dressed["cosine_window"] == pytest.approx(max(plain["cosine_window"], 0.0), abs=1e-5)
    assert dressed["maxsim"] < 0.9


def test_the_question_alone_is_a_document_without_evidence():
    found = evidence(QUESTION, QUESTION)
    assert found["coverage_idf"] == found["bm25"] == found["trigrams"] == 0
    assert found["cosine_mean"] == pytest.approx(0, abs=1e-6)
    assert found["maxsim"] == pytest.approx(-1)
    assert all(np.isfinite(list(found.values())))


def test_windows_without_an_echo_keep_their_vectors():
    vectors, states = torch.randn(1, 2, 4), torch.randn(1, 6, 4)
    echo = torch.tensor([[0.0, 0, 0, 1, 1, 0]])
    found = windows_without(echo, vectors, torch.ones(1, 2), states=states, mask=1 - echo)
    assert torch.equal(found[:, 0], vectors[:, 0])
    assert torch.allclose(found[:, 1], states[:, 5])
