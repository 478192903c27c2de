"""Batches under a budget: every pair once an epoch, the same order for the same seed, groups whole, ranks in step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relgrade.errors import InvalidInput
from relgrade.student.sampler import BUCKET_GROWTH, LengthBatchSampler

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=120)


def make(lengths, *, batch_tokens=512, batch_pairs=8, seed=0, **options):
    return LengthBatchSampler(lengths, batch_tokens=batch_tokens, batch_pairs=batch_pairs, seed=seed, **options)


def epoch(sampler, number=0):
    sampler.set_epoch(number)
    return list(sampler)


@given(LENGTHS, st.integers(1, 2000), st.integers(1, 16), st.integers(0, 3))
def test_every_pair_once_within_the_limits(lengths, batch_tokens, batch_pairs, number):
    sampler = make(lengths, batch_tokens=batch_tokens, batch_pairs=batch_pairs)
    batches = epoch(sampler, number)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    assert len(batches) == len(sampler)
    for batch in batches:
        assert len(batch) == 1 or len(batch) <= batch_pairs
        assert len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= batch_tokens


@given(LENGTHS, st.integers(1, 6), st.integers(0, 2**32), st.integers(0, 3))
def test_groups_stay_whole(lengths, n_groups, seed, number):
    groups = [i % n_groups for i in range(len(lengths))]
    batches = epoch(make(lengths, groups=groups, seed=seed), number)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for group in set(groups):
        assert sum(any(groups[i] == group for i in batch) for batch in batches) == 1
    for batch in batches:
        assert len({groups[i] for i in batch}) == 1 or len(batch) <= 8


@given(LENGTHS, st.integers(2, 5), st.booleans())
def test_ranks_share_an_epoch(lengths, n_ranks, is_grouped):
    groups = [i // 3 for i in range(len(lengths))] if is_grouped else None
    ranks = [make(lengths, groups=groups, rank=rank, n_ranks=n_ranks) for rank in range(n_ranks)]
    batches = [epoch(rank) for rank in ranks]
    assert len({len(of_rank) for of_rank in batches}) == 1
    seen = [i for of_rank in batches for batch in of_rank for i in batch]
    assert set(seen) == set(range(len(lengths)))
    if len(seen) > len(lengths):  # a batch was repeated: nothing was left to halve
        units = groups or range(len(lengths))
        assert all(len({units[i] for i in batch}) == 1 for of_rank in batches for batch in of_rank)


def test_order_is_a_function_of_seed_and_epoch():
    lengths = [5 + i % 40 for i in range(200)]
    first, again, other = make(lengths), make(lengths), make(lengths, seed=1)
    orders = [epoch(first, number) for number in (0, 1, 2)]
    assert [epoch(again, number) for number in (2, 1, 0)] == orders[::-1]
    assert len({str(order) for order in orders}) == 3
    assert epoch(other, 0) != orders[0]
    assert [sorted(map(len, order)) for order in orders] == [sorted(map(len, orders[0]))] * 3


def test_batches_are_mixed_anew_and_come_in_random_order():
    lengths = [10] * 64 + [100] * 64
    sampler = make(lengths)
    first, second = epoch(sampler, 0), epoch(sampler, 1)
    assert {frozenset(batch) for batch in first} != {frozenset(batch) for batch in second}
    assert len({lengths[batch[0]] for batch in first[:8]}) == 2


def test_little_is_padded():
    lengths = [8 + i % 250 for i in range(2000)]
    batches = epoch(make(lengths, batch_tokens=2048, batch_pairs=64))
    padded = sum(len(batch) * max(lengths[i] for i in batch) for batch in batches)
    assert sum(lengths) > padded / BUCKET_GROWTH**2


@pytest.mark.parametrize(
    ("lengths", "options"),
    [
        ([], {}),
        ([3, 0], {}),
        ([3], {"batch_tokens": 0}),
        ([3], {"batch_pairs": 0}),
        ([3], {"rank": 2, "n_ranks": 2}),
        ([3], {"groups": [0, 1]}),
    ],
)
def test_bad_input(lengths, options):
    with pytest.raises(InvalidInput):
        make(lengths, **options)
