"""What training minimises: name -> a loss over the logits of one batch. Knows nothing of models or data files.

Every loss has one signature, `loss(logits, labels, query_index, weights) -> scalar`, and computes in float32.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from relgrade.errors import InvalidInput, InvalidSettings
from relgrade.settings import TrainingSettings

Loss = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]

FOCAL_GAMMA = 2.0  # the value its authors found best, their table 1b
RELEVANT = 0.5  # a soft label from here on makes its document one of a list's positives


def build_loss(settings: TrainingSettings, *, positive_weight: float) -> Loss:
    """The loss that the settings name.

    Args:
        settings: `loss` and `label_smoothing` are read.
        positive_weight: weight of the positive side of binary cross-entropy, > 0; 1 changes nothing.

    Returns:
        `loss(logits, labels, query_index, weights)`: four tensors of shape (n_pairs,) on one device, to a scalar.

    Raises:
        InvalidSettings: no loss of this name.
        InvalidInput: `positive_weight` is not a finite number > 0.
    """
    if not (math.isfinite(positive_weight) and positive_weight > 0):
        raise InvalidInput(f"positive_weight must be a finite number > 0, got {positive_weight!r}")
    if settings.loss not in LOSSES:
        raise InvalidSettings(f"training.loss must be one of {', '.join(sorted(LOSSES))}, got {settings.loss!r}")
    return LOSSES[settings.loss](positive_weight, settings.label_smoothing)


class BinaryCrossEntropy:
    """Each pair on its own: cross-entropy between label and sigmoid(logit), averaged over the pairs.

    l = -(p y log s(z) + (1 - y) log(1 - s(z))) with y the smoothed label and p the positive weight. A soft label is
    a teacher's P(relevant); with p = 1 the loss is least where s(z) = y, so the student learns the teacher's belief.

    Inputs: logits, labels, weights, each of shape (n_pairs,); query_index is not looked at.
    Requirements: labels in [0, 1]; weights >= 0; at least one pair.
    Raises: InvalidInput when a requirement is not met.

    Args:
        positive_weight: p, > 0.
        label_smoothing: share s of every label replaced by one half, y (1 - s) + s / 2, in [0, 1].
    """

    def __init__(self, positive_weight: float, label_smoothing: float) -> None:
        self._positive_weight = positive_weight
        self._label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor, query_index: Tensor, weights: Tensor) -> Tensor:
        """Mean over the pairs of weight * loss; a weight of zero leaves the pair in the count."""
        _check(logits, labels, query_index, weights)
        return (self.of_pairs(logits, labels) * weights.float()).mean()

    def of_pairs(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Loss of each pair before its weight, shape (n_pairs,)."""
        weight = torch.tensor(self._positive_weight, device=logits.device)
        return functional.binary_cross_entropy_with_logits(
            logits.float(), self._targets(labels), pos_weight=weight, reduction="none"
        )

    def best_constant(self, labels: Tensor, weights: Tensor) -> float:
        """The logit at which the loss is least when all pairs have it; infinite where all labels are 0, or all 1."""
        targets = self._targets(labels)
        relevant, other = (
            (share * weights.float()).sum() for share in (targets * self._positive_weight, 1.0 - targets)
        )
        return float(relevant.log() - other.log())

    def _targets(self, labels: Tensor) -> Tensor:
        return labels.float() * (1.0 - self._label_smoothing) + self._label_smoothing / 2


