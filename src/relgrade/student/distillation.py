"""Train a smaller encoder to give the token states of a larger one, on texts without labels.

The loss of a window is one minus the cosine of each token's state with the original's, and the same of the window's
mean: what the evidence of an interaction student is made of. One process on one device; killed and called again it goes
on from its last checkpoint, on a CPU to the same weights.
"""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from relgrade.errors import InvalidInput, OutputError, TrainingError
from relgrade.formats.journal import JsonlJournal
from relgrade.student.distillation_settings import DistillationSettings
from relgrade.student.original_states import OriginalStates, Window, batches_of, make_folder, pad_windows
from relgrade.student.smaller_encoder import build_smaller

CHECKPOINT_NAME = "checkpoint.safetensors"
JOURNAL_NAME = "journal.jsonl"
STATES_FOLDER = "states"
MAX_HELD_OUT = 40  # batches
_SHORT = 16  # hexadecimal digits that name a run in its journal

Batch = tuple[Window, ...]
OnStep = Callable[["Step"], None]


@dataclass(frozen=True, slots=True)
class Step:
    """Where a run stands."""

    step: int  # optimiser steps done
    n_more: int  # of them since the last report: 1, but for the first of a run that goes on
    n_steps: int
    token_cosine: float | None  # mean over the tokens of the held-out batches; None between measurements
    vector_cosine: float | None  # of the windows' means


@dataclass(frozen=True, slots=True)
class DistillationReport:
    """What a run reached."""

    encoder: Any  # transformers' BertModel, in evaluation mode
    n_windows: int
    n_tokens: int  # in them, special tokens included
    steps: int
    before: tuple[float, float]  # token and vector cosine on the held-out batches before training
    after: tuple[float, float]


def distil(
    original: Any,
    windows: Sequence[Window],
    settings: DistillationSettings,
    *,
    output: Path,
    states_folder: Path | None = None,
    on_step: OnStep | None = None,
) -> DistillationReport:
    """Train the smaller encoder that the settings describe.

    Args:
        original: encoder of type bert, in evaluation mode; not changed.
        windows: token ids of texts, special tokens included; repeated ones count once.
        settings: of the smaller encoder and its training.
        output: folder of this run: checkpoint and journal.
        states_folder: where the original's states lie, 2 bytes a number; several runs may share it. None: in `output`.
        on_step: is told each step.

    Raises:
        InvalidInput: fewer than two batches of windows.
        TrainingError: the original is no BERT or has too few layers, the folder belongs to another run, or the loss
            is not finite.
        OutputError: a file cannot be written.
    """
    batches = batches_of(windows, batch_tokens=settings.batch_tokens)
    train, held_out = _divide(batches, settings.held_out, seed=settings.seed)
    make_folder(output)
    store = OriginalStates(
        states_folder or output / STATES_FOLDER,
        _encode(original, settings),
        fingerprint=f"{fingerprint(original)} {settings.bf16}",
    )
    random = np.random.default_rng(settings.seed)
    chosen = sorted(random.permutation(len(train))[: settings.guess_batches].tolist())
    with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
        smaller = build_smaller(original, settings.layers, [pad_windows(train[i]) for i in chosen])
    identity = _identity(original, batches, settings)
    with JsonlJournal(output / JOURNAL_NAME, key=_row_name) as journal:
        run = _Run(smaller, store, settings, output / CHECKPOINT_NAME, identity, n_batches=len(train))
        run.resume()
        if run.row_name(0) not in journal.done:
            journal.append([run.row(0, run.measure(held_out))])
        run.train(train, held_out, journal, on_step=on_step)
        lines = (output / JOURNAL_NAME).read_text(encoding="utf-8").splitlines()
        rows = [row for row in map(json.loads, lines) if row.get("run") == run.name]
    before, after = ((row["token_cosine"], row["vector_cosine"]) for row in (rows[0], rows[-1]))
    return DistillationReport(
        smaller, sum(map(len, batches)), sum(len(w) for b in batches for w in b), run.step, before, after
    )


