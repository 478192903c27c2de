"""Losses against formulas written out, and what must not change them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from relgrade.errors import InvalidInput
from relgrade.settings import TrainingSettings
from relgrade.student.losses import LOSSES, build_loss

NAMES = sorted(LOSSES)


def loss_of(name, logits, labels, query_index=None, weights=None, *, positive_weight=1.0, smoothing=0.0):
    n = len(logits)
    loss = build_loss(TrainingSettings(loss=name, label_smoothing=smoothing), positive_weight=positive_weight)
    return loss(
        torch.as_tensor(logits, dtype=torch.float32),
        torch.as_tensor(labels, dtype=torch.float32),
        torch.as_tensor([0] * n if query_index is None else query_index),
        torch.as_tensor([1.0] * n if weights is None else weights),
    )


def bce(logit, label):
    probability = 1 / (1 + math.exp(-logit))
    return -label * math.log(probability) - (1 - label) * math.log(1 - probability)


batches = st.lists(
    st.tuples(st.floats(-8, 8), st.sampled_from([0.0, 0.2, 0.7, 1.0]), st.integers(0, 3), st.floats(0.0, 2.0)),
    min_size=1,
    max_size=12,
)


def test_every_setting_has_a_loss():
    hint = TrainingSettings.__annotations__["loss"]
    assert set(hint.__args__) == set(LOSSES)


def test_binary_cross_entropy_is_the_formula():
    logits, labels, weights = [0.5, -1.0, 2.0, 0.1], [1.0, 0.0, 0.3, 0.0], [1.0, 2.0, 0.5, 0.0]
    expected = np.mean([w * bce(z, y) for z, y, w in zip(logits, labels, weights, strict=True)])
    assert loss_of("binary-cross-entropy", logits, labels, weights=weights).item() == pytest.approx(expected, rel=1e-5)


def test_positive_weight_weighs_the_positive_side():
    found = loss_of("binary-cross-entropy", [0.4, 0.4], [1.0, 0.0], positive_weight=3.0).item()
    assert found == pytest.approx((3 * bce(0.4, 1) + bce(0.4, 0)) / 2, rel=1e-5)


def test_the_best_constant_is_where_the_loss_is_least():
    labels, weights = torch.tensor([1.0, 0.0, 0.3, 0.0]), torch.tensor([1.0, 2.0, 0.5, 0.0])
    loss = build_loss(TrainingSettings(label_smoothing=0.2), positive_weight=3.0)
    best = loss.best_constant(labels, weights)
    index = torch.zeros(4, dtype=torch.int64)
    here, *beside = (
        loss(torch.full((4,), logit, dtype=torch.float64), labels, index, weights).item()
        for logit in (best, best - 0.05, best + 0.05)
    )
    assert here < min(beside)
    assert beside[0] == pytest.approx(beside[1], rel=1e-3)
    unsmoothed = build_loss(TrainingSettings(), positive_weight=1.0)
    assert unsmoothed.best_constant(torch.ones(2), torch.ones(2)) == math.inf


def test_smoothing_moves_labels_towards_one_half():
    found = loss_of("binary-cross-entropy", [0.4, 0.4], [1.0, 0.0], smoothing=0.2).item()
    assert found == pytest.approx((bce(0.4, 0.9) + bce(0.4, 0.1)) / 2, rel=1e-5)


@pytest.mark.parametrize("label", [0.1, 0.5, 0.8])
def test_soft_label_is_where_the_loss_is_least(label):
    logit = torch.tensor([math.log(label / (1 - label))], requires_grad=True)
    one = torch.ones(1)
    build_loss(TrainingSettings(), positive_weight=1.0)(logit, one * label, torch.zeros(1), one).backward()
    assert logit.grad.abs().item() < 1e-6


def test_listwise_is_the_formula():
    logits, labels = [0.5, -1.0, 2.0], [1.0, 0.0, 0.6]
    log_top = [z - math.log(sum(math.exp(other) for other in logits)) for z in logits]
    expected = -(1.0 * log_top[0] + 0.6 * log_top[2]) / 1.6
    assert loss_of("listwise", logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_listwise_averages_over_queries_not_pairs():
    first = loss_of("listwise", [0.5, -1.0, 2.0, 1.0, 0.0], [1.0, 0, 0, 0, 0]).item()
    second = loss_of("listwise", [0.3, 0.2], [0.0, 1.0]).item()
    both = loss_of("listwise", [0.3, 0.5, -1.0, 2.0, 0.2, 1.0, 0.0], [0, 1, 0, 0, 1, 0, 0], [7, 2, 2, 2, 7, 2, 2])
    assert both.item() == pytest.approx((first + second) / 2, rel=1e-5)


@pytest.mark.parametrize("labels", [[0.0, 0.0, 0.0], [0.0, 0.4, 0.1], [1.0, 1.0, 0.7]])
def test_lists_without_an_order_are_taught_pair_by_pair(labels):
    logits = [0.5, -1.0, 2.0]
    expected = np.mean([bce(z, y) for z, y in zip(logits, labels, strict=True)])
    assert loss_of("listwise", logits, labels).item() == pytest.approx(expected, rel=1e-5)


def test_a_list_weighs_the_mean_weight_of_its_pairs():
    plain = loss_of("listwise", [0.5, -1.0], [1.0, 0.0]).item()
    assert loss_of("listwise", [0.5, -1.0], [1.0, 0.0], weights=[3.0, 1.0]).item() == pytest.approx(2 * plain)


def test_listwise_smoothing_spreads_the_target():
    log_top = torch.tensor([0.5, -1.0]).log_softmax(0).tolist()
    found = loss_of("listwise", [0.5, -1.0], [1.0, 0.0], smoothing=0.2).item()
    assert found == pytest.approx(-0.9 * log_top[0] - 0.1 * log_top[1], rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_order_of_pairs_and_names_of_queries_do_not_matter(name, batch, seed):
    logits, labels, queries, weights = (list(column) for column in zip(*batch, strict=True))
    expected = loss_of(name, logits, labels, queries, weights).item()
    order = np.random.default_rng(seed).permutation(len(batch))
    moved = [[column[i] for i in order] for column in (logits, labels, [17 - 5 * q for q in queries], weights)]
    assert loss_of(name, *moved).item() == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", NAMES)
@given(batch=batches)
@settings(max_examples=40, deadline=None)
def test_loss_and_gradient_are_finite_and_not_negative(name, batch):
    logits, labels, queries, weights = (list(column) for column in zip(*batch, strict=True))
    z = torch.tensor(logits, requires_grad=True)
    loss = build_loss(TrainingSettings(loss=name), positive_weight=2.0)(
        z, torch.tensor(labels), torch.tensor(queries), torch.tensor(weights)
    )
    loss.backward()
    assert loss.item() >= 0
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("name", NAMES)
def test_extreme_and_bfloat16_logits_stay_finite(name):
    z = torch.tensor([300.0, -300.0, 300.0], dtype=torch.bfloat16, requires_grad=True)
    labels, queries = torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0, 0, 1])
    loss = build_loss(TrainingSettings(loss=name), positive_weight=1.0)(z, labels, queries, torch.ones(3))
    loss.backward()
    assert loss.dtype == torch.float32
    assert torch.isfinite(loss)
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("name_of_case", ["labels", "nan", "weights", "shape", "empty", "two dimensions"])
def test_requirements_are_enforced(name, name_of_case):
    case = {
        "labels": ([0.0], [1.2]),
        "nan": ([0.0], [math.nan]),
        "weights": ([0.0], [1.0], [0], [-1.0]),
        "shape": ([0.0], [1.0, 0.0]),
        "empty": ([], []),
        "two dimensions": ([[0.0]], [[1.0]], [[0]], [[1.0]]),
    }[name_of_case]
    with pytest.raises(InvalidInput):
        loss_of(name, *case)


@pytest.mark.parametrize("positive_weight", [0.0, -1.0, math.nan, math.inf])
def test_positive_weight_must_be_positive(positive_weight):
    with pytest.raises(InvalidInput, match="positive_weight"):
        build_loss(TrainingSettings(), positive_weight=positive_weight)