class Listwise:
    """A query's documents against each other: softmax cross-entropy with the labels, normalised to sum to one.

    Source: Cao et al., "Learning to Rank: From Pairwise Approach to Listwise Approach", ICML 2007, top-one
    probabilities of ListNet, eq. 4 and section 5; the target is y_i / sum y instead of their softmax of the labels,
    which with labels in [0, 1] would be almost flat.

    Only lists with both sides, a label >= 0.5 and one below, have an order to learn. The others (no positive: an
    unanswerable query; positives alone; a single document) are taught by binary cross-entropy, averaged over the
    list, or they would teach nothing. The softmax sees differences alone, so these lists are also what ties a logit
    to "relevant": without them only calibration does.

    Inputs: logits, labels, query_index, weights, each of shape (n_pairs,). Pairs with one index are one list.
    Requirements: a query's documents in one batch, since what the batch holds is taken for the list; labels in
        [0, 1]; weights >= 0; at least one pair.
    Raises: InvalidInput when a requirement other than the first, which cannot be seen here, is not met.

    Args:
        positive_weight: used in the lists that binary cross-entropy teaches, > 0.
        label_smoothing: share of a list's target spread evenly over its documents, in [0, 1].
    """

    def __init__(self, positive_weight: float, label_smoothing: float) -> None:
        self._pairwise = BinaryCrossEntropy(positive_weight, label_smoothing)
        self._label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor, query_index: Tensor, weights: Tensor) -> Tensor:
        """Mean over the lists; a list weighs the mean weight of its pairs."""
        _check(logits, labels, query_index, weights)
        lists = torch.unique(query_index)
        member = query_index[None, :] == lists[:, None]  # (n_lists, n_pairs)
        size = member.sum(dim=1)  # (n_lists,)
        labels = labels.float()
        n_positive = (member & (labels >= RELEVANT)).sum(dim=1)  # (n_lists,)
        is_ranked = (n_positive > 0) & (n_positive < size)  # (n_lists,)

        share = torch.where(member, labels, 0.0)  # (n_lists, n_pairs)
        share = share / share.sum(dim=1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
        uniform = member / size[:, None]
        target = (1.0 - self._label_smoothing) * share + self._label_smoothing * uniform
        log_top = logits.float()[None, :].masked_fill(~member, -math.inf).log_softmax(dim=1)  # log P(ranked first)
        ranked = -(target * log_top.masked_fill(~member, 0.0)).sum(dim=1)  # (n_lists,)

        pairwise = (member * self._pairwise.of_pairs(logits, labels)).sum(dim=1) / size  # (n_lists,)
        weight = (member * weights.float()).sum(dim=1) / size  # (n_lists,)
        loss: Tensor = (weight * torch.where(is_ranked, ranked, pairwise)).mean()
        return loss


class Focal:
    """Binary cross-entropy that looks away from pairs it has right: l = |y - s(z)|^2 * cross-entropy(z, y).

    Source: Lin et al. 2017, "Focal Loss for Dense Object Detection", eq. 4 with gamma = 2, written for soft labels as
    in Li et al. 2020, "Generalized Focal Loss", eq. 5 (there beta). It pulls probabilities towards one half.

    Inputs, Requirements, Raises: as `BinaryCrossEntropy`.
    """

    def __init__(self, positive_weight: float, label_smoothing: float) -> None:
        self._pairwise = BinaryCrossEntropy(positive_weight, label_smoothing)
        self._label_smoothing = label_smoothing

    def __call__(self, logits: Tensor, labels: Tensor, query_index: Tensor, weights: Tensor) -> Tensor:
        """Mean over the pairs."""
        _check(logits, labels, query_index, weights)
        targets = labels.float() * (1.0 - self._label_smoothing) + self._label_smoothing / 2
        distance = (targets - logits.float().sigmoid()).abs() ** FOCAL_GAMMA
        return (distance * self._pairwise.of_pairs(logits, labels) * weights.float()).mean()


class Contrastive:
    """Every relevant pair of a batch against every irrelevant one, and both against a logit of zero.

    l = log(1 + sum_neg e^z) + log(1 + sum_pos e^-z) = log of (1 + sum_neg e^z_i)(1 + sum_pos e^-z_j), whose product
    holds e^(z_i - z_j) for each pair of an irrelevant i and a relevant j: a softmax contrast. The ones are the anchor
    at zero, without which only differences would be learnt and an argmax would mean nothing.
    Source: Sun et al. 2020, "Circle Loss", eq. 5 (the softmax form for many positives and negatives), with s = 1,
    m = 0 and an anchor at zero as Su et al. 2022, "ZLPR", eq. 7.

    Inputs, Requirements, Raises: as `BinaryCrossEntropy`; a label >= 0.5 is a positive, and `positive_weight` weighs
    the second term. What stands in the batch decides the contrast, so a batch wants pairs of both kinds.
    """

    def __init__(self, positive_weight: float, label_smoothing: float) -> None:
        if label_smoothing:
            raise InvalidSettings("the contrastive loss has no soft targets: set training.label_smoothing to 0")
        self._positive_weight = positive_weight

    def __call__(self, logits: Tensor, labels: Tensor, query_index: Tensor, weights: Tensor) -> Tensor:
        """One number for the batch; a weight of zero takes the pair out, others count in the sums."""
        _check(logits, labels, query_index, weights)
        scores, log_weights = logits.float(), weights.float().log()
        is_positive = labels >= RELEVANT
        anchor = scores.new_zeros(1)
        against = torch.logsumexp(torch.cat([anchor, (scores + log_weights)[~is_positive]]), dim=0)
        in_favour = torch.logsumexp(torch.cat([anchor, (log_weights - scores)[is_positive]]), dim=0)
        return against + self._positive_weight * in_favour


LOSSES: dict[str, Callable[[float, float], Loss]] = {
    "binary-cross-entropy": BinaryCrossEntropy,
    "listwise": Listwise,
    "focal": Focal,
    "contrastive": Contrastive,
}


def _check(logits: Tensor, labels: Tensor, query_index: Tensor, weights: Tensor) -> None:
    shapes = [tuple(tensor.shape) for tensor in (logits, labels, query_index, weights)]
    if len(shapes[0]) != 1 or len(set(shapes)) != 1 or shapes[0] == (0,):
        raise InvalidInput(
            f"a loss takes logits, labels, query_index and weights of one shape (n_pairs,), n_pairs >= 1; got {shapes}"
        )
    if not bool(((labels >= 0) & (labels <= 1)).all()):  # NaN fails both
        raise InvalidInput("labels must lie in [0, 1]")
    if not bool(((weights >= 0) & torch.isfinite(weights)).all()):
        raise InvalidInput("weights must be finite and >= 0")
