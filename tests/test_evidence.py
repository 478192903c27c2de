"""The measures of the interaction head: what they are on texts one can count by hand, and that padding is invisible."""

import pytest

torch = pytest.importorskip("torch")

from relgrade.student.evidence import NAMES, Evidence  # noqa: E402

N_VOCABULARY, N_HIDDEN = 30, 8


def evidence():
    idf = torch.linspace(0.5, 3.0, N_VOCABULARY)
    is_number = (torch.arange(N_VOCABULARY) >= 25).float()
    return Evidence(idf, is_number)


def states_of(ids):
    """One vector a token id: equal tokens have cosine 1, others nearly 0."""
    vectors = torch.nn.functional.normalize(
        torch.randn(N_VOCABULARY, 64, generator=torch.Generator().manual_seed(1)), dim=-1
    )
    return vectors[torch.tensor(ids)]


def inputs(query, document, *, pad=0):
    def padded(values, width):
        return torch.nn.functional.pad(values, (0, 0) * (values.dim() - 1) + (0, width))

    q, d = states_of(query), states_of(document)
    return [
        padded(torch.tensor(query), pad)[None],
        padded(torch.ones(len(query)), pad)[None],
        padded(q, pad)[None],
        q.mean(0)[None],
        padded(torch.tensor(document), 3 * pad)[None],
        padded(torch.ones(len(document)), 3 * pad)[None],
        padded(d, 3 * pad)[None],
        padded(d.mean(0)[None], pad)[None],
        padded(torch.ones(1), pad)[None],
    ]


def measure(query, document, *, pad=0):
    row = evidence()(*inputs(query, document, pad=pad))[0]
    return dict(zip(NAMES, row.tolist(), strict=True))


def test_a_document_that_repeats_the_query_has_it_all():
    found = measure([3, 4, 5, 26], [3, 4, 5, 26])
    for name in (
        "maxsim",
        "maxsim_idf",
        "maxsim_min",
        "coverage_idf",
        "bigrams",
        "trigrams",
        "coverage_span",
        "numbers",
    ):
        assert found[name] == pytest.approx(1.0, abs=1e-5), name
    assert found["cosine_mean"] == pytest.approx(1.0, abs=1e-5)
    assert found["idf_missed"] == pytest.approx(0.0, abs=1e-6)
    assert found["soft_missed"] == pytest.approx(0.0, abs=1e-5)
    assert found["document_covered"] == pytest.approx(1.0, abs=1e-5)


def test_a_document_of_other_words_has_nothing():
    found = measure([3, 4, 5, 26], [10, 11, 12, 13, 14])
    for name in (
        "coverage_idf",
        "bm25",
        "bm25_sum",
        "bigrams",
        "trigrams",
        "numbers",
        "idf_matched",
        "document_covered",
    ):
        assert found[name] == pytest.approx(0.0, abs=1e-6), name
    assert found["maxsim"] < 0.6


def test_order_decides_bigrams_and_nothing_else_lexical():
    straight, turned = measure([3, 4, 5], [9, 3, 4, 5, 8]), measure([3, 4, 5], [5, 9, 4, 8, 3])
    assert straight["bigrams"] == pytest.approx(1.0)
    assert turned["bigrams"] == 0.0
    assert straight["coverage_idf"] == pytest.approx(turned["coverage_idf"])


def test_a_rare_word_weighs_more_than_a_common_one():
    assert measure([3, 24], [24, 9])["coverage_idf"] > measure([3, 24], [3, 9])["coverage_idf"]


def test_words_that_stand_together_beat_words_far_apart():
    together = [3, 4] + [9] * 120
    apart = [3] + [9] * 120 + [4]
    assert measure([3, 4], together)["coverage_span"] > measure([3, 4], apart)["coverage_span"] + 0.2
    assert measure([3, 4], together)["maxsim_span"] > measure([3, 4], apart)["maxsim_span"] + 0.1


def test_one_answered_clause_of_a_long_question_is_seen():
    clause = list(range(15, 27))
    question = [*range(3, 15), *clause]
    found = measure(question, clause)
    assert found["clause_coverage"] > 0.95
    assert found["coverage_idf"] < 0.8


@pytest.mark.parametrize("n_query", [1, 2, 5, 17])
@pytest.mark.parametrize("n_document", [1, 2, 47, 48, 49, 130])
def test_padding_changes_no_measure(n_query, n_document):
    generator = torch.Generator().manual_seed(n_query * 1000 + n_document)
    query = torch.randint(0, N_VOCABULARY, (n_query,), generator=generator).tolist()
    document = torch.randint(0, N_VOCABULARY, (n_document,), generator=generator).tolist()
    alone, padded = measure(query, document), measure(query, document, pad=11)
    for name in NAMES:
        assert padded[name] == pytest.approx(alone[name], abs=1e-5), name


def test_measures_are_finite_and_carry_gradients_to_the_states():
    values = inputs([3, 4, 26], [4, 9, 26, 7])
    values[2].requires_grad_()
    row = evidence()(*values)
    assert torch.isfinite(row).all()
    row.sum().backward()
    assert torch.isfinite(values[2].grad).all()
    assert values[2].grad.abs().sum() > 0
