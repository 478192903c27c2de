"""The losses that the paper's rows add, held to their formulas."""

import pytest
import torch

from relgrade.errors import InvalidSettings
from relgrade.settings import TrainingSettings
from relgrade.student.losses import build_loss


def loss_of(name, logits, labels, *, positive_weight=1.0, smoothing=0.0):
    loss = build_loss(TrainingSettings(loss=name, label_smoothing=smoothing), positive_weight=positive_weight)
    z = torch.tensor(logits, requires_grad=True)
    value = loss(z, torch.tensor(labels), torch.zeros(len(logits), dtype=torch.int64), torch.ones(len(logits)))
    (gradient,) = torch.autograd.grad(value, z)
    return value.item(), gradient


def test_focal_is_the_formula():
    logits, labels = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([1.0, 0.0, 1.0])
    p = torch.where(labels == 1, logits.sigmoid(), 1 - logits.sigmoid())  # of the right class
    expected = (-((1 - p) ** 2) * p.log()).mean().item()
    assert loss_of("focal", logits.tolist(), labels.tolist())[0] == pytest.approx(expected, rel=1e-5)


def test_focal_is_least_at_a_soft_label():
    losses = [loss_of("focal", [z], [0.7])[0] for z in (-1.0, torch.tensor(0.7).logit().item(), 2.0)]
    assert losses[1] == min(losses)


def test_contrastive_is_the_formula():
    value, _ = loss_of("contrastive", [0.5, -1.0, 2.0, 0.1], [1.0, 0.0, 0.0, 1.0])
    z = torch.tensor([0.5, -1.0, 2.0, 0.1])
    expected = torch.log(1 + z[1].exp() + z[2].exp()) + torch.log(1 + (-z[0]).exp() + (-z[3]).exp())
    assert value == pytest.approx(expected.item(), rel=1e-5)


def test_contrastive_looks_at_the_hardest_pairs_of_the_batch():
    _, gradient = loss_of("contrastive", [-2.0, 3.0, 3.0, -3.0], [1.0, 1.0, 0.0, 0.0])
    assert gradient[0] < gradient[1] < 0  # the relevant pair that is ranked low is pushed up harder
    assert gradient[2] > gradient[3] > 0


@pytest.mark.parametrize("labels", [[1.0, 1.0], [0.0, 0.0]])
def test_contrastive_of_one_kind_alone_is_finite(labels):
    value, gradient = loss_of("contrastive", [400.0, -400.0], labels)
    assert torch.isfinite(torch.tensor(value))
    assert torch.isfinite(gradient).all()


def test_contrastive_refuses_smoothed_labels():
    with pytest.raises(InvalidSettings, match="no soft targets"):
        loss_of("contrastive", [0.0], [1.0], smoothing=0.1)