class _Run:
    """The weights, the optimiser and the checkpoint of a run."""

    def __init__(
        self,
        smaller: nn.Module,
        store: OriginalStates,
        settings: DistillationSettings,
        checkpoint: Path,
        identity: str,
        *,
        n_batches: int,
    ) -> None:
        smaller.eval()  # throughout: dropout would only blur what is imitated
        self.step = 0
        self.n_steps = max(1, round(settings.epochs * n_batches))
        self._encode = _encode(smaller, settings)
        self._store = store
        self._settings, self._checkpoint, self._identity = settings, checkpoint, identity
        self.name = identity[:_SHORT]
        self._weights = {name: weight for name, weight in smaller.named_parameters() if weight.requires_grad}
        self._optimiser = torch.optim.AdamW(
            self._weights.values(), lr=settings.learning_rate, weight_decay=settings.weight_decay
        )

    def row(self, step: int, values: Mapping[str, float]) -> dict[str, Any]:
        """Of the journal. A folder may hold rows of other runs, whose checkpoint was taken away."""
        return {"run": self.name, "step": step, **values}

    def row_name(self, step: int) -> str:
        """The key of this run's row of a step."""
        return _row_name(self.row(step, {}))

    def train(
        self,
        train: Sequence[Batch],
        held_out: Sequence[Batch],
        journal: JsonlJournal,
        *,
        on_step: OnStep | None,
    ) -> None:
        """All steps that are left."""
        order: list[int] = []
        epoch = -1
        total, n_total, began, told = 0.0, 0, time.monotonic(), 0
        while self.step < self.n_steps:
            if self.step // len(train) != epoch:
                epoch = self.step // len(train)
                order = np.random.default_rng((self._settings.seed, epoch)).permutation(len(train)).tolist()
            total += self._update(train[order[self.step % len(train)]])
            n_total += 1
            self.step += 1
            measured: Mapping[str, float] = {}
            if self.step % self._settings.checkpoint_steps == 0 or self.step == self.n_steps:
                measured = self.measure(held_out)
                seconds = round(time.monotonic() - began, 1)
                if self.row_name(self.step) not in journal.done:  # by a run that was killed before its checkpoint
                    journal.append([self.row(self.step, {"loss": total / n_total, **measured, "seconds": seconds})])
                self._save()  # after its row: a run that goes on from here does not measure it again
                total, n_total = 0.0, 0
            if on_step is not None:
                cosines = (measured.get("token_cosine"), measured.get("vector_cosine"))
                on_step(Step(self.step, self.step - told, self.n_steps, *cosines))
                told = self.step

    def _update(self, batch: Batch) -> float:
        rate = learning_rate(self._settings, self.step, self.n_steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        token, vector = self._cosines(batch)
        loss = (1 - token).mean() + self._settings.vector_weight * (1 - vector).mean()
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"the loss is {value} at step {self.step}; lower learning_rate")
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self._weights.values(), self._settings.max_gradient_norm)
        self._optimiser.step()
        return value

    @torch.no_grad()
    def measure(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Mean cosines over tokens and over windows."""
        token, vector = (torch.cat(each).double() for each in zip(*map(self._cosines, batches), strict=True))
        return {"token_cosine": round(float(token.mean()), 5), "vector_cosine": round(float(vector.mean()), 5)}

    def _cosines(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Of each token's states, shape (n_tokens_of_all,), and of each window's means, shape (n_windows,)."""
        ids, mask = pad_windows(batch)
        aim = self._store.of(batch).float()
        found = self._encode(ids, mask)[mask == 1]
        row = torch.repeat_interleave(torch.arange(len(batch)), mask.sum(1))
        mean, mean_aim = (torch.zeros(len(batch), aim.shape[1]).index_add(0, row, states) for states in (found, aim))
        return cosine_similarity(found, aim, dim=1), cosine_similarity(mean, mean_aim, dim=1)

    def resume(self) -> None:
        """Load the checkpoint, if there is one."""
        if not self._checkpoint.exists():
            return
        try:
            with safe_open(self._checkpoint, framework="pt") as file:
                described = file.metadata()
                if described["identity"] != self._identity:
                    raise TrainingError(
                        f"{self._checkpoint} belongs to a run with another original, other texts or settings; choose "
                        f"another output folder, or remove {self._checkpoint.parent} whole to start again"
                    )
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, no mapping
        except (SafetensorError, KeyError, TypeError) as error:
            raise TrainingError(f"{self._checkpoint} is damaged ({error}); remove it to start again") from error
        self.step = int(described["step"])
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(tensors[name])
                self._optimiser.state[weight] = {
                    "step": torch.tensor(float(self.step)),
                    "exp_avg": tensors[f"{name} mean"],
                    "exp_avg_sq": tensors[f"{name} square"],
                }

    def _save(self) -> None:
        tensors: dict[str, Tensor] = {}
        for name, weight in self._weights.items():
            state = self._optimiser.state[weight]
            found = {name: weight.detach(), f"{name} mean": state["exp_avg"], f"{name} square": state["exp_avg_sq"]}
            tensors |= {key: value.contiguous() for key, value in found.items()}
        unfinished = self._checkpoint.with_name(self._checkpoint.name + ".part")
        try:
            save_file(tensors, unfinished, metadata={"identity": self._identity, "step": str(self.step)})
            unfinished.replace(self._checkpoint)
        except OSError as error:
            raise OutputError.from_os_error(error, path=self._checkpoint) from error


def _row_name(row: Mapping[str, Any]) -> str:
    return f"{row.get('run')} {row.get('step')}"


def learning_rate(settings: DistillationSettings, step: int, n_steps: int) -> float:
    """Of the update after `step` others: rises evenly, then falls by half a cosine to the floor."""
    n_warm = round(settings.warmup * n_steps)
    if step < n_warm:
        return settings.learning_rate * (step + 1) / n_warm
    share = (step - n_warm) / max(1, n_steps - n_warm)
    return settings.learning_rate * (settings.floor + (1 - settings.floor) * (1 + math.cos(math.pi * share)) / 2)


def fingerprint(encoder: nn.Module) -> str:
    """Names an encoder by its weights."""
    digest = hashlib.sha256()
    for name, weight in sorted(encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _divide(batches: Sequence[Batch], share: float, *, seed: int) -> tuple[list[Batch], list[Batch]]:
    """Batches to train on, and some that only measure."""
    if len(batches) < 2:
        raise InvalidInput(f"distillation needs two batches of texts at least, got {len(batches)}; give more texts")
    n_held_out = min(MAX_HELD_OUT, max(1, round(share * len(batches))))
    held_out = set(np.random.default_rng((seed, len(batches))).permutation(len(batches))[:n_held_out].tolist())
    sides = ([batch for i, batch in enumerate(batches) if (i in held_out) == side] for side in (False, True))
    train, measured = sides
    return train, measured


def _encode(encoder: Any, settings: DistillationSettings) -> Callable[[Tensor, Tensor], Tensor]:
    def encode(ids: Tensor, mask: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bf16):
            states: Tensor = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
        return states.float()

    return encode


def _identity(original: Any, batches: Sequence[Batch], settings: DistillationSettings) -> str:
    free = {"original", "revision", "recipe"}  # the weights and the texts say it
    chosen = {name: value for name, value in asdict(settings).items() if name not in free}
    return hashlib.sha256(repr((fingerprint(original), batches, sorted(chosen.items()))).encode()).hexdigest()
