"""Low-rank adapters on a cross-encoder student: trained beside frozen weights, merged into them when done.

The head is trained and saved with them: a head that is left out of an adapter's checkpoint comes back random.
Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", section 4.1.
"""

import warnings
from pathlib import Path

import torch
from torch import nn

from relgrade.errors import InvalidInput, MissingExtra
from relgrade.student.cross_encoder import CrossEncoderStudent


class LoraStudent(CrossEncoderStudent):
    """A cross-encoder whose backbone carries adapters; made by `add_adapters`, saved as a plain student."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """`encoder`: the adapters; `head`: the copy of the head that is trained."""
        groups: dict[str, list[nn.Parameter]] = {"encoder": [], "head": []}
        for name, weight in self.backbone.named_parameters():
            if weight.requires_grad:
                groups["encoder" if "lora_" in name else "head"].append(weight)
        return groups

    def merged(self) -> CrossEncoderStudent:
        """The student without adapters, W + (alpha / rank) B A in the place of W; this object is used up."""
        backbone = self.backbone.merge_and_unload()
        return CrossEncoderStudent(
            backbone,
            self.tokenizer,
            template=self.template,
            settings=self.settings,
            head_names=self._head_names,
        )

    def save(self, folder: Path, *, max_shard_size: str = "5GB") -> None:
        """Refused: a folder of adapters is no student; save what `merged` returns."""
        raise InvalidInput(f"{folder}: adapters are saved merged; call merged() and save that")


def add_adapters(student: CrossEncoderStudent, *, rank: int, alpha: float, seed: int) -> LoraStudent:
    """Put adapters on every linear layer of the backbone below the head; the student given is used up.

    Args:
        student: freshly built.
        rank: of the adapters, >= 1.
        alpha: adapters count alpha / rank, > 0.
        seed: of the first weights of A; B begins at zero, so that nothing changes before the first step.

    Raises:
        MissingExtra: peft is not installed.
    """
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError as error:
        raise MissingExtra("peft", extra="train", purpose="train low-rank adapters") from error
    backbone = student.backbone
    below = {id(module) for module in backbone.base_model.modules()}
    linear = [(name, module) for name, module in backbone.named_modules() if isinstance(module, nn.Linear)]
    heads = sorted({name.split(".")[0] for name in student._head_names if id(_top(backbone, name)) not in below})
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # a whole number by its signature, any number by its use
        lora_dropout=0.0,
        target_modules=[name for name, module in linear if id(module) in below],
        modules_to_save=heads,
    )
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        # peft 0.21 asks for a property that transformers 5 has given another name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        torch.default_generator.manual_seed(seed)
        adapted = get_peft_model(backbone, config)
    # Adapters read the inputs of frozen layers; gradient checkpointing needs them to carry gradients.
    if student.settings.gradient_checkpointing:
        adapted.enable_input_require_grads()
    return LoraStudent(
        adapted,
        student.tokenizer,
        template=student.template,
        settings=student.settings,
        head_names=student._head_names,
    )


def _top(backbone: nn.Module, name: str) -> nn.Module:
    """The module directly under the backbone that a parameter belongs to."""
    found: nn.Module = getattr(backbone, name.split(".")[0])
    return found
