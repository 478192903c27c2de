"""A model in shards over the processes of `torchrun`: each holds its share of weights, gradients and optimiser.

Zhao et al. 2023, "PyTorch FSDP", in its second form, `fully_shard`. What is sharded is a copy: the student stays whole,
in the memory of the machine, and takes the weights of the copy whenever they are written, so that checkpoints and the
result are those of any other training.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from transformers import TrainingArguments

from relgrade.errors import TrainingError
from relgrade.student.student import Student
from relgrade.student.trainer import WEIGHTS_NAME, PairTrainer

OPTIMISER_NAME, SCHEDULE_NAME = "optimizer.pt", "scheduler.pt"  # as transformers names them

# Written and read by the first process alone, whole, in the memory of the machine.
_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, broadcast_from_rank0=True)


def check_sharding(student: Student) -> None:
    """Whether a student can be shared among the processes there are.

    Raises:
        TrainingError: there is one process, or the student has no layers to cut at.
    """
    if int(os.environ.get("WORLD_SIZE") or "1") == 1:
        raise TrainingError(
            "training.sharded shares a model among processes, and there is one: start with torchrun "
            "--nproc-per-node N -m relgrade, or set training.sharded to false"
        )
    if student.architecture == "interaction" or not _layers(student):
        raise TrainingError(
            "training.sharded cuts a cross-encoder at its transformer layers; "
            f"this is {'an interaction student' if student.architecture == 'interaction' else 'a model without them'}. "
            "Set training.sharded to false"
        )


class ShardedTrainer(PairTrainer):
    """A PairTrainer whose model is shared among the processes; after `restore` the student is whole, in each of them.

    Args:
        student: stays as it is until `save_model` or `restore`.
        arguments: as `training.fit` makes them.
        named: as of `PairTrainer`.
    """

    def __init__(self, student: Student, arguments: TrainingArguments, **named: Any) -> None:
        self._student = student
        sharded = copy.deepcopy(student)
        mesh = init_device_mesh(arguments.device.type, (arguments.world_size,))
        for layer in _layers(sharded):
            fully_shard(layer, mesh=mesh)  # and moved to the device, one by one: the whole need not fit there
        fully_shard(sharded, mesh=mesh)  # what no layer holds: embeddings, the last norm, the head
        super().__init__(sharded, arguments, **named)

    def compute_loss(self, *arguments: Any, **named: Any) -> Any:
        """As of `PairTrainer`, in the precision that `Accelerator.prepare` would have set."""
        with self.accelerator.autocast():
            return super().compute_loss(*arguments, **named)

    def evaluate(self, *arguments: Any, **named: Any) -> dict[str, float]:
        """As of `PairTrainer`, in that precision."""
        with self.accelerator.autocast():
            return super().evaluate(*arguments, **named)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Every process gives its share of the weights; the first one writes them."""
        weights = get_model_state_dict(self.model, options=_WHOLE)
        if self.args.should_save:
            self._student.load_state_dict(weights)
            self.write(self._student, output_dir)

    def restore(self, step: int) -> None:
        """Put the weights of a checkpoint into the student, on the device of this process."""
        self.read(self._student, step)
        self._student.to(self.args.device)

    def _wrap_model(self, model: nn.Module, *_: Any, **__: Any) -> nn.Module:
        return _Sharded(self.model)

    def _move_model_to_device(self, model: nn.Module, device: torch.device) -> None:
        pass  # it was put there before it was sharded

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        weights: dict[str, Any] = dict(load_file(Path(resume_from_checkpoint) / WEIGHTS_NAME))
        set_model_state_dict(self.model, weights, options=_WHOLE)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        states = get_optimizer_state_dict(self.model, self._bare_optimizer(), options=_WHOLE)
        if self.args.should_save:
            torch.save(states, Path(output_dir) / OPTIMISER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULE_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        states = torch.load(Path(checkpoint) / OPTIMISER_NAME, map_location="cpu", weights_only=True)
        set_optimizer_state_dict(self.model, self._bare_optimizer(), states, options=_WHOLE)
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULE_NAME, weights_only=True))

    def _bare_optimizer(self) -> Any:
        return getattr(self.optimizer, "optimizer", self.optimizer)  # without accelerate's wrapper


class _Sharded(nn.Module):
    """What the Trainer takes for a model that others have wrapped, and leaves alone."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, **inputs: Tensor) -> Tensor:
        logits: Tensor = self.module(**inputs)
        return logits

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Gradients of these passes are passed on with those of the step's last one."""
        if not isinstance(self.module, FSDPModule):
            raise TypeError(f"a sharded model was expected, got {type(self.module).__name__}")
        self.module.set_requires_gradient_sync(False)
        try:
            yield
        finally:
            self.module.set_requires_gradient_sync(True)


def _layers(student: Student) -> list[nn.Module]:
    """The layers at which transformers says that a model may be cut."""
    names = {name for module in student.modules() for name in getattr(module, "_no_split_modules", None) or ()}
    return [module for module in student.modules() if type(module).__name__ in names]
