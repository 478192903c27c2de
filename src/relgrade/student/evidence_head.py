"""From measures to a logit: standardised, clipped, and judged by a network that keeps directions, or a free one."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

FREE_SHARE = 1 / 6  # of the logit of a blend
CLIP = 4.0  # standard deviations; a measure far outside what training showed says no more than its edge


class FreeNetwork(nn.Module):
    """A linear part and a network of two hidden layers beside it; learns whatever the training pairs show.

    Args:
        n_measures: columns of the input.
        hidden: width of both layers.
        dropout: between them.
    """

    def __init__(self, n_measures: int, hidden: int, *, dropout: float) -> None:
        super().__init__()
        self.linear = nn.Linear(n_measures, 1)
        self.network = nn.Sequential(
            nn.Linear(n_measures, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )
        nn.init.zeros_(self.linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (n_pairs,), of standardised measures, shape (n_pairs, n_measures)."""
        logits: Tensor = (self.linear(x) + self.network(x)).squeeze(-1)
        return logits


class MonotoneNetwork(nn.Module):
    """A network whose logit never falls when the evidence rises: more overlap can only speak for a document.

    What a collection teaches against that is how its negatives were picked, and does not hold on the next one. Weights
    on the way of a directed measure are softplus(w) > 0; half of each layer bends up and half down, so that convex and
    concave shapes are both there. Measures without a direction (lengths, say) act freely, added before the first layer
    and to the logit. Source: Runje and Shankaranarayana 2023, "Constrained Monotonic Neural Networks",
    arXiv:2205.11775, section 3; ELU for their activation.

    Args:
        directions: of each measure: 1 rises, -1 falls, 0 has none.
        hidden: width of both layers, even.
    """

    sign: Tensor
    directed: Tensor
    free: Tensor

    def __init__(self, directions: Sequence[int], hidden: int) -> None:
        super().__init__()
        self.register_buffer("sign", torch.tensor([float(each) for each in directions if each]))
        self.register_buffer("directed", torch.tensor([i for i, each in enumerate(directions) if each]))
        self.register_buffer(
            "free", torch.tensor([i for i, each in enumerate(directions) if not each], dtype=torch.long)
        )
        n_directed, n_free = len(self.directed), len(self.free)
        self.linear = nn.Parameter(torch.full((n_directed,), -3.0))
        self.first = nn.Parameter(torch.randn(n_directed, hidden) * 0.5 - 3.0)
        self.first_bias = nn.Parameter(torch.zeros(hidden))
        self.second = nn.Parameter(torch.randn(hidden, hidden) * 0.5 - 3.0)
        self.second_bias = nn.Parameter(torch.zeros(hidden))
        self.last = nn.Parameter(torch.randn(hidden) * 0.5 - 2.0)
        self.bias = nn.Parameter(torch.zeros(()))
        self.free_first = nn.Parameter(torch.randn(n_free, hidden) * 0.1)
        self.free_linear = nn.Parameter(torch.zeros(n_free))

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (n_pairs,), of standardised measures, shape (n_pairs, n_measures)."""
        evidence, free = x[:, self.directed] * self.sign, x[:, self.free]
        layer = _bend(evidence @ functional.softplus(self.first) + self.first_bias + free @ self.free_first)
        layer = _bend(layer @ functional.softplus(self.second) + self.second_bias)
        directed = evidence @ functional.softplus(self.linear) + layer @ functional.softplus(self.last)
        return directed + free @ self.free_linear + self.bias


def _bend(layer: Tensor) -> Tensor:
    """A rising function of each unit: convex for the first half of them, concave for the rest."""
    half = layer.shape[1] // 2
    return torch.cat([functional.elu(layer[:, :half]), -functional.elu(-layer[:, half:])], dim=1)


class Blend(nn.Module):
    """Mostly what a monotone network says, and a little of what a free one does.

    The free network is better on collections it was trained on and far worse on others; a small share of it brings most
    of the first at little of the second (docs/log.md). Each learns alone: in training every pair is judged by one of
    them, drawn at random, since together the free one would take over.

    Args:
        monotone: weighs 1 - FREE_SHARE.
        free: weighs FREE_SHARE.
    """

    def __init__(self, monotone: MonotoneNetwork, free: FreeNetwork) -> None:
        super().__init__()
        self.monotone = monotone
        self.free = free

    def forward(self, x: Tensor) -> Tensor:
        """Logits, shape (n_pairs,), of standardised measures, shape (n_pairs, n_measures)."""
        monotone, free = self.monotone(x), self.free(x)
        share = (torch.rand_like(free) < 0.5).to(free.dtype) if self.training else FREE_SHARE
        logits: Tensor = monotone * (1 - share) + free * share
        return logits


def build_network(
    kind: str, directions: Sequence[int], *, hidden: int, dropout: float
) -> MonotoneNetwork | FreeNetwork | Blend:
    """The network that `student.head` names: "monotone", "free" or "blend"."""
    if kind == "monotone":
        return MonotoneNetwork(directions, hidden)
    free = FreeNetwork(len(directions), hidden, dropout=dropout)
    return free if kind == "free" else Blend(MonotoneNetwork(directions, hidden), free)


class EvidenceHead(nn.Module):
    """logit = network(x) + bias of the source, x the standardised and clipped measures.

    Args:
        directions: of each measure: 1 rises, -1 falls, 0 has none.
        hidden: width of the network's two layers, even.
        dropout: between the layers of a free network.
        seed: of the weights.
        kind: see `build_network`.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self, directions: Sequence[int], hidden: int, *, dropout: float, seed: int, kind: str = "blend"
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            self.network = build_network(kind, directions, hidden=hidden, dropout=dropout)
        n_measures = len(directions)
        self.source_bias = nn.Parameter(torch.zeros(1))
        self.register_buffer("mean", torch.zeros(n_measures))
        self.register_buffer("deviation", torch.ones(n_measures))

    def set_scale(self, measures: Tensor) -> None:
        """Fix mean and deviation from measures of training pairs, shape (n_pairs, n_measures)."""
        values = measures.double()
        self.mean.copy_(values.mean(0))
        self.deviation.copy_(values.std(0, correction=0).clamp_min(1e-3))

    def set_sources(self, n_sources: int) -> None:
        """One bias per source, all zero."""
        self.source_bias = nn.Parameter(torch.zeros(max(1, n_sources)))

    def forward(self, measures: Tensor, sources: Tensor | None = None) -> Tensor:
        """Logits, shape (n_pairs,).

        Args:
            measures: shape (n_pairs, n_measures).
            sources: index of each pair's source in training, -1 for none; None outside training, where the mean of
                the biases stands for all.
        """
        x = ((measures - self.mean) / self.deviation).clamp(-CLIP, CLIP)
        logits: Tensor = self.network(x)
        mean_bias = self.source_bias.mean()
        if sources is None:
            return logits + mean_bias
        known = (sources >= 0).to(logits.dtype)
        return logits + self.source_bias[sources.clamp_min(0)] * known + mean_bias * (1 - known)
