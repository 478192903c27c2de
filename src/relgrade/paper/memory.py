"""How much memory training takes: an estimate before it starts, and the peak that was reached.

The estimate is rough (activations within a factor of two) and meant to refuse what cannot work, not to plan to the
last gigabyte.
"""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from relgrade.errors import TrainingError
from relgrade.pipeline.processes import n_processes
from relgrade.settings import TrainingSettings
from relgrade.student.student import Student

MB = 2**20
_CLEAR_REFS = Path("/proc/self/clear_refs")  # Linux: writing 5 forgets the peak so far
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Of one training process, in megabytes (2 ** 20 bytes)."""

    weights_mb: float  # float32
    training_mb: float  # gradients and the two moments of AdamW, of what is trained
    activations_mb: float  # of one forward pass

    @property
    def total_mb(self) -> float:
        """All of it."""
        return self.weights_mb + self.training_mb + self.activations_mb

    def __str__(self) -> str:
        return (
            f"about {self.total_mb:,.0f} MB: weights {self.weights_mb:,.0f}, gradients and optimiser "
            f"{self.training_mb:,.0f}, activations {self.activations_mb:,.0f}"
        )


@dataclass(slots=True)
class Peak:
    """The highest memory of a stretch of work."""

    mb: float = field(default=0.0)  # resident memory of the process, or memory of the GPU where there is one
    of: str = field(default="process")  # "process", "process since its start", or "gpu"


def estimate_memory(student: Student, training: TrainingSettings) -> MemoryEstimate:
    """What training a student takes.

    Activations: 34 bytes a token, layer and hidden unit in 16 bits, twice that in 32, and 5 bytes (10) for each
    attention score (Korthikanti et al. 2022, "Reducing Activation Recomputation in Large Transformer Models", section
    4.1); with gradient checkpointing, the inputs of the layers and one layer's own. Of a sharded model, the share of a
    process.
    """
    weights = list(student.parameters())
    n_weights = sum(weight.numel() for weight in weights)
    n_trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    config = student.backbone.config.get_text_config()  # type: ignore[union-attr, operator]
    layers, hidden = config.num_hidden_layers, config.hidden_size
    settings = student.settings
    width = settings.max_tokens  # type: ignore[union-attr]
    tokens = min(training.batch_tokens, training.batch_pairs * int(width))  # type: ignore[arg-type]
    per_layer = tokens * (68.0 * hidden + 10.0 * config.num_attention_heads * int(width))  # type: ignore[arg-type]
    if n_trained < 0.01 * n_weights and not _is_deep(student):
        activations = 2.0 * per_layer  # nothing is kept for a backward pass through frozen layers
    elif settings.gradient_checkpointing:  # type: ignore[union-attr]
        activations = per_layer + layers * tokens * hidden * 4.0
    else:
        activations = layers * per_layer
    n_shards = n_processes() if training.sharded else 1
    return MemoryEstimate(4.0 * n_weights / n_shards / MB, 12.0 * n_trained / n_shards / MB, activations / MB)


def require_memory(estimate: MemoryEstimate, *, available_mb: float | None) -> None:
    """Refuse a training that cannot fit.

    Args:
        estimate: of the training.
        available_mb: of `available_memory`; None: not known, nothing is refused.

    Raises:
        TrainingError: says how much is needed, how much there is, and what to change.
    """
    if available_mb is not None and estimate.total_mb > available_mb:
        raise TrainingError(
            f"training takes {estimate}; {available_mb:,.0f} MB are free. Lower training.batch_tokens (and raise "
            "training.accumulation by the same factor), set student.gradient_checkpointing, train adapters (method "
            "lora) or the head alone (method B), take a smaller base, or share the model among GPUs (training.sharded, "
            "torchrun)"
        )


def available_memory() -> float | None:
    """Megabytes that are free where training runs: the GPU's, else the machine's; None: not known here."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0]) / MB
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) / 1024.0
    except (OSError, ValueError, StopIteration):
        return None


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Measure the block: the peak stands in the object when the block ends."""
    peak = Peak()
    is_reset = _forget_peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    try:
        yield peak
    finally:
        if torch.cuda.is_available():
            peak.mb, peak.of = torch.cuda.max_memory_allocated() / MB, "gpu"
        else:
            peak.mb, peak.of = _peak_mb(), "process" if is_reset else "process since its start"


def _is_deep(student: Student) -> bool:
    """Whether something below the head is trained, as adapters are."""
    return bool(student.parameter_groups()["encoder"])


def _forget_peak() -> bool:
    try:
        _CLEAR_REFS.write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _peak_mb() -> float:
    try:
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024.0
    except (OSError, ValueError, StopIteration):
        unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes elsewhere
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MB


def cpu_count() -> int:
    """Threads that torch computes with, for the record of a row."""
    return torch.get_num_threads() if not torch.cuda.is_available() else (os.cpu_count() or 1)
