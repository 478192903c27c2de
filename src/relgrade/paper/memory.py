"""How much memory training takes: an estimate before it starts, and the peak that was reached.

Weights, gradients and AdamW are counted; what a forward pass keeps for the backward pass is measured on sequences of a
few tokens and extended to the batch. It is meant to refuse what cannot work, not to plan to the last gigabyte.
"""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from relgrade.errors import TrainingError
from relgrade.pipeline.processes import n_processes
from relgrade.settings import TrainingSettings
from relgrade.student.student import Student

MB = 2**20
PROBES = (16, 32, 64)  # tokens; three points fix what is constant, what grows with the length, and with its square
# What allocators hold beside what is asked of them. On CPUs the heap keeps holes, as batches are of all lengths: rows
# of docs/paper.md peaked at 1.4 to 1.5 times the rest, at 1.9 with adapters. On GPUs nothing was measured yet.
CPU_MARGIN, GPU_MARGIN = 1.5, 1.15
_CLEAR_REFS = Path("/proc/self/clear_refs")  # Linux: writing 5 forgets the peak so far
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """Of one training process, in megabytes (2 ** 20 bytes)."""

    weights_mb: float  # float32
    training_mb: float  # gradients and the two moments of AdamW, of what is trained
    activations_mb: float  # what a forward pass keeps, and two layers' worth of gradients of it
    step_mb: float = 0.0  # what an optimiser step or a checkpoint holds for a moment
    margin: float = CPU_MARGIN  # of the whole, >= 1

    @property
    def total_mb(self) -> float:
        """All of it, with a margin."""
        return self.margin * (self.weights_mb + self.training_mb + self.activations_mb + self.step_mb)

    def __str__(self) -> str:
        return (
            f"about {self.total_mb:,.0f} MB: weights {self.weights_mb:,.0f}, gradients and optimiser "
            f"{self.training_mb:,.0f}, activations {self.activations_mb:,.0f}, a step {self.step_mb:,.0f}, and "
            f"{self.margin - 1:.0%} beside"
        )


@dataclass(slots=True)
class Peak:
    """The highest memory of a stretch of work."""

    mb: float = field(default=0.0)  # resident memory of the process, or memory of the GPU where there is one
    of: str = field(default="process")  # "process", "process since its start", or "gpu"


def estimate_memory(student: Student, training: TrainingSettings) -> MemoryEstimate:
    """What training a student takes; of a sharded one, the share of a process.

    Args:
        student: on the CPU; three short forward passes are made with it.
        training: `batch_tokens`, `batch_pairs`, `bf16` and `sharded` are read.
    """
    weights = list(student.parameters())
    n_weights = sum(weight.numel() for weight in weights)
    trained = [weight.numel() for weight in weights if weight.requires_grad]
    width = int(student.settings.max_tokens)  # type: ignore[union-attr, arg-type]
    n_tokens = min(training.batch_tokens, training.batch_pairs * width)
    n_shards = n_processes() if training.sharded else 1
    # AdamW of a GPU works on all weights at once, that of a CPU on one after another; there, checkpoints are copies.
    step = sum(trained) if torch.cuda.is_available() else n_weights + 2 * max(trained, default=0)
    return MemoryEstimate(
        weights_mb=4.0 * n_weights / n_shards / MB,
        training_mb=12.0 * sum(trained) / n_shards / MB,
        activations_mb=_activations(student, training, width=width, n_tokens=n_tokens) / MB,
        step_mb=4.0 * step / n_shards / MB,
        margin=GPU_MARGIN if torch.cuda.is_available() else CPU_MARGIN,
    )


def _activations(student: Student, training: TrainingSettings, *, width: int, n_tokens: int) -> float:
    """Bytes of a batch of `n_tokens` in sequences of `width`, extended from what short sequences keep."""
    config = student.backbone.config.get_text_config()  # type: ignore[union-attr, operator]
    n_layers, hidden = int(config.num_hidden_layers), int(config.hidden_size)
    has_bf16 = training.bf16 == "on" or (training.bf16 == "auto" and torch.cuda.is_available())
    sizes = [min(size, width) for size in PROBES]
    kept = [_kept_bytes(student, size, has_bf16=has_bf16) for size in sizes]
    if len(set(sizes)) == len(PROBES):
        slopes = [(kept[i + 1] - kept[i]) / (sizes[i + 1] - sizes[i]) for i in (0, 1)]
        square = (slopes[1] - slopes[0]) / (sizes[2] - sizes[0])
        linear = slopes[0] - square * (sizes[0] + sizes[1])
        constant = kept[0] - linear * sizes[0] - square * sizes[0] ** 2
    else:  # a model of so few tokens
        constant, linear, square = 0.0, kept[-1] / sizes[-1], 0.0
    of_batch = (linear + square * width) * n_tokens
    if student.settings.gradient_checkpointing:  # type: ignore[union-attr]
        inputs = 4.0 * n_layers * n_tokens * hidden  # of the layers; the rest is made again, one by one
        return constant + inputs + 3.0 * of_batch / n_layers
    return constant + of_batch * (1.0 + 2.0 / n_layers)


def _kept_bytes(student: Student, n_tokens: int, *, has_bf16: bool) -> int:
    """What a forward pass over one sequence keeps for the backward pass, weights and buffers left out."""
    own = {tensor.untyped_storage().data_ptr() for tensor in [*student.parameters(), *student.buffers()]}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if (place := tensor.untyped_storage().data_ptr()) not in own:
            kept[place] = tensor
        return tensor

    ids = torch.zeros((1, n_tokens), dtype=torch.int64)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if student.template.has_type_ids:  # type: ignore[union-attr]
        inputs["token_type_ids"] = ids
    was_training = student.training
    remade = [module for module in student.modules() if getattr(module, "gradient_checkpointing", False)]
    for module in remade:
        module.gradient_checkpointing = False  # type: ignore[assignment]
    student.train()
    with (
        torch.random.fork_rng(devices=[]),  # of dropout
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=has_bf16),
    ):
        logits = student(**inputs)
    student.auxiliary_loss()  # handed out once: the probe's graph does not stay
    student.train(was_training)
    for module in remade:
        module.gradient_checkpointing = True  # type: ignore[assignment]
    n_bytes = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del logits
    return n_bytes


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
