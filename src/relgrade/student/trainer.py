"""The training loop of transformers, taught pairs: losses over queries, length-bucketed batches, two learning rates.

When to log, validate, save and stop is decided in `callbacks`; where the files lie is `checkpoints`' business.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import Tensor, nn
from torch.optim import AdamW, Optimizer
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer, TrainingArguments

from relgrade.errors import OutputError, TrainingError
from relgrade.records import Pair
from relgrade.settings import TrainingSettings
from relgrade.student.callbacks import Flow, Guard, Keeper, last_good
from relgrade.student.checkpoints import checkpoint_folder
from relgrade.student.constant_answer import ConstantAnswer
from relgrade.student.losses import Loss
from relgrade.student.sampler import LengthBatchSampler
from relgrade.student.student import Student
from relgrade.student.validation import Validation, macro
from relgrade.student.weights import source_weights

WEIGHTS_NAME = "model.safetensors"
LOG_STEPS = 10  # optimiser steps between lines of the journal


class PairTrainer(Trainer):  # type: ignore[misc]  # transformers is untyped to us
    """A Trainer for one student.

    Args:
        student: moved to the device of the arguments, trained in place.
        arguments: as `training.fit` makes them.
        settings: of the optimisation.
        loss: what is minimised.
        train: labelled pairs.
        validation: what is measured at each checkpoint; None: nothing is, and only the number of steps ends training.
        output: folder of the checkpoints.
    """

    model: Student
    optimizer: Optimizer | None
    control: Any

    def __init__(
        self,
        student: Student,
        arguments: TrainingArguments,
        *,
        settings: TrainingSettings,
        loss: Loss,
        train: Sequence[Pair],
        validation: Validation | None,
        output: Path,
    ) -> None:
        self._settings = settings
        self._loss = loss
        self._pairs = train
        self._validation = validation
        self._output = output
        queries = {query_id: i for i, query_id in enumerate(dict.fromkeys(pair.query_id for pair in train))}
        self._query_index = [queries[pair.query_id] for pair in train]
        self._weights = source_weights(train, settings.source_weight_power)
        self._lengths: list[int] = []  # tokens of each training pair
        self._n_tokens = 0  # seen by this process since the last line of the journal
        self._constant = ConstantAnswer(loss, [pair.label or 0.0 for pair in train], self._weights)
        self._clock_s = time.monotonic()
        super().__init__(
            model=student,
            args=arguments,
            # The data set is the numbers of the pairs; `_collate` looks them up.
            train_dataset=cast("Dataset[int]", range(len(train))),
            callbacks=[Flow(settings, validation is not None), Guard(output), Keeper(settings, output)],
        )
        self.remove_callback(PrinterCallback)
        # Makes the Trainer count the pairs of a step over all passes and processes and hand the number to
        # `compute_loss`, so that each pair weighs the same however batches are cut.
        self.model_accepts_loss_kwargs = True

    def get_train_dataloader(self) -> DataLoader[int]:
        """Batches of this process; not `prepare`d, since the sampler already shares them out."""
        if not self._lengths:
            self._lengths = self.model.count_tokens(self._pairs)
        sampler = LengthBatchSampler(
            self._lengths,
            batch_tokens=self._settings.batch_tokens,
            batch_pairs=self._settings.batch_pairs,
            seed=self.args.seed,
            groups=self._query_index if self._settings.loss == "listwise" else None,
            rank=self.args.process_index,
            n_ranks=self.args.world_size,
        )
        # A generator of its own: the loader draws a number at each start, which would shift the dropout of a
        # resumed run.
        return _EpochLoader(
            self.train_dataset, batch_sampler=sampler, collate_fn=self._collate, generator=torch.Generator()
        )

    def _collate(self, numbers: Sequence[int]) -> dict[str, Any]:
        pairs = [self._pairs[i] for i in numbers]
        return {
            **self.model.collate(pairs),
            "labels": torch.tensor([pair.label for pair in pairs], dtype=torch.float32),
            "query_index": torch.tensor([self._query_index[i] for i in numbers]),
            "weights": torch.tensor([self._weights[i] for i in numbers], dtype=torch.float32),
            "n_tokens": sum(self._lengths[i] for i in numbers),
        }

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """The share of this pass in the loss of the step; `num_items_in_batch` pairs make the step."""
        features = dict(inputs)
        labels, query_index, weights = (features.pop(name) for name in ("labels", "query_index", "weights"))
        self._n_tokens += features.pop("n_tokens")
        logits = model(**features)
        loss = self._loss(logits, labels, query_index, weights)
        # Gradients are averaged over the processes, hence their number.
        share = 1.0 if num_items_in_batch is None else len(labels) * self.args.world_size / float(num_items_in_batch)
        self._constant.count(labels, weights, share=share)
        auxiliary = self.model.auxiliary_loss()
        if auxiliary is not None:
            loss = loss + auxiliary
        if not torch.isfinite(loss):
            raise TrainingError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}; {last_good(self._output)}. "
                "A lower training.learning_rate, or bf16 off, usually helps"
            )
        loss = loss * share
        return (loss, logits) if return_outputs else loss

    def create_optimizer(self, model: nn.Module | None = None) -> Optimizer:
        """AdamW with a learning rate for the encoder and one for the head; no decay of biases and norms."""
        if self.optimizer is None:
            rates = {"encoder": self._settings.learning_rate, "head": self._head_rate}
            groups = []
            for name, weights in self.model.parameter_groups().items():
                for is_matrix in (True, False):
                    chosen = [weight for weight in weights if (weight.ndim >= 2) == is_matrix]
                    decay = self._settings.weight_decay if is_matrix else 0.0
                    if chosen:
                        groups.append({"params": chosen, "lr": rates[name], "weight_decay": decay})
            self.optimizer = AdamW(groups)
        return self.optimizer

    @property
    def _head_rate(self) -> float:
        rate = self._settings.head_learning_rate
        return self._settings.learning_rate if rate is None else rate

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Score the validation pairs, shared among the processes; every process comes to the same number."""
        if self._validation is None:
            raise TrainingError("there are no validation pairs to evaluate on")
        pairs = self._validation.pairs
        # As many pairs and as many to a batch in each process, the last pair more than once: parts of a sharded model
        # are passed around as all of them work.
        n_own = math.ceil(len(pairs) / self.args.world_size)
        own = [min(self.args.process_index + k * self.args.world_size, len(pairs) - 1) for k in range(n_own)]
        longest = max(self.model.count_tokens(pairs))
        batch_pairs = max(1, min(self._settings.batch_pairs, self._settings.batch_tokens // longest))
        scored = zip(own, self.model.score([pairs[i] for i in own], batch_pairs=batch_pairs), strict=True)
        logits = dict(gather_object(list(scored)))
        try:
            measured = self._validation.measure([logits[i] for i in range(len(pairs))])
        except TrainingError as error:
            raise TrainingError(f"{error} at step {self.state.global_step}; {last_good(self._output)}") from error
        metrics = {f"eval_{self._validation.metric}": macro(measured)}
        self.log({**metrics, "eval_sources": cast("float", measured)})
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        self._clock_s = time.monotonic()  # validation is no training time
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add what the journal wants to know and the Trainer does not."""
        if "loss" in logs:
            now_s = time.monotonic()
            speed = self._n_tokens * self.args.world_size / max(now_s - self._clock_s, 1e-9)
            self._n_tokens, self._clock_s = 0, now_s
            first = self.create_optimizer().param_groups[0]["initial_lr"]  # the Trainer logs its current value
            share = logs["learning_rate"] / first if first else 0.0
            logs = {
                **logs,
                "learning_rate": self._settings.learning_rate * share,
                "head_learning_rate": self._head_rate * share,
                "tokens_per_s": speed,
                **self._constant.take(),
            }
        super().log(logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the weights, and nothing that is pickled."""
        if self.args.should_save:
            self.write(self.model, output_dir)

    def write(self, model: nn.Module, output_dir: str | None) -> None:
        """Write the weights of a whole model into a folder; None: the one of the run."""
        path = Path(output_dir or self._output) / WEIGHTS_NAME
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            save_model(model, str(path))
        except SafetensorError as error:
            raise OutputError(f"cannot be written: {error}", path=path) from error
        except OSError as error:
            raise OutputError.from_os_error(error, path=path) from error

    def restore(self, step: int) -> None:
        """Put the weights of a checkpoint into the student."""
        self.read(self.model, step)

    def read(self, model: nn.Module, step: int) -> None:
        """Put the weights of a checkpoint into a whole model."""
        load_model(model, str(checkpoint_folder(self._output, step) / WEIGHTS_NAME))


class _EpochLoader(DataLoader[int]):
    def set_epoch(self, epoch: int) -> None:
        """Called by the Trainer at the start of an epoch."""
        cast("LengthBatchSampler", self.batch_sampler).set_epoch(epoch)
