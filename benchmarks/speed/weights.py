"""The weights every contender runs: one small encoder under a new head of one logit, and its graphs.

The head is random, so scores mean nothing; speed does not depend on it.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from relgrade.export.graph import export_onnx, fuse
from relgrade.export.quantise import quantise

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def make_model(base: str, folder: Path) -> None:
    """Write `folder/model`, unless it is there: Hugging Face layout with its graphs.

    Args:
        base: folder or name of a BERT-like encoder of sentence-transformers/all-MiniLM-L6-v2's kind.
        folder: made; what stands there is kept, so that a second run starts at once.
    """
    if not (folder / "model/onnx/model_qint8.onnx").is_file():
        _make_model(base, folder / "model")


def _make_model(base: str, folder: Path) -> None:
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_pretrained(base, num_labels=1, attn_implementation="eager")
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    tokenizer.model_max_length = 512
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    _read_whole(folder)
    if not (folder / "special_tokens_map.json").is_file():  # flashrank reads it; newer transformers do not write it
        (folder / "special_tokens_map.json").write_text("{}", encoding="utf-8")
    graphs = folder / "onnx"
    ids = torch.randint(0, model.config.vocab_size, (2, 16))
    fp32 = graphs / "model.onnx"
    export_onnx(
        _Logits(model),
        (ids, torch.ones_like(ids), torch.zeros_like(ids)),
        fp32,
        input_names=INPUTS,
        output_names=["logits"],
        dynamic_axes={**{name: {0: "n_pairs", 1: "n_tokens"} for name in INPUTS}, "logits": {0: "n_pairs"}},
    )
    probe = {"input_ids": ids.numpy(), "attention_mask": np.ones((2, 16), np.int64)}
    probe["token_type_ids"] = np.zeros((2, 16), np.int64)
    config = model.config
    fuse(
        fp32,
        model_type=config.model_type,
        n_heads=config.num_attention_heads,
        hidden=config.hidden_size,
        probes=[probe],
    )
    quantise(fp32, graphs / "model_float.onnx")
    quantise(fp32, graphs / "model_digits.onnx", arithmetic="two-digit")
    # The int8 file people use: dynamic, one scale for all activations of a batch.
    quantize_dynamic(
        str(fp32),
        str(graphs / "model_qint8.onnx"),
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Attention"],  # tables in int8 would be fused to an operator without type ids
        extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},
    )


def _read_whole(folder: Path) -> None:
    """Take the limit and width of 128 tokens out of its files: engines that obey them read less, or pad."""
    for name, key in (
        ("tokenizer.json", "truncation"),
        ("tokenizer.json", "padding"),
        ("tokenizer_config.json", "max_length"),
    ):
        settings = json.loads((folder / name).read_text(encoding="utf-8"))
        settings.pop(key, None)
        (folder / name).write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")


def _Logits(model: Any) -> Any:  # noqa: N802, torch is imported where it is used
    from torch import nn

    class Logits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).logits

    return Logits()
