"""From measures to a logit: a linear part that carries over to new collections, and a small network beside it."""

import torch
from torch import Tensor, nn

CLIP = 4.0  # standard deviations; a measure far outside what training showed says no more than its edge


class EvidenceHead(nn.Module):
    """logit = linear(x) + network(x) + bias, x the standardised and clipped measures.

    Args:
        n_measures: columns of the input.
        hidden: width of the network's two layers.
        dropout: between its layers.
        seed: of the weights.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, n_measures: int, hidden: int, *, dropout: float, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
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
        logits: Tensor = (self.linear(x) + self.network(x)).squeeze(-1)
        mean_bias = self.source_bias.mean()
        if sources is None:
            return logits + mean_bias
        known = (sources >= 0).to(logits.dtype)
        return logits + self.source_bias[sources.clamp_min(0)] * known + mean_bias * (1 - known)
