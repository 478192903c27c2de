"""From a trained student to the graphs that ship: ONNX fp32, int8, and the proof that they judge as it does."""

from relgrade.errors import MissingExtra

try:
    import onnx
    import sympy  # onnxruntime's graph optimiser imports it and does not require it
    import torch
    import transformers
except ImportError as error:
    raise MissingExtra(error.name or "torch", extra="train", purpose="export a model") from error

from relgrade.export.cross_encoder import ExportedGraphs, export_cross_encoder, measure_cross_encoder
from relgrade.export.fold import fold_two_logits
from relgrade.export.graph import Fusion, export_onnx, fuse
from relgrade.export.parity import (
    CompositionParity,
    LogitDifference,
    ParityReport,
    check_logits,
    check_parity,
    compare_logits,
    measure_parity,
)
from relgrade.export.quantise import quantise

del onnx, sympy, torch, transformers

__all__ = [
    "CompositionParity",
    "ExportedGraphs",
    "Fusion",
    "LogitDifference",
    "ParityReport",
    "check_logits",
    "check_parity",
    "compare_logits",
    "export_cross_encoder",
    "export_onnx",
    "fold_two_logits",
    "fuse",
    "measure_cross_encoder",
    "measure_parity",
    "quantise",
]
