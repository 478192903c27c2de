import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from relgrade.errors import InvalidInput
from relgrade.grade.keep import best_first, choose
from relgrade.records import Grade, KeepPolicy


def grade_of(index, logit, threshold=0.0):
    return Grade(index, logit, 0.5, logit >= threshold, "point", False, 1)


def grades_of(*logits):
    return [grade_of(i, logit) for i, logit in enumerate(logits)]


LOGITS = st.lists(st.integers(-5, 5), max_size=12)  # few values, so that ties are common


@st.composite
def policies(draw):
    min_keep = draw(st.integers(0, 6))
    return KeepPolicy(
        min_keep=min_keep,
        max_keep=draw(st.none() | st.integers(max(1, min_keep), 10)),
        max_tokens=draw(st.none() | st.integers(1, 100)),
    )


@pytest.mark.parametrize(
    ("logits", "policy", "expected"),
    [
        ((1, -1, 2), {}, [0, 2]),
        ((0, -1), {}, [0]),  # at the threshold counts as relevant
        ((-3, -1, -2), {}, []),
        ((-3, -1, -2), {"min_keep": 2}, [1, 2]),
        ((1, -1, -2), {"min_keep": 2}, [0, 1]),
        ((1, 3, 2), {"max_keep": 2}, [1, 2]),
        ((-1, -1, -1), {"min_keep": 2}, [0, 1]),  # ties: the order of the call
        ((-1,), {"min_keep": 5}, [0]),
        ((), {"min_keep": 5}, []),
    ],
)
def test_minimum_and_maximum(logits, policy, expected):
    assert choose(grades_of(*logits), KeepPolicy(**policy)) == expected


@pytest.mark.parametrize(
    ("logits", "tokens", "policy", "expected"),
    [
        ((3, 2, 1), (5, 5, 5), {"max_tokens": 10}, [0, 1]),
        ((1, 2, 3), (5, 5, 5), {"max_tokens": 10}, [1, 2]),
        ((3, 2, 1), (11, 5, 5), {"max_tokens": 10}, [1, 2]),  # longer than the limit alone: passed over
        ((3, 2, 1), (6, 6, 4), {"max_tokens": 10}, [0, 2]),  # does not fit any more: the next is tried
        ((3, 2, 1), (11, 11, 11), {"max_tokens": 10, "min_keep": 1}, []),  # the limit wins over min_keep
        ((-1, -2), (11, 5), {"max_tokens": 10, "min_keep": 1}, [1]),
        ((3, 2, 1), (1, 1, 1), {"max_tokens": 10, "max_keep": 2}, [0, 1]),
        ((3,), (10,), {"max_tokens": 10}, [0]),
    ],
)
def test_a_budget_of_tokens(logits, tokens, policy, expected):
    assert choose(grades_of(*logits), KeepPolicy(**policy), n_tokens=tokens) == expected


def test_a_relevant_one_goes_before_a_rejected_one_with_a_larger_logit():
    """A document without text has a logit by rule, and a model may go below it."""
    grades = [grade_of(0, -40, threshold=0), grade_of(1, -50, threshold=-60)]
    assert best_first(grades) == [1, 0]
    assert choose(grades, KeepPolicy(max_keep=1)) == [1]


@pytest.mark.parametrize("n_tokens", [None, [1], [1, 2, 3]])
def test_a_budget_needs_counts(n_tokens):
    with pytest.raises(InvalidInput, match="one token count per document: 2"):
        choose(grades_of(1, 2), KeepPolicy(max_tokens=5), n_tokens=n_tokens)


@given(LOGITS, policies(), st.data())
def test_what_always_holds(logits, policy, data):
    grades = grades_of(*logits)
    tokens = data.draw(st.lists(st.integers(0, 60), min_size=len(grades), max_size=len(grades)))
    kept = choose(grades, policy, n_tokens=tokens)
    n_relevant = sum(grade.relevant for grade in grades)
    assert kept == sorted(set(kept))
    assert policy.max_keep is None or len(kept) <= policy.max_keep
    assert policy.max_tokens is None or sum(tokens[i] for i in kept) <= policy.max_tokens
    assert len(kept) <= max(n_relevant, policy.min_keep)
    if policy.max_tokens is None:
        expected = min(max(n_relevant, policy.min_keep), len(grades), policy.max_keep or len(grades))
        assert kept == sorted(best_first(grades)[:expected])
    else:  # whatever better document is missing would have broken the limit
        for missing in set(range(len(grades))) - set(kept):
            better = [i for i in kept if best_first(grades).index(i) < best_first(grades).index(missing)]
            is_wanted = grades[missing].relevant or len(better) < policy.min_keep
            is_full = policy.max_keep is not None and len(better) >= policy.max_keep
            fits = sum(tokens[i] for i in better) + tokens[missing] <= policy.max_tokens
            assert not (is_wanted and fits) or is_full


@given(LOGITS, policies(), st.randoms())
def test_the_order_of_the_call_changes_nothing_but_ties(logits, policy, random):
    assume(len(set(logits)) == len(logits))
    grades = grades_of(*logits)
    tokens = {grade.index: 7 * grade.index % 13 for grade in grades}
    shuffled = random.sample(grades, len(grades))

    def kept(order):
        return {order[i].index for i in choose(order, policy, n_tokens=[tokens[grade.index] for grade in order])}

    assert kept(shuffled) == kept(grades)
